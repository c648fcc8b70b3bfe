//! What a session has found, ready to be shown: the seam between `aggregate` and `export`.
//! Times in nanoseconds. Every list is sorted the way it is shown.

use super::cause::Cause;
pub use super::cpu::{CpuSite, CpuUse, Holder, LongPoll, TaskSamples};
pub use super::graph::{GraphEdge, GraphNode, WaitGraph};
use super::known::{Known, Reason};
use super::meeting::Meeting;
use super::polls::{Followed, Victim};
use super::resource::Resource;
use super::stack::Frame;
use super::task::{Legality, TaskRef};
use super::transitions::Transitions;
use super::workers::WorkerGroup;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// One report.
#[derive(Debug, Clone)]
pub struct View {
    /// When the report was made.
    pub generated_at: SystemTime,
    /// When observation started and ended.
    pub window: Window,
    /// The machine.
    pub host: Host,
    /// This program.
    pub observer: ObserverInfo,
    /// The observed processes.
    pub targets: Vec<Target>,
    /// What tasks were blocked on, most time first. Idle runtime threads are not here.
    pub blocking: Vec<Blocking>,
    /// The same by cause, most time first.
    pub causes: Vec<CauseShare>,
    /// Who was on a CPU; `None`: nothing was sampled.
    pub cpu: Option<CpuUse>,
    /// Times for which every poll of a target was seen.
    pub followed: Vec<Followed>,
    /// The workers of tokio runtimes.
    pub workers: Vec<WorkerGroup>,
    /// Tasks that were delayed from their wake-up to their poll, most time first; bounded.
    pub victims: Vec<Victim>,
    /// How many pairs of them and what they waited behind there were.
    pub victims_total: u64,
    /// Groups of tasks as the runtime itself lists them, per target.
    pub census: Vec<CensusGroup>,
    /// Channels, locks... at which tasks wait, most first.
    pub meetings: Vec<Meeting>,
    /// Connections between targets on which tasks wait.
    pub connections: Vec<super::connection::Connection>,
    /// Who waits for whom.
    pub wait_graph: WaitGraph,
    /// System calls one by one, when the tier `syscalls` ran.
    pub syscalls: Option<super::calls::Syscalls>,
    /// Tasks followed exactly by probes in their runtime's code.
    pub transitions: Vec<Transitions>,
    /// What was seen and what was not.
    pub completeness: Completeness,
    /// What observing cost.
    pub overhead: Overhead,
    /// Everything that was degraded, one clause each ("child process 77 was not observed").
    pub notes: Vec<String>,
}

/// The observed stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Wall time of the start.
    pub start: SystemTime,
    /// Wall time of the end.
    pub end: SystemTime,
    /// Its length by the monotonic clock.
    pub duration_ns: u64,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// Architecture.
    pub arch: String,
    /// CPUs online.
    pub cpus: u32,
}

/// This program.
#[derive(Debug, Clone)]
pub struct ObserverInfo {
    /// Version.
    pub version: String,
    /// SHA-256 of the loaded kernel object, in hex.
    pub bytecode_sha256: String,
    /// Tier that ran.
    pub tier: String,
}

/// One observed process.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its pid.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// Path of the executable.
    pub exe: String,
    /// Command name.
    pub comm: String,
    /// `go`, `tokio` or `native`.
    pub runtime: &'static str,
    /// Runtime version.
    pub version: Known<String>,
    /// How the runtime was recognised.
    pub evidence: Vec<String>,
    /// Why only threads are observed, when that is so.
    pub degraded: Option<Reason>,
    /// Threads at the end.
    pub threads: u32,
    /// Threads when observation began.
    pub threads_at_start: u32,
    /// Threads at most, as counted at each sweep.
    pub threads_max: u32,
    /// Tasks.
    pub tasks: TaskCounts,
    /// Ready tasks against those that can run, when there was a census.
    pub scheduler: Option<Scheduler>,
    /// How the target ended, when it did during the session.
    pub ended: Option<String>,
}

/// Tasks of a target, by state at the last census. `None`: there was no census.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskCounts {
    /// Different tasks seen blocked, or listed by a census.
    pub seen: u64,
    /// Running.
    pub running: Option<u64>,
    /// Runnable.
    pub runnable: Option<u64>,
    /// Waiting.
    pub waiting: Option<u64>,
    /// In a syscall.
    pub in_syscall: Option<u64>,
}

/// One cause of blocking at one site on one kind of resource.
#[derive(Debug, Clone)]
pub struct Blocking {
    /// Index into `View::targets`.
    pub target: usize,
    /// Why.
    pub cause: Cause,
    /// The syscall, when there is one.
    pub syscall: Option<String>,
    /// The runtime's own wait reason, when there is one.
    pub wait_reason: Option<String>,
    /// On what.
    pub resource: Option<Resource>,
    /// Whether the runtime allows blocking there.
    pub legality: Legality,
    /// How legality is known.
    pub legality_evidence: Option<String>,
    /// Nearest user frame that is not runtime or standard library.
    pub site: Known<Frame>,
    /// The C function that a goroutine called and waits in, when that is so.
    pub c_call: Option<CCall>,
    /// The whole stack, nearest frame first; kernel frames come first.
    pub stack: Vec<Frame>,
    /// Which tasks, most time first; bounded.
    pub tasks: Vec<TaskShare>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
    /// Number of waits.
    pub count: u64,
    /// Their total time, unfinished ones included up to the end of the window.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Of the total, time spent ready but without a CPU after the wake-up.
    pub run_queue_ns: u64,
    /// Waits that had not ended.
    pub unfinished: Unfinished,
    /// Who ended the waits, most often first; bounded.
    pub wakers: Vec<Waker>,
    /// Who probably held what was waited for.
    pub holder: Option<Holder>,
    /// For polls that kept their worker: what is known of their length. Then the times above are
    /// lower bounds of their time on a CPU.
    pub long_poll: Option<LongPoll>,
}

/// A call from Go to C.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CCall {
    /// The C function, as Go calls it.
    pub function: String,
    /// Executable or library that holds it, when its frame was found.
    pub library: Option<String>,
    /// The Go function that calls it.
    pub called_by: Option<Frame>,
}

/// Waits that had not ended when the window did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfinished {
    /// How many.
    pub count: u64,
    /// Age of the oldest.
    pub oldest_ns: u64,
    /// The oldest began before the observation did: its age is a lower bound.
    pub lower_bound: bool,
}

/// One task's part of a [`Blocking`].
#[derive(Debug, Clone)]
pub struct TaskShare {
    /// Which task.
    pub task: TaskRef,
    /// Its name: a thread's comm, a tokio task's future type (or a label that stands for it).
    pub name: Option<String>,
    /// Why the type's name is not known, when it should be.
    pub name_unknown: Option<Reason>,
    /// Who runs it: tokio's `multi_thread`, `current_thread`, `local_set`, `blocking_pool`.
    pub scheduler: Option<&'static str>,
    /// Where it was created.
    pub created_by: Option<String>,
    /// Waits.
    pub count: u64,
    /// Their total.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Who ended waits.
#[derive(Debug, Clone)]
pub struct Waker {
    /// A short description: `goroutine 7`, `thread 812 (app)`, `timer or network interrupt`.
    pub task: String,
    /// Where it did so.
    pub site: Option<String>,
    /// How often.
    pub count: u64,
}

/// One cause's part of all blocked time.
#[derive(Debug, Clone, Copy)]
pub struct CauseShare {
    /// The cause.
    pub cause: Cause,
    /// Share of all blocked time, 0 to 1.
    pub share: f64,
    /// Total time.
    pub total_ns: u64,
    /// Index into `View::blocking` of the largest entry.
    pub representative: usize,
}

/// Tasks of one target that are in the same state for the same reason at the same place.
#[derive(Debug, Clone)]
pub struct CensusGroup {
    /// Index into `View::targets`.
    pub target: usize,
    /// Task state (`waiting`, `runnable`, `running`, `syscall`).
    pub state: String,
    /// The runtime's wait reason.
    pub wait_reason: Option<String>,
    /// The same in the common vocabulary; `CgoCall`: in C code.
    pub cause: Option<Cause>,
    /// Tasks at the last sample.
    pub count: u64,
    /// Mean number of tasks over the samples.
    pub mean: f64,
    /// Tasks in the sample with most.
    pub max: u64,
    /// Mean share of the target's tasks over the samples, 0 to 1.
    pub share: f64,
    /// Standard error of the share, from the number of samples; `None` with fewer than two.
    pub share_error: Option<f64>,
    /// What kind of tasks they are.
    pub nature: Nature,
    /// Age of the oldest by our own samples (a lower bound).
    pub oldest_ns: Option<u64>,
    /// Where they wait.
    pub site: Option<String>,
    /// Parked stack of a representative, nearest frame first.
    pub stack: Vec<Frame>,
    /// Where they were created.
    pub created_by: Option<String>,
    /// On what.
    pub resource: Option<Resource>,
    /// The frame that `site` names.
    pub place: Option<Frame>,
    /// Descriptors that they waited on at the last sample, as far as they were kept.
    pub fds: Vec<i32>,
    /// Whether these are all of them.
    pub fds_whole: bool,
    /// Connections to other targets among these: indices into `View::connections`.
    pub connections: Vec<usize>,
    /// Ids of a few of them.
    pub sample_ids: Vec<u64>,
}

/// What kind of tasks a [`CensusGroup`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Nature {
    /// On a CPU, ready, or in a system call.
    Active,
    /// Parked: something must happen before they go on.
    Blocked,
    /// Marked as waiting while the runtime works on their behalf, or resting on purpose.
    Resting,
    /// The runtime's own.
    System,
}

impl Nature {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Active, Self::Blocked, Self::Resting, Self::System];

    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Blocked => "blocked",
            Self::Resting => "resting",
            Self::System => "system",
        }
    }
}

/// Tasks that are ready, against how many can run at once: from a runtime's own list.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    /// How many tasks can run at once (Go: Ps), if that could be read.
    pub slots: Option<u32>,
    /// Tasks that were ready and did not run, mean over the samples.
    pub runnable_mean: f64,
    /// The same in the sample with most.
    pub runnable_max: u64,
    /// Part of the samples in which more were ready than can run at once, 0 to 1; `None`: unknown.
    pub queued_share: Option<f64>,
    /// Tasks tied to one thread, at the last sample.
    pub locked: u64,
    /// Tasks that ran, mean over the samples.
    pub running_mean: f64,
    /// Tasks in system or C calls, mean over the samples.
    pub in_syscall_mean: f64,
    /// The longest time for which a task was ready when it was seen: a lower bound of the worst delay.
    pub oldest_ready_ns: Option<u64>,
    /// The scheduler's own figures.
    pub inside: Option<Slots>,
    /// The network poller; `None`: not in use, or not known.
    pub netpoll: Option<Netpoll>,
    /// How long tasks were ready before they ran, as the runtime counts it.
    pub delay: Option<RunDelay>,
    /// Why `inside`, `netpoll` and `delay` are not known.
    pub unknown_reason: Option<Reason>,
}

/// What a runtime's scheduler has and lacks, over the samples in which it could be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots {
    /// How many samples.
    pub samples: u64,
    /// Slots (Go: Ps) without work, mean.
    pub idle_mean: f64,
    /// Part of the samples in which tasks were ready while no slot was idle, 0 to 1.
    pub starved_share: f64,
    /// Tasks in the queue that all slots share, mean.
    pub shared_queue_mean: f64,
    /// The same in the sample with most.
    pub shared_queue_max: u64,
    /// Tasks in the queues of the slots, mean.
    pub slot_queues_mean: f64,
    /// Threads of the runtime, at the last sample.
    pub threads: u32,
    /// Of these, parked without work, mean.
    pub idle_threads_mean: f64,
    /// Of these, looking for work, mean.
    pub spinning_threads_mean: f64,
}

/// How soon the runtime looks at the network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Netpoll {
    /// Part of the samples in which a thread waited for the network: then an event is seen at once.
    pub waiting_share: f64,
    /// In the other samples, time since it was last looked at: mean.
    pub since_mean_ns: Option<u64>,
    /// The longest.
    pub since_max_ns: Option<u64>,
}

/// How long tasks were ready before they ran, during the observation.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunDelay {
    /// Delays that the runtime counted: Go does so for one in eight.
    pub count: u64,
    /// Median: the upper end of its bucket. `None`: beyond the last one.
    pub p50_ns: Option<u64>,
    /// 99th percentile.
    pub p99_ns: Option<u64>,
    /// The longest.
    pub max_ns: Option<u64>,
    /// Part of them that was longer than is normal, 0 to 1.
    pub long_share: Option<f64>,
}

/// What was seen: `seen = aggregated + emitted + filtered + unfinished + sum(lost)`.
#[derive(Debug, Clone, Default)]
pub struct Completeness {
    /// Off-CPU stretches of target threads that began (or were under way) in the window.
    pub seen: u64,
    /// Only counted in kernel maps: short, of idle runtime threads, or without room for a record.
    pub aggregated: u64,
    /// Counted and also sent one by one.
    pub emitted: u64,
    /// Left out on purpose: the thread exited.
    pub filtered: u64,
    /// Not ended when the window did.
    pub unfinished: u64,
    /// Lost, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// Details lost of waits that are in the sums all the same, by reason.
    pub details_lost: BTreeMap<&'static str, u64>,
    /// Blocked time whose task is not known although the runtime has tasks.
    pub unattributed_ns: u64,
    /// Time of idle runtime threads: counted, not blocking.
    pub idle_ns: u64,
    /// Stacks that could not be taken, by reason.
    pub stacks_lost: BTreeMap<&'static str, u64>,
    /// Census figures, when there was one: bytes read, samples, torn reads.
    pub census: Option<CensusCost>,
}

/// What the censuses read.
#[derive(Debug, Clone, Copy, Default)]
pub struct CensusCost {
    /// Number of censuses.
    pub samples: u64,
    /// Bytes read from the targets.
    pub bytes_read: u64,
    /// Task records that changed while they were read and were left out.
    pub torn: u64,
    /// Time of the longest one.
    pub max_ns: u64,
    /// CPU time of all, what was made of them included.
    pub cpu_ns: u64,
}

/// What observing cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overhead {
    /// Share of the target's CPU time, when it could be measured.
    pub target_cpu_share: Option<f64>,
    /// CPU time of the observer process.
    pub observer_cpu_ns: u64,
    /// Time in the kernel programs, all CPUs.
    pub bpf_run_ns: Option<u64>,
    /// Number of runs of the kernel programs.
    pub bpf_run_count: Option<u64>,
    /// Peak resident memory of the observer.
    pub rss_bytes: u64,
}
