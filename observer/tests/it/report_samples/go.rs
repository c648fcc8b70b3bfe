//! Go servers: healthy to look at, degraded, idle, stuck, and piled up on a channel.

use super::*;

pub fn go() -> View {
    let mut view = empty();
    let mut server = target(4242, "server", "go", Known::Known("1.26.2".to_owned()));
    server.evidence = vec![
        ".go.buildinfo: go1.26.2".to_owned(),
        "runtime.allgs in .symtab".to_owned(),
    ];
    server.tasks.seen = 214;
    server.threads = 14;
    view.targets = vec![server];

    let pipe_site = user(
        0x4a_1000,
        "main.readCommands",
        "/src/server/commands.go",
        88,
    );
    let mut pipe = entry(
        Cause::Pipe,
        "read",
        pipe_site.clone(),
        TaskKind::Goroutine,
        3,
        9_800 * MS,
    );
    pipe.resource = Some(Resource {
        kind: "pipe",
        fd: Some(7),
        state: Some("pipe:[81237]".to_owned()),
        ..Resource::default()
    });
    pipe.stack = kernel(&[
        "bpf_trace_run4",
        "__schedule",
        "schedule",
        "anon_pipe_read",
        "vfs_read",
        "ksys_read",
        "__x64_sys_read",
        "do_syscall_64",
        "entry_SYSCALL_64_after_hwframe",
    ]);
    pipe.stack.extend([
        runtime(0x40_1000, "internal/runtime/syscall.Syscall6"),
        runtime(0x40_1100, "syscall.read"),
        runtime(0x40_1200, "os.(*File).Read"),
        pipe_site,
        user(0x4a_2000, "main.main.func3", "/src/server/main.go", 41),
        runtime(0x40_9000, "runtime.goexit"),
    ]);
    pipe.tasks[0].created_by = Some("main.main".to_owned());
    pipe.wakers = vec![Waker {
        task: "thread 4300 (feeder)".to_owned(),
        site: None,
        count: 2,
    }];
    pipe.unfinished = Unfinished {
        count: 1,
        oldest_ns: 3_100 * MS,
        lower_bound: false,
    };

    let fsync_site = user(
        0x4a_3000,
        "main.(*clickLog).Append",
        "/src/server/clicks.go",
        42,
    );
    let mut fsync = entry(
        Cause::Fsync,
        "fsync",
        fsync_site.clone(),
        TaskKind::Goroutine,
        1832,
        21_400 * MS,
    );
    fsync.resource = Some(file("/data/clicks.log", 17));
    fsync.stack = kernel(&[
        "jbd2_log_wait_commit",
        "ext4_sync_file",
        "do_fsync",
        "__x64_sys_fsync",
        "do_syscall_64",
    ]);
    fsync.stack.extend([
        runtime(0x40_1000, "syscall.Syscall"),
        runtime(0x40_1300, "internal/poll.(*FD).Fsync"),
        runtime(0x40_1400, "os.(*File).Sync"),
        fsync_site,
        user(0x4a_4000, "main.resolve", "/src/server/http.go", 120),
        runtime(0x40_5000, "net/http.HandlerFunc.ServeHTTP"),
        runtime(0x40_5100, "net/http.serverHandler.ServeHTTP"),
        runtime(0x40_5200, "net/http.(*conn).serve"),
        runtime(0x40_9000, "runtime.goexit"),
    ]);
    fsync.tasks = (0..8_u64)
        .map(|i| {
            let mut one = task(
                TaskKind::Goroutine,
                90 + i,
                None,
                20 - i,
                (300 - i * 7) * MS,
                31 * MS,
            );
            one.created_by = Some("net/http.(*Server).Serve".to_owned());
            one
        })
        .collect();
    fsync.tasks_total = 212;
    fsync.p50_ns = 4_210_000;
    fsync.p99_ns = 8_200_000;
    fsync.max_ns = 31 * MS;
    fsync.run_queue_ns = 120 * MS;
    fsync.wakers = vec![
        Waker {
            task: "kernel thread 211 (jbd2/vda1-8)".to_owned(),
            site: Some("jbd2_journal_commit_transaction".to_owned()),
            count: 1790,
        },
        Waker {
            task: "timer or network interrupt".to_owned(),
            site: None,
            count: 42,
        },
    ];

    let recv_site = user(
        0x4a_5000,
        "main.(*legacyClient).call",
        "/src/server/legacy.go",
        210,
    );
    let mut recv = entry(
        Cause::Recv,
        "recvfrom",
        recv_site,
        TaskKind::Goroutine,
        12,
        1_200 * MS,
    );
    recv.resource = Some(socket("10.0.0.5:43122", "10.0.0.9:5432", 9));
    let mut thread = entry(
        Cause::Futex,
        "futex",
        nameless(
            0x7f12_3456_7890,
            "librdkafka.so.1",
            "no symbol: the library is stripped",
        ),
        TaskKind::Thread,
        90,
        9_900 * MS,
    );
    thread.tasks[0].name = Some("rdk:main".to_owned());
    thread.resource = Some(Resource {
        kind: "futex",
        address: Some(0x7f12_0000_1048),
        ..Resource::default()
    });

    view.blocking = vec![fsync, thread, pipe, recv];
    let mut view = with_causes(view);
    account(&mut view, 1937, 88_210, &[]);
    view.completeness.stacks_lost = [("stack_map_collision", 3)].into();
    view.overhead.target_cpu_share = Some(0.004);
    view
}

pub fn degraded() -> View {
    let mut view = go();
    view.targets[0].degraded = Some(Reason::new(
        "Go 1.31 is not in the tables and the self-check of the offsets failed (m.procid was not the thread's id)",
    ));
    view.targets[0].version = Known::Known("1.31.0".to_owned());
    view.targets[0].ended = Some("killed by signal 9, 7.2 s after the start".to_owned());
    view.targets.push(target(
        4300,
        "feeder",
        "native",
        Known::unknown("a native program"),
    ));
    view.blocking.retain(|entry| entry.cause != Cause::Pipe);
    for entry in &mut view.blocking {
        for one in &mut entry.tasks {
            one.task.kind = TaskKind::Thread;
            one.name = Some("server".to_owned());
            one.created_by = None;
        }
    }
    view.blocking[2].target = 1;
    let mut view = with_causes(view);
    account(&mut view, 1937, 8_000, &[("inflight_map_full", 812)]);
    view.completeness.unattributed_ns = 31 * S;
    view
}

pub fn idle() -> View {
    let mut view = empty();
    view.targets = vec![target(
        4242,
        "server",
        "go",
        Known::Known("1.26.2".to_owned()),
    )];
    account(&mut view, 0, 0, &[]);
    view
}

pub fn unfinished() -> View {
    let mut view = empty();
    let mut server = target(4242, "server", "go", Known::Known("1.26.2".to_owned()));
    server.tasks.seen = 4;
    view.targets = vec![server];
    let site = user(0x4a_6000, "main.lockAll", "/src/server/lock.go", 12);
    let mut flock = entry(Cause::FileIo, "flock", site, TaskKind::Goroutine, 3, 30 * S);
    flock.resource = Some(file("/var/lock/server.lock", 11));
    flock.tasks = (0..3_u64)
        .map(|i| task(TaskKind::Goroutine, 19 + i, None, 1, 10 * S, 10 * S))
        .collect();
    flock.tasks_total = 3;
    flock.unfinished = Unfinished {
        count: 3,
        oldest_ns: 12_305 * S,
        lower_bound: true,
    };
    view.blocking = vec![flock];
    let mut view = with_causes(view);
    account(&mut view, 0, 12, &[]);
    view
}

pub fn pile_up() -> View {
    let mut view = go();
    view.targets[0].tasks = TaskCounts {
        seen: 5_214,
        running: Some(2),
        runnable: Some(11),
        waiting: Some(5_190),
        in_syscall: Some(11),
    };
    let resource = Resource {
        kind: "channel",
        address: Some(0xc0_0012_3400),
        state: Some("0 of 0 buffered, senders wait".to_owned()),
        ..Resource::default()
    };
    view.census = vec![
        CensusGroup {
            target: 0,
            state: "waiting".to_owned(),
            wait_reason: Some("chan send".to_owned()),
            cause: Some(Cause::Channel),
            count: 5_000,
            mean: 4_987.4,
            max: 5_000,
            share: 0.957,
            share_error: Some(0.004),
            nature: Nature::Blocked,
            oldest_ns: Some(9_800 * MS),
            site: Some("main.resolve (/src/server/http.go:131)".to_owned()),
            stack: vec![
                runtime(0x40_8000, "runtime.gopark"),
                user(0x4a_4000, "main.resolve", "/src/server/http.go", 131),
            ],
            created_by: Some("net/http.(*Server).Serve".to_owned()),
            resource: Some(resource),
            place: None,
            fds: Vec::new(),
            fds_whole: true,
            connections: Vec::new(),
            sample_ids: vec![90, 91, 92],
        },
        CensusGroup {
            target: 0,
            state: "waiting".to_owned(),
            wait_reason: Some("IO wait".to_owned()),
            cause: Some(Cause::NetWait),
            count: 190,
            mean: 190.0,
            max: 190,
            share: 0.036,
            share_error: Some(0.003),
            nature: Nature::Blocked,
            oldest_ns: Some(10 * S),
            site: Some("net/http.(*conn).serve".to_owned()),
            stack: Vec::new(),
            created_by: Some("net/http.(*Server).Serve".to_owned()),
            resource: None,
            place: None,
            fds: Vec::new(),
            fds_whole: true,
            connections: Vec::new(),
            sample_ids: vec![33],
        },
    ];
    view.census.push(CensusGroup {
        wait_reason: Some("GC worker (idle)".to_owned()),
        count: 4,
        mean: 4.0,
        max: 4,
        share: 0.001,
        share_error: None,
        nature: Nature::System,
        oldest_ns: None,
        site: Some("runtime.gcBgMarkWorker".to_owned()),
        created_by: None,
        sample_ids: Vec::new(),
        ..view.census[1].clone()
    });
    view.targets[0].scheduler = Some(Scheduler {
        slots: Some(2),
        runnable_mean: 7.25,
        runnable_max: 31,
        queued_share: Some(0.62),
        locked: 1,
        running_mean: 1.9,
        in_syscall_mean: 3.2,
        oldest_ready_ns: Some(14 * MS),
        inside: Some(Slots {
            samples: 98,
            idle_mean: 0.1,
            starved_share: 0.62,
            shared_queue_mean: 2.5,
            shared_queue_max: 17,
            slot_queues_mean: 4.5,
            threads: 14,
            idle_threads_mean: 7.0,
            spinning_threads_mean: 0.1,
        }),
        netpoll: Some(Netpoll {
            waiting_share: 0.38,
            since_mean_ns: Some(4 * MS),
            since_max_ns: Some(31 * MS),
        }),
        delay: Some(RunDelay {
            count: 18_344,
            p50_ns: Some(32_768),
            p99_ns: Some(14_680_064),
            max_ns: Some(33_554_432),
            long_share: Some(0.12),
        }),
        unknown_reason: None,
    });
    view.meetings = vec![pile(&view)];
    let node = |id: &str, kind, label: &str| GraphNode {
        id: id.to_owned(),
        kind,
        label: label.to_owned(),
    };
    let edge = |from: &str, to: &str, kind, weight, share, evidence: &str| GraphEdge {
        from: from.to_owned(),
        to: to.to_owned(),
        kind,
        weight,
        share,
        evidence: evidence.to_owned(),
    };
    view.wait_graph = WaitGraph {
        nodes: vec![
            node("g1", "tasks", "4987 goroutines at main.resolve http.go:131"),
            node("c1", "channel", "channel 0xc000123400 (unbuffered)"),
            node("g2", "tasks", "goroutine 18 (main.consume clicks.go:60)"),
            node("f1", "file", "file /data/clicks.log"),
        ],
        edges: vec![
            edge(
                "g1",
                "c1",
                "waits",
                4_987,
                None,
                "listed as waiting to send: mean 4987.4 over 100 samples",
            ),
            edge(
                "g2",
                "f1",
                "waits",
                1,
                Some(0.83),
                "fsync at main.(*clickLog).Append clicks.go:42, measured",
            ),
            edge(
                "g2",
                "c1",
                "consumes",
                1,
                None,
                "its frame holds the address in 99 of 99 samples, and that function receives",
            ),
        ],
        deadlock_candidates: Vec::new(),
    };
    view.completeness.census = Some(CensusCost {
        samples: 100,
        bytes_read: 48_123_456,
        torn: 17,
        max_ns: 9 * MS,
        cpu_ns: 812 * MS,
    });
    view
}

/// Handlers that wait to send; their receiver waits for the disk.
fn pile(view: &View) -> Meeting {
    let fsync = &view.blocking[0];
    Meeting {
        target: 0,
        kind: WaitKind::Channel,
        address: 0xc0_0012_3400,
        len: Some(0),
        capacity: Some(0),
        samples: 100,
        sides: vec![Side {
            direction: Some(Direction::Send),
            last: 5_000,
            mean: 4_987.4,
            max: 5_000,
            oldest_ns: Some(9_800 * MS),
            sites: vec![SideSite {
                site: Known::Known(user(0x4a_4000, "main.resolve", "/src/server/http.go", 131)),
                created_by: Some("net/http.(*Server).Serve".to_owned()),
                mean: 4_987.4,
            }],
            sample_ids: vec![90, 91, 92],
            stuck: Vec::new(),
        }],
        users: vec![User {
            direction: Some(Direction::Receive),
            ids: vec![18],
            count: 1,
            function: Known::Known(user(0x4a_7000, "main.consume", "/src/server/clicks.go", 60)),
            evidence: UserEvidence::StackRefers,
            seen: (99, 99),
            doing: vec![Doing {
                what: "fsync".to_owned(),
                site: fsync.site.clone(),
                resource: fsync.resource.clone(),
                share: 0.83,
                total_ns: Some(8_300 * MS),
                source: Source::Kernel,
                active: false,
                peer_target: None,
                fds: vec![17],
                fds_left_out: 0,
                connections: Vec::new(),
            }],
        }],
        users_cut: false,
        conclusive: true,
        doubts: Vec::new(),
    }
}
