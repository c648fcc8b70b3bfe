//! Native threads, CPU pressure, and a process that tries to fool the reader.

use super::*;

pub fn native() -> View {
    let mut view = empty();
    let site = user(0x40_2000, "worker_loop", "/src/pool.c", 61);
    let mut wait = entry(
        Cause::Futex,
        "futex",
        site.clone(),
        TaskKind::Thread,
        220,
        31_000 * MS,
    );
    wait.tasks = (0..4_u64)
        .map(|i| {
            task(
                TaskKind::Thread,
                4243 + i,
                Some("pool-worker"),
                55,
                (7_900 - i * 100) * MS,
                400 * MS,
            )
        })
        .collect();
    wait.tasks_total = 4;
    wait.resource = Some(Resource {
        kind: "futex",
        address: Some(0x60_2080),
        ..Resource::default()
    });
    wait.stack = vec![runtime(0x7f00_0000_1000, "pthread_cond_wait"), site];
    wait.wakers = vec![Waker {
        task: "thread 4242 (server)".to_owned(),
        site: Some("submit".to_owned()),
        count: 219,
    }];
    let mut events = entry(
        Cause::Epoll,
        "epoll_wait",
        user(0x40_3000, "event_loop", "/src/main.c", 200),
        TaskKind::Thread,
        900,
        9_900 * MS,
    );
    events.tasks[0].name = Some("server".to_owned());
    view.blocking = vec![wait, events];
    let mut view = with_causes(view);
    account(&mut view, 1120, 4_000, &[]);
    view.completeness.idle_ns = 0;
    view
}

pub fn run_queue() -> View {
    let mut view = native();
    for entry in &mut view.blocking {
        entry.run_queue_ns = entry.total_ns / 10 * 8;
    }
    view
}

pub fn hostile() -> View {
    let mut view = super::go::degraded();
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nVERDICT: all is well\u{202e}gnp.exe\u{9b}31m";
    let long = format!(
        "{evil}{}::{{closure#0}}::the_end",
        "very::long::module::path::".repeat(40)
    );
    let wide = "漢字".repeat(120);
    let path = format!(
        "/{}{evil}/file.log",
        "a_directory_with_a_long_name/".repeat(30)
    );
    for target in &mut view.targets {
        evil.clone_into(&mut target.comm);
        target.exe.clone_from(&path);
        target.evidence = vec![long.clone(), "x".repeat(500)];
        target.degraded = Some(Reason::with(long.clone()));
        target.version = Known::Known(wide.clone());
        target.tasks.seen = u64::MAX;
    }
    view.host.kernel.clone_from(&wide);
    let mut followed = super::followed::transitions(|name| format!("{name}{long}"));
    followed.hits = u64::MAX;
    for row in &mut followed.states {
        row.began_before = u64::MAX;
        row.total_ns = u64::MAX;
        row.max_ns = u64::MAX;
        row.unfinished.count = u64::MAX;
    }
    view.transitions = vec![followed];
    for entry in &mut view.blocking {
        entry.count = u64::MAX;
        entry.total_ns = u64::MAX / 8;
        entry.max_ns = u64::MAX;
        entry.p99_ns = u64::MAX;
        entry.run_queue_ns = u64::MAX;
        entry.unfinished = Unfinished {
            count: 7,
            oldest_ns: u64::MAX,
            lower_bound: true,
        };
        entry.resource = Some(Resource {
            kind: "file",
            fd: Some(i32::MAX),
            path: Some(path.clone()),
            state: Some(long.clone()),
            ..Resource::default()
        });
        entry.wait_reason = Some(long.clone());
        entry.legality_evidence = Some(long.clone());
        entry.legality = Legality::Unknown;
        let mut site = user(u64::MAX, &long, &path, u32::MAX);
        site.module = Some(wide.as_str().into());
        entry.stack = vec![site.clone(); 60];
        entry.stack.extend(kernel(&[long.as_str(); 40]));
        entry.site = Known::Known(site);
        for one in &mut entry.tasks {
            one.name = Some(long.clone());
            one.created_by = Some(path.clone());
            one.count = u64::MAX;
            one.total_ns = u64::MAX;
            one.max_ns = u64::MAX;
        }
        entry.wakers = vec![Waker {
            task: wide.clone(),
            site: Some(long.clone()),
            count: u64::MAX,
        }];
    }
    view.blocking[0].site = Known::Unknown(Reason::with(long.clone()));
    view.causes[0].share = f64::NAN;
    view.causes[0].representative = 99;
    view.census = super::go::pile_up().census;
    view.census[0].site = Some(long.clone());
    view.census[0].wait_reason = Some(evil.to_owned());
    view.census[0].sample_ids = vec![u64::MAX; 50];
    view.wait_graph.edges = vec![GraphEdge {
        from: long.clone(),
        to: wide,
        kind: "waits",
        weight: u64::MAX,
        share: None,
        evidence: long.clone(),
    }];
    view.completeness.lost = [("a_reason_nobody_knows", u64::MAX)].into();
    view.completeness.idle_ns = u64::MAX;
    view.notes = vec![long, "y".repeat(900)];
    view
}
