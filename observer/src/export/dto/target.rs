//! Window, machine, program and observed processes.

use super::super::timestamp::rfc3339;
use super::schema;
use crate::model::view;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// Wall time of the start (RFC 3339, UTC).
    pub start: String,
    /// Wall time of the end (RFC 3339, UTC).
    pub end: String,
    /// Length in milliseconds by the monotonic clock.
    pub duration_ms: u64,
    /// The same in nanoseconds.
    pub duration_ns: u64,
}

impl From<&view::Window> for Window {
    fn from(window: &view::Window) -> Self {
        Self {
            start: rfc3339(window.start),
            end: rfc3339(window.end),
            duration_ms: window.duration_ns / 1_000_000,
            duration_ns: window.duration_ns,
        }
    }
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// CPUs online.
    pub cpus: u32,
}

impl From<&view::Host> for Host {
    fn from(host: &view::Host) -> Self {
        Self {
            kernel: host.kernel.clone(),
            arch: host.arch.clone(),
            cpus: host.cpus,
        }
    }
}

/// The program that made the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observer {
    /// Version.
    pub version: String,
    /// SHA-256 of the loaded kernel object, in hex.
    pub bytecode_sha256: String,
    /// Tier that ran.
    pub tier: String,
}

impl From<&view::ObserverInfo> for Observer {
    fn from(info: &view::ObserverInfo) -> Self {
        Self {
            version: info.version.clone(),
            bytecode_sha256: info.bytecode_sha256.clone(),
            tier: info.tier.clone(),
        }
    }
}

/// One observed process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: with the pid, it tells a process from a later one.
    pub start_time: u64,
    /// Path of the executable.
    pub exe: String,
    /// Command name.
    pub comm: String,
    /// Its runtime.
    pub runtime: Runtime,
    /// Threads at the end.
    pub threads: u32,
    /// Threads when observation began.
    pub threads_at_start: u32,
    /// Threads at most, as counted at each interval.
    pub threads_max: u32,
    /// Its tasks.
    pub tasks: TaskCounts,
    /// Ready tasks against those that can run at once, when there was a census.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// How it ended, when it did during the observation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// The runtime of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Runtime {
    /// Which runtime.
    #[schemars(schema_with = "schema::runtime_kind")]
    pub kind: String,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the version is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_unknown_reason: Option<String>,
    /// How the runtime was recognised.
    pub evidence: Vec<String>,
    /// Why only threads are observed, when that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
}

/// Ready tasks against those that can run at once, over the censuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduler {
    /// How many tasks can run at once (Go: GOMAXPROCS). Absent: could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Tasks that were ready and did not run: mean over the samples.
    pub runnable_mean: f64,
    /// In the sample with most.
    pub runnable_max: u64,
    /// Part of the samples in which more were ready than can run at once, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_share: Option<f64>,
    /// Tasks tied to one thread, at the last sample.
    pub locked: u64,
    /// Tasks that ran: mean over the samples.
    pub running_mean: f64,
    /// Tasks in system or C calls: mean over the samples.
    pub in_syscall_mean: f64,
    /// The longest time for which a task was ready when it was seen: a lower bound of the worst delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_ready_ns: Option<u64>,
    /// The scheduler's own figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<Slots>,
    /// The network poller. Absent: not in use, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netpoll: Option<Netpoll>,
    /// How long tasks were ready before they ran, as the runtime itself counts it. Absent: none was
    /// counted, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<RunDelay>,
    /// Why `inside`, `netpoll` and `delay` are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_reason: Option<String>,
}

/// What a runtime's scheduler has and lacks, over the samples in which it could be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slots {
    /// How many samples.
    pub samples: u64,
    /// Slots (Go: Ps) without work: mean.
    pub idle_mean: f64,
    /// Part of the samples in which tasks were ready while no slot was idle, 0 to 1.
    pub starved_share: f64,
    /// Tasks in the queue that all slots share: mean.
    pub shared_queue_mean: f64,
    /// In the sample with most.
    pub shared_queue_max: u64,
    /// Tasks in the queues of the slots: mean.
    pub slot_queues_mean: f64,
    /// Threads of the runtime, at the last sample.
    pub threads: u32,
    /// Of these, parked without work: mean.
    pub idle_threads_mean: f64,
    /// Of these, looking for work: mean.
    pub spinning_threads_mean: f64,
}

/// How soon the runtime looks at the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Netpoll {
    /// Part of the samples in which a thread waited for the network: then an event is seen at once.
    pub waiting_share: f64,
    /// In the other samples, time since the runtime last noted that it looked: mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_mean_ns: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_max_ns: Option<u64>,
}

/// How long tasks were ready before they ran, during the observation. Times are upper ends of the
/// buckets of the runtime's own histogram; absent: beyond its last bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDelay {
    /// Delays that the runtime counted: Go does so for one in eight.
    pub count: u64,
    /// Median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// Part of them of 197 µs or more, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_share: Option<f64>,
}

/// Tasks by state at the last census. Absent: there was no census.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCounts {
    /// Different tasks seen blocked, or listed by a census.
    pub seen: u64,
    /// Running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u64>,
    /// Runnable: ready, not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runnable: Option<u64>,
    /// Waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// In a system call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_syscall: Option<u64>,
}

impl From<&view::Target> for Target {
    fn from(target: &view::Target) -> Self {
        let view::TaskCounts {
            seen,
            running,
            runnable,
            waiting,
            in_syscall,
        } = target.tasks;
        Self {
            pid: target.pid,
            start_time: target.start_time,
            exe: target.exe.clone(),
            comm: target.comm.clone(),
            runtime: Runtime {
                kind: target.runtime.to_owned(),
                version: target.version.known().cloned(),
                version_unknown_reason: target.version.reason().map(ToString::to_string),
                evidence: target.evidence.clone(),
                degraded: target.degraded.as_ref().map(ToString::to_string),
            },
            threads: target.threads,
            threads_at_start: target.threads_at_start,
            threads_max: target.threads_max,
            tasks: TaskCounts {
                seen,
                running,
                runnable,
                waiting,
                in_syscall,
            },
            scheduler: target.scheduler.as_ref().map(Scheduler::from),
            ended: target.ended.clone(),
        }
    }
}

impl From<&view::Scheduler> for Scheduler {
    fn from(s: &view::Scheduler) -> Self {
        let mean = super::share;
        Self {
            slots: s.slots,
            runnable_mean: mean(s.runnable_mean),
            runnable_max: s.runnable_max,
            queued_share: s.queued_share.map(mean),
            locked: s.locked,
            running_mean: mean(s.running_mean),
            in_syscall_mean: mean(s.in_syscall_mean),
            oldest_ready_ns: s.oldest_ready_ns,
            inside: s.inside.map(|i| Slots {
                samples: i.samples,
                idle_mean: mean(i.idle_mean),
                starved_share: mean(i.starved_share),
                shared_queue_mean: mean(i.shared_queue_mean),
                shared_queue_max: i.shared_queue_max,
                slot_queues_mean: mean(i.slot_queues_mean),
                threads: i.threads,
                idle_threads_mean: mean(i.idle_threads_mean),
                spinning_threads_mean: mean(i.spinning_threads_mean),
            }),
            netpoll: s.netpoll.map(|n| Netpoll {
                waiting_share: mean(n.waiting_share),
                since_mean_ns: n.since_mean_ns,
                since_max_ns: n.since_max_ns,
            }),
            delay: s.delay.map(|d| RunDelay {
                count: d.count,
                p50_ns: d.p50_ns,
                p99_ns: d.p99_ns,
                max_ns: d.max_ns,
                long_share: d.long_share.map(mean),
            }),
            unknown_reason: s.unknown_reason.as_ref().map(ToString::to_string),
        }
    }
}
