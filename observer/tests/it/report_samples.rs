//! Made-up sessions for the report tests. The figures are made up, the shapes are real.

pub mod lists;

use observer::model::task::Legality;
use observer::model::view::{
    Blocking, CauseShare, CensusCost, CensusGroup, Completeness, GraphEdge, GraphNode, Host,
    ObserverInfo, Overhead, Target, TaskCounts, TaskShare, Unfinished, View, WaitGraph, Waker,
    Window,
};
use observer::model::{Cause, Frame, FrameKind, Known, Reason, Resource, TaskKind, TaskRef};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

pub fn samples() -> Vec<(&'static str, View)> {
    vec![
        ("go", go()),
        ("tokio", tokio()),
        ("native", native()),
        ("degraded", degraded()),
        ("empty", empty()),
        ("idle", idle()),
        ("unfinished", unfinished()),
        ("run_queue", run_queue()),
        ("allowed", allowed()),
        ("pile_up", pile_up()),
        ("hostile", hostile()),
    ]
}

pub fn empty() -> View {
    let end = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_254_866_123);
    View {
        generated_at: end + Duration::from_millis(40),
        window: Window {
            start: end - Duration::from_secs(10),
            end,
            duration_ns: 10 * S,
        },
        host: Host {
            kernel: "6.18.5".to_owned(),
            arch: "x86_64".to_owned(),
            cpus: 2,
        },
        observer: ObserverInfo {
            version: "0.1.0".to_owned(),
            bytecode_sha256: "9f".repeat(32),
            tier: "sched".to_owned(),
        },
        targets: vec![target(
            4242,
            "server",
            "native",
            Known::unknown("a native program"),
        )],
        blocking: Vec::new(),
        causes: Vec::new(),
        census: Vec::new(),
        wait_graph: WaitGraph::default(),
        completeness: Completeness::default(),
        overhead: Overhead {
            target_cpu_share: None,
            observer_cpu_ns: 120 * MS,
            bpf_run_ns: Some(3_100_000),
            bpf_run_count: Some(12_345),
            rss_bytes: 32_500_000,
        },
        notes: Vec::new(),
    }
}

fn target(pid: u32, comm: &str, runtime: &'static str, version: Known<String>) -> Target {
    Target {
        pid,
        start_time: 8_123_456,
        exe: format!("/usr/local/bin/{comm}"),
        comm: comm.to_owned(),
        runtime,
        version,
        evidence: vec!["symbol names in .symtab".to_owned()],
        degraded: None,
        threads: 9,
        tasks: TaskCounts::default(),
        ended: None,
    }
}

fn frame(address: u64, function: &str, source: Option<(&str, u32)>, kind: FrameKind) -> Frame {
    Frame {
        address,
        function: Some(function.to_owned()),
        file: source.map(|(file, _)| file.to_owned()),
        line: source.map(|(_, line)| line),
        module: Some(
            if kind == FrameKind::Kernel {
                "kernel"
            } else {
                "server"
            }
            .to_owned(),
        ),
        kind,
        unknown_reason: None,
    }
}

fn user(address: u64, function: &str, file: &str, line: u32) -> Frame {
    frame(address, function, Some((file, line)), FrameKind::User)
}

fn runtime(address: u64, function: &str) -> Frame {
    frame(address, function, None, FrameKind::Runtime)
}

fn kernel(names: &[&str]) -> Vec<Frame> {
    let address = 0xffff_ffff_8100_0000;
    names
        .iter()
        .map(|name| frame(address, name, None, FrameKind::Kernel))
        .collect()
}

fn nameless(address: u64, module: &str, reason: &'static str) -> Frame {
    Frame {
        address,
        function: None,
        file: None,
        line: None,
        module: Some(module.to_owned()),
        kind: FrameKind::User,
        unknown_reason: Some(Reason::new(reason)),
    }
}

fn task(
    kind: TaskKind,
    id: u64,
    name: Option<&str>,
    count: u64,
    total_ns: u64,
    max_ns: u64,
) -> TaskShare {
    TaskShare {
        task: TaskRef { kind, id },
        name: name.map(str::to_owned),
        created_by: None,
        count,
        total_ns,
        max_ns,
    }
}

/// An entry with one task; percentiles follow from the mean.
fn entry(
    cause: Cause,
    syscall: &str,
    site: Frame,
    kind: TaskKind,
    count: u64,
    total_ns: u64,
) -> Blocking {
    let mean = total_ns / count.max(1);
    Blocking {
        target: 0,
        cause,
        syscall: Some(syscall.to_owned()),
        wait_reason: None,
        resource: None,
        legality: Legality::NoRule,
        legality_evidence: None,
        stack: vec![site.clone()],
        site: Known::Known(site),
        tasks: vec![task(kind, 71, None, count, total_ns, mean * 4)],
        tasks_total: 1,
        count,
        total_ns,
        p50_ns: mean,
        p99_ns: mean * 3,
        max_ns: mean * 4,
        run_queue_ns: 0,
        unfinished: Unfinished::default(),
        wakers: Vec::new(),
    }
}

fn file(path: &str, fd: i32) -> Option<Resource> {
    Some(Resource {
        kind: "file",
        fd: Some(fd),
        path: Some(path.to_owned()),
        ..Resource::default()
    })
}

fn socket(local: &str, peer: &str, fd: i32) -> Option<Resource> {
    Some(Resource {
        kind: "socket",
        fd: Some(fd),
        local: Some(local.to_owned()),
        peer: Some(peer.to_owned()),
        state: Some("established".to_owned()),
        ..Resource::default()
    })
}

/// Fills `causes` as the aggregation does.
fn with_causes(mut view: View) -> View {
    let total: u64 = view.blocking.iter().map(|entry| entry.total_ns).sum();
    let mut by_cause: BTreeMap<Cause, (u64, usize)> = BTreeMap::new();
    for (i, entry) in view.blocking.iter().enumerate() {
        by_cause.entry(entry.cause).or_insert((0, i)).0 += entry.total_ns;
    }
    view.causes = by_cause
        .into_iter()
        .map(|(cause, (total_ns, representative))| CauseShare {
            cause,
            share: total_ns as f64 / total as f64,
            total_ns,
            representative,
        })
        .collect();
    view
}

fn account(view: &mut View, emitted: u64, aggregated: u64, lost: &[(&'static str, u64)]) {
    let unfinished = view
        .blocking
        .iter()
        .map(|entry| entry.unfinished.count)
        .sum();
    view.completeness = Completeness {
        seen: emitted + aggregated + 2 + unfinished + lost.iter().map(|(_, n)| n).sum::<u64>(),
        aggregated,
        emitted,
        filtered: 2,
        unfinished,
        lost: lost.iter().copied().collect(),
        idle_ns: 71_234 * MS,
        ..Completeness::default()
    };
}

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
    fsync.resource = file("/data/clicks.log", 17);
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
    recv.resource = socket("10.0.0.5:43122", "10.0.0.9:5432", 9);
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
    view.completeness.stacks_lost = [("stack_collision", 3)].into();
    view.overhead.target_cpu_share = Some(0.004);
    view
}

pub fn tokio() -> View {
    let mut view = empty();
    let mut app = target(5151, "demo-app", "tokio", Known::Known("1.54.1".to_owned()));
    app.exe = "/work/target/release/demo-app".replace("/work", "/srv");
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
    fsync.resource = file("/data/clicks.log", 17);
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
    legal.resource = file("/data/archive.tar", 21);

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
    account(
        &mut view,
        1937,
        8_000,
        &[("inflight_full", 812), ("record", 3)],
    );
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
    flock.resource = file("/var/lock/server.lock", 11);
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

pub fn run_queue() -> View {
    let mut view = native();
    for entry in &mut view.blocking {
        entry.run_queue_ns = entry.total_ns / 10 * 8;
    }
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
        address: Some(0xc000_1234_00),
        state: Some("0 of 0 buffered, senders wait".to_owned()),
        ..Resource::default()
    };
    view.census = vec![
        CensusGroup {
            target: 0,
            state: "waiting".to_owned(),
            wait_reason: Some("chan send".to_owned()),
            count: 5_000,
            share: 0.957,
            share_error: 0.004,
            oldest_ns: Some(9_800 * MS),
            site: Some("main.resolve (/src/server/http.go:131)".to_owned()),
            stack: vec![
                runtime(0x40_8000, "runtime.gopark"),
                user(0x4a_4000, "main.resolve", "/src/server/http.go", 131),
            ],
            created_by: Some("net/http.(*Server).Serve".to_owned()),
            resource: Some(resource),
            sample_ids: vec![90, 91, 92],
        },
        CensusGroup {
            target: 0,
            state: "waiting".to_owned(),
            wait_reason: Some("IO wait".to_owned()),
            count: 190,
            share: 0.036,
            share_error: 0.003,
            oldest_ns: Some(10 * S),
            site: Some("net/http.(*conn).serve".to_owned()),
            stack: Vec::new(),
            created_by: Some("net/http.(*Server).Serve".to_owned()),
            resource: None,
            sample_ids: vec![33],
        },
    ];
    view.wait_graph = WaitGraph {
        nodes: vec![
            GraphNode {
                id: "g1".to_owned(),
                kind: "tasks",
                label: "5000 goroutines in main.resolve".to_owned(),
            },
            GraphNode {
                id: "c1".to_owned(),
                kind: "channel",
                label: "channel 0xc000123400".to_owned(),
            },
            GraphNode {
                id: "g2".to_owned(),
                kind: "tasks",
                label: "goroutine 18 in main.consume, fsync on /data/clicks.log".to_owned(),
            },
        ],
        edges: vec![
            GraphEdge {
                from: "g1".to_owned(),
                to: "c1".to_owned(),
                kind: "waits",
                weight: 5_000,
                evidence: "sudog lists of 100 samples".to_owned(),
            },
            GraphEdge {
                from: "g2".to_owned(),
                to: "c1".to_owned(),
                kind: "consumes",
                weight: 18,
                evidence: "seen receiving from it in 18 samples".to_owned(),
            },
        ],
    };
    view.completeness.census = Some(CensusCost {
        samples: 100,
        bytes_read: 48_123_456,
        torn: 17,
        max_ns: 9 * MS,
    });
    view
}

pub fn hostile() -> View {
    let mut view = degraded();
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
        target.comm = evil.to_owned();
        target.exe.clone_from(&path);
        target.evidence = vec![long.clone(), "x".repeat(500)];
        target.degraded = Some(Reason::with(long.clone()));
        target.version = Known::Known(wide.clone());
        target.tasks.seen = u64::MAX;
    }
    view.host.kernel.clone_from(&wide);
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
        site.module = Some(wide.clone());
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
    view.census = pile_up().census;
    view.census[0].site = Some(long.clone());
    view.census[0].wait_reason = Some(evil.to_owned());
    view.census[0].sample_ids = vec![u64::MAX; 50];
    view.wait_graph.edges = vec![GraphEdge {
        from: long.clone(),
        to: wide,
        kind: "waits",
        weight: u64::MAX,
        evidence: long.clone(),
    }];
    view.completeness.lost = [("a_reason_nobody_knows", u64::MAX)].into();
    view.completeness.idle_ns = u64::MAX;
    view.notes = vec![long, "y".repeat(900)];
    view
}
