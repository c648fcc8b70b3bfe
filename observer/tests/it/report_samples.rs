//! Made-up sessions for the report tests. The figures are made up, the shapes are real.

pub mod calls;
pub mod followed;
pub mod go;
pub mod lists;
pub mod other;
pub mod polls;
pub mod tokio;

use observer::model::census::{Direction, WaitKind};
use observer::model::meeting::{Doing, Meeting, Side, SideSite, Source, User, UserEvidence};
use observer::model::task::Legality;
use observer::model::view::{
    Blocking, CauseShare, CensusCost, CensusGroup, Completeness, GraphEdge, GraphNode, Host,
    Nature, Netpoll, ObserverInfo, Overhead, RunDelay, Scheduler, Slots, Target, TaskCounts,
    TaskShare, Unfinished, View, WaitGraph, Waker, Window,
};
use observer::model::{Cause, Frame, FrameKind, Known, Reason, Resource, TaskKind, TaskRef};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

pub const MS: u64 = 1_000_000;
pub const S: u64 = 1_000_000_000;

pub fn samples() -> Vec<(&'static str, View)> {
    vec![
        ("go", go::go()),
        ("tokio", tokio::tokio()),
        ("native", other::native()),
        ("degraded", go::degraded()),
        ("empty", empty()),
        ("idle", go::idle()),
        ("unfinished", go::unfinished()),
        ("run_queue", other::run_queue()),
        ("allowed", tokio::allowed()),
        ("healthy", tokio::healthy()),
        ("pile_up", go::pile_up()),
        ("followed", followed::followed()),
        ("calls", calls::calls()),
        ("long_polls", polls::sampled()),
        ("polls", polls::followed()),
        ("hostile", other::hostile()),
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
        cpu: None,
        followed: Vec::new(),
        workers: Vec::new(),
        victims: Vec::new(),
        victims_total: 0,
        census: Vec::new(),
        meetings: Vec::new(),
        connections: Vec::new(),
        wait_graph: WaitGraph::default(),
        syscalls: None,
        transitions: Vec::new(),
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
        threads_at_start: 9,
        threads_max: 10,
        tasks: TaskCounts::default(),
        scheduler: None,
        ended: None,
    }
}

fn frame(address: u64, function: &str, source: Option<(&str, u32)>, kind: FrameKind) -> Frame {
    Frame {
        address,
        function: Some(function.into()),
        file: source.map(|(file, _)| file.into()),
        line: source.map(|(_, line)| line),
        module: Some(
            if kind == FrameKind::Kernel {
                "kernel"
            } else {
                "server"
            }
            .into(),
        ),
        module_offset: None,
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
        module: Some(module.into()),
        module_offset: Some(address & 0xf_ffff),
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
        name_unknown: None,
        scheduler: None,
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
        c_call: None,
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
        holder: None,
        long_poll: None,
    }
}

fn file(path: &str, fd: i32) -> Resource {
    Resource {
        kind: "file",
        fd: Some(fd),
        path: Some(path.to_owned()),
        ..Resource::default()
    }
}

fn socket(local: &str, peer: &str, fd: i32) -> Resource {
    Resource {
        kind: "socket",
        fd: Some(fd),
        local: Some(local.to_owned()),
        peer: Some(peer.to_owned()),
        state: Some("established".to_owned()),
        ..Resource::default()
    }
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
