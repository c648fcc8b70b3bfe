//! A tokio service with a task that computes in its polls: as samples see it, and as probes do.

use super::*;
use observer::model::cpu::{CpuSite, CpuUse, LongPoll, TaskSamples};
use observer::model::polls::{Culprit, Followed, LongTask, PollType, Spread, Victim, Waiting};
use observer::model::task::TaskFacts;
use observer::model::workers::{Worker, WorkerGroup};

fn facts(name: &str) -> TaskFacts {
    TaskFacts {
        name: Known::Known(name.to_owned()),
        label: None,
        scheduler: Some("multi_thread"),
        spawned_at: None,
    }
}

fn spread(count: u64, total_ns: u64, p99_ns: u64, max_ns: u64) -> Spread {
    Spread {
        count,
        total_ns,
        p50_ns: total_ns / count.max(1),
        p99_ns,
        max_ns,
    }
}

const fn tokio_task(id: u64) -> TaskRef {
    TaskRef {
        kind: TaskKind::TokioTask,
        id,
    }
}

/// What samples tell.
pub fn sampled() -> View {
    let mut view = empty();
    let mut app = target(5151, "demo-app", "tokio", Known::Known("1.54.1".to_owned()));
    app.tasks.seen = 40;
    view.targets = vec![app];
    let site = user(
        0x55_0000_1000,
        "demo_app::report::render",
        "demo-app/src/report.rs",
        88,
    );
    let mut hog = entry(
        Cause::LongPoll,
        "",
        site.clone(),
        TaskKind::TokioTask,
        61,
        2_745 * MS,
    );
    hog.syscall = None;
    hog.legality = Legality::InPoll;
    hog.legality_evidence = Some("305 ticks of a clock of 99 Hz".to_owned());
    hog.p50_ns = 45 * MS;
    hog.p99_ns = 51 * MS;
    hog.max_ns = 51 * MS;
    hog.tasks = vec![task(
        TaskKind::TokioTask,
        17,
        Some("demo_app::report::{async_fn_env#0}"),
        61,
        2_745 * MS,
        51 * MS,
    )];
    hog.tasks_total = 1;
    hog.long_poll = Some(LongPoll {
        at_least_ns: 3_012 * MS,
        at_most_ns: 3_671 * MS,
        longest_at_least_ns: 57 * MS,
        longest_at_most_ns: Some(66 * MS),
        blocked_ns: 140 * MS,
        run_queue_ns: 127 * MS,
        samples: 305,
        cores: 0.308,
    });
    hog.stack = vec![
        site.clone(),
        runtime(0x55_0001_0000, "tokio::runtime::task::raw::poll"),
    ];
    view.blocking = vec![hog];
    view.causes = vec![CauseShare {
        cause: Cause::LongPoll,
        share: 1.0,
        total_ns: 2_745 * MS,
        representative: 0,
    }];
    let samples = |id, samples| TaskSamples {
        task: tokio_task(id),
        name: None,
        samples,
    };
    view.cpu = Some(CpuUse {
        hz: 99,
        samples: 402,
        unplaced: 0,
        sites: vec![
            CpuSite {
                target: 0,
                site: Known::Known(site),
                stack: Vec::new(),
                frames_left_out: 0,
                tasks: vec![samples(17, 305)],
                tasks_total: 1,
                samples: 305,
                in_kernel: 3,
                in_poll: 305,
                cores: 0.308,
            },
            CpuSite {
                target: 0,
                site: Known::unknown("no application code on the stack"),
                stack: vec![runtime(0x55_0002_0000, "mio::poll::Poll::poll")],
                frames_left_out: 0,
                tasks: vec![samples(2, 60), samples(3, 37)],
                tasks_total: 2,
                samples: 97,
                in_kernel: 90,
                in_poll: 0,
                cores: 0.098,
            },
        ],
        sites_total: 2,
    });
    let worker = |tid, on_cpu_ns, held_ns| Worker {
        tid,
        name: Some("tokio-rt-worker".to_owned()),
        on_cpu_ns,
        held_ns,
        run_queue_ns: 127 * MS,
        idle_ns: 10 * S - on_cpu_ns - held_ns - 127 * MS,
        other_ns: 0,
    };
    view.workers = vec![WorkerGroup {
        target: 0,
        kind: Known::Known("multi_thread"),
        workers: vec![
            worker(5153, 3_100 * MS, 140 * MS),
            worker(5154, 900 * MS, 0),
        ],
        former: vec![worker(5160, 20 * MS, 900 * MS)],
        all_held_ns: 212 * MS,
        all_held_longest_ns: 49 * MS,
        all_held_count: 7,
    }];
    view
}

/// What probes tell besides.
pub fn followed() -> View {
    let mut view = sampled();
    view.observer.tier = String::from("sched+runtime");
    let connection = "axum::serve::handle_connection<tokio::net::TcpListener>::{closure}";
    view.followed = vec![Followed {
        target: 0,
        after_ns: 0,
        duration_ns: 6_400 * MS,
        hits: 214_000,
        ended: Some(
            "the probes were hit 33412 times per second, 20000 are allowed (--max-hits): they were taken out"
                .to_owned(),
        ),
        delays_ns: 6_400 * MS,
        delays_ended: None,
        types: vec![
            PollType {
                facts: facts("demo_app::report::{async_fn_env#0}"),
                polls: spread(62, 3_210 * MS, 58 * MS, 59 * MS),
                delays: spread(62, 3 * MS, 120_000, 180_000),
            },
            PollType {
                facts: facts(connection),
                polls: spread(101_233, 811 * MS, 41_000, 2 * MS),
                delays: spread(99_800, 9_420 * MS, 44 * MS, 58 * MS),
            },
        ],
        long: vec![LongTask {
            task: tokio_task(17),
            facts: facts("demo_app::report::{async_fn_env#0}"),
            polls: spread(62, 3_210 * MS, 58 * MS, 59 * MS),
            cpu_ns: 2_900 * MS,
            lock_ns: 30 * MS,
            blocked_ns: 130 * MS,
            run_queue_ns: 150 * MS,
            open: 0,
        }],
        long_total: 1,
        waiting: Known::Known(Waiting {
            count: 12,
            oldest_ns: 37 * MS,
        }),
    }];
    let victim = |id, behind| Victim {
        target: 0,
        task: tokio_task(id),
        facts: facts(connection),
        delays: spread(31, 900 * MS, 57 * MS, 58 * MS),
        behind,
        overlap_ns: 880 * MS,
    };
    let hog = || (tokio_task(17), facts("demo_app::report::{async_fn_env#0}"));
    view.victims = vec![
        victim(20, Culprit::Poll(hog().0, hog().1)),
        victim(21, Culprit::Elsewhere(hog().0, hog().1)),
        victim(22, Culprit::NoCpu),
        victim(23, Culprit::Nothing),
    ];
    view.victims_total = 19;
    view
}
