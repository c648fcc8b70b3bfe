//! A Go server under the tier `syscalls`.

use super::go::go;
use super::*;
use observer::model::calls::{CallRow, NetWait, SyscallCost, Syscalls};

pub fn calls() -> View {
    let mut view = go();
    view.observer.tier = String::from("sched+syscalls");
    let shares = |n: u64, total_ns: u64| -> Vec<TaskShare> {
        (0..n)
            .map(|i| TaskShare {
                task: TaskRef {
                    kind: TaskKind::Goroutine,
                    id: 18 + i,
                },
                name: None,
                name_unknown: None,
                scheduler: None,
                created_by: None,
                count: 40,
                total_ns: total_ns / (i + 1),
                max_ns: total_ns / 30,
            })
            .collect()
    };
    let row = |syscall: &str, count, total_ns, errors: &[(&str, u64)], tasks| CallRow {
        target: 0,
        syscall: syscall.to_owned(),
        count,
        errors: errors
            .iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect(),
        total_ns,
        p50_ns: total_ns / count,
        p99_ns: total_ns / count * 3,
        max_ns: total_ns / count * 9,
        idle_count: 0,
        idle_ns: 0,
        unfinished: Unfinished::default(),
        tasks: shares(tasks, total_ns),
        tasks_total: tasks,
    };
    let mut futex = row("futex", 12, 3 * MS, &[("ETIMEDOUT", 31)], 1);
    futex.idle_count = 2_931;
    futex.idle_ns = 31 * S;
    let mut read = row(
        "read",
        8_412,
        31 * MS,
        &[("EAGAIN", 4_100), ("EPIPE", 2)],
        20,
    );
    read.tasks_total = 213;
    view.syscalls = Some(Syscalls {
        calls: vec![
            row("fsync", 1_832, 8 * S, &[], 3),
            read,
            futex,
            row("nanosleep", 2, MS, &[("interrupted", 1)], 1),
        ],
        net_waits: vec![
            NetWait {
                target: 0,
                syscall: "read".to_owned(),
                resource: Some(Resource {
                    kind: "socket",
                    peer: Some("10.0.0.7:5432".to_owned()),
                    state: Some("tcp established".to_owned()),
                    ..Resource::default()
                }),
                descriptors: 12,
                site: Known::Known(user(
                    0x4a_2000,
                    "main.(*Store).query",
                    "/src/server/store.go",
                    112,
                )),
                count: 4_100,
                total_ns: 61 * S,
                p50_ns: 14 * MS,
                p99_ns: 41 * MS,
                max_ns: 800 * MS,
                unfinished: Unfinished {
                    count: 2,
                    oldest_ns: 7 * S,
                    lower_bound: false,
                },
                tasks: shares(4, 20 * S),
                tasks_total: 12,
            },
            NetWait {
                target: 0,
                syscall: "accept4".to_owned(),
                resource: None,
                descriptors: 1,
                site: Known::unknown("the stack could not be read"),
                count: 1,
                total_ns: S,
                p50_ns: S,
                p99_ns: S,
                max_ns: S,
                unfinished: Unfinished::default(),
                tasks: Vec::new(),
                tasks_total: 0,
            },
        ],
        entered: 13_300,
        summed: 13_190,
        unfinished: 9,
        ended: 1,
        before: 4,
        folded: 7,
        net_waits_untimed: 23,
        lost: BTreeMap::from([("aggregate_map_full", 100)]),
        cost: Some(SyscallCost {
            without_ns: 109.24,
            with_ns: 257.0,
        }),
    });
    view
}
