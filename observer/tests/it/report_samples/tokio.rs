//! A tokio service that blocks in its polls, beside a library with threads of its own.

use super::*;

pub fn tokio() -> View {
    let mut view = empty();
    let mut app = target(5151, "demo-app", "tokio", Known::Known("1.54.1".to_owned()));
    "/srv/target/release/demo-app".clone_into(&mut app.exe);
    app.evidence = vec![
        "panic path tokio-1.54.1/src/runtime".to_owned(),
        "CONTEXT at fs-0x88, self-checked".to_owned(),
    ];
    app.tasks.seen = 231;
    view.targets = vec![app];

    let site = user(
        0x55_0000_1000,
        "demo_app::clicks::append_click_log",
        "demo-app/src/clicks.rs",
        42,
    );
    let mut fsync = entry(
        Cause::Fsync,
        "fsync",
        site.clone(),
        TaskKind::TokioTask,
        1832,
        9_100 * MS,
    );
    fsync.legality = Legality::InPoll;
    fsync.legality_evidence = Some("task id set and EnterRuntime is Entered".to_owned());
    fsync.resource = Some(file("/data/clicks.log", 17));
    fsync.p50_ns = 4_210_000;
    fsync.p99_ns = 8_200_000;
    fsync.max_ns = 31 * MS;
    fsync.tasks = (0..6_u64)
        .map(|i| {
            let mut one = task(
                TaskKind::TokioTask,
                1200 + i,
                Some("axum::serve::handle_connection<tokio::net::TcpListener>::{closure}"),
                12 - i,
                (80 - i * 3) * MS,
                31 * MS,
            );
            one.created_by = Some("axum-0.8.4/src/serve/mod.rs:374".to_owned());
            one
        })
        .collect();
    fsync.tasks_total = 212;
    fsync.stack = kernel(&["jbd2_log_wait_commit", "ext4_sync_file", "do_fsync"]);
    fsync.stack.extend([
        runtime(0x7f00_0000_1000, "fsync"),
        runtime(0x55_0000_0100, "std::sys::fs::unix::File::fsync"),
        runtime(0x55_0000_0200, "std::fs::File::sync_all"),
        site,
        user(
            0x55_0000_2000,
            "demo_app::routes::resolve::{closure#0}",
            "demo-app/src/routes.rs",
            77,
        ),
    ]);
    fsync.stack.extend((0..22).map(|i| {
        runtime(
            0x55_0001_0000 + i,
            "tokio::runtime::task::harness::Harness<T,S>::poll",
        )
    }));
    fsync.wakers = vec![Waker {
        task: "kernel thread 211 (jbd2/vda1-8)".to_owned(),
        site: None,
        count: 1832,
    }];

    let lock_site = user(
        0x55_0000_3000,
        "demo_app::links::LinkTable::insert",
        "demo-app/src/links.rs",
        130,
    );
    let mut lock = entry(
        Cause::Futex,
        "futex",
        lock_site,
        TaskKind::TokioTask,
        401,
        3_050 * MS,
    );
    lock.legality = Legality::InPoll;
    lock.resource = Some(Resource {
        kind: "futex",
        address: Some(0x55_5555_1234),
        ..Resource::default()
    });
    lock.wakers = vec![Waker {
        task: "tokio task 1207".to_owned(),
        site: Some("demo_app::links::LinkTable::snapshot".to_owned()),
        count: 388,
    }];

    let legal_site = user(
        0x55_0000_4000,
        "demo_app::export::write_archive",
        "demo-app/src/export.rs",
        19,
    );
    let mut legal = entry(
        Cause::FileIo,
        "write",
        legal_site,
        TaskKind::TokioTask,
        40,
        8_000 * MS,
    );
    legal.legality = Legality::MayBlock;
    legal.legality_evidence = Some("runs on the blocking pool".to_owned());
    legal.resource = Some(file("/data/archive.tar", 21));

    let mut poll = entry(
        Cause::Epoll,
        "poll",
        user(
            0x7f00_0000_5000,
            "rd_kafka_broker_serve",
            "rdkafka_broker.c",
            3211,
        ),
        TaskKind::Thread,
        96,
        38_000 * MS,
    );
    poll.tasks[0].name = Some("rdk:broker1".to_owned());
    view.blocking = vec![poll, fsync, legal, lock];
    let mut view = with_causes(view);
    account(&mut view, 2369, 12_000, &[]);
    view.notes = vec![
        "user stacks end early in 3 % of the waits: no frame pointers in librdkafka.so.1"
            .to_owned(),
    ];
    view
}

pub fn allowed() -> View {
    let mut view = tokio();
    view.blocking
        .retain(|entry| entry.legality == Legality::MayBlock);
    let mut view = with_causes(view);
    account(&mut view, 40, 100, &[]);
    view
}

/// A service under load in which nothing is wrong, with threads of a library that wait for work.
pub fn healthy() -> View {
    let mut view = tokio();
    view.window.start += Duration::from_secs(6);
    view.window.duration_ns = 4 * S;
    let mut ready = view.blocking.remove(1);
    (ready.cause, ready.syscall, ready.resource) = (Cause::RunQueue, None, None);
    ready.site = Known::unknown("no stack is taken of a thread that is ready to run");
    ready.stack = Vec::new();
    ready.wakers = Vec::new();
    (ready.count, ready.total_ns, ready.run_queue_ns) = (2_577, 186 * MS, 186 * MS);
    (ready.p50_ns, ready.p99_ns, ready.max_ns) = (49_000, 268_000, 566_000);
    ready.tasks_total = 52;
    for one in &mut ready.tasks {
        (one.count, one.total_ns, one.max_ns) = (60, 4 * MS, 566_000);
    }
    let pool_site = user(
        0x55_0000_7000,
        "cnd_timedwait_ms",
        "src/tinycthread_extra.c",
        108,
    );
    let mut pool = entry(
        Cause::Futex,
        "futex",
        pool_site,
        TaskKind::Thread,
        66,
        24 * S,
    );
    pool.max_ns = S;
    pool.tasks = (0..6_u64)
        .map(|i| task(TaskKind::Thread, 81 + i, Some("rdk:main"), 11, 4 * S, S))
        .collect();
    pool.tasks_total = 6;
    let mut events = view.blocking.remove(0);
    (events.total_ns, events.p50_ns, events.p99_ns) = (3_900 * MS, 5 * MS, 20 * MS);
    view.blocking = vec![pool, events, ready];
    let mut view = with_causes(view);
    account(&mut view, 60, 2_700, &[]);
    view
}
