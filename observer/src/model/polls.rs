//! What probes on polls found, ready to be shown.

use super::known::Known;
use super::task::{TaskFacts, TaskRef};

/// Lengths of polls or delays. Times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Their total.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

/// A time for which every poll of a target was seen.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Index into `View::targets`.
    pub target: usize,
    /// How long after the begin of the window it began.
    pub after_ns: u64,
    /// How long it lasted.
    pub duration_ns: u64,
    /// Hits of the probes.
    pub hits: u64,
    /// Why it ended before the window did.
    pub ended: Option<String>,
    /// For how long, from its begin on, wake-ups were seen too: delays are of that time.
    pub delays_ns: u64,
    /// Why that was not to its end.
    pub delays_ended: Option<String>,
    /// Task types, most time first.
    pub types: Vec<PollType>,
    /// Tasks with the most time in long polls; bounded.
    pub long: Vec<LongTask>,
    /// How many tasks had long polls.
    pub long_total: u64,
    /// Tasks that were ready and had not been polled at its end, or why that is not known.
    pub waiting: Known<Waiting>,
}

/// Tasks that were ready to be polled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// For how long the first of them had been ready.
    pub oldest_ns: u64,
}

/// A task type.
#[derive(Debug, Clone)]
pub struct PollType {
    /// What its tasks are.
    pub facts: TaskFacts,
    /// Its polls.
    pub polls: Spread,
    /// Delays of its tasks from wake-up to poll.
    pub delays: Spread,
}

/// Long polls of one task.
#[derive(Debug, Clone)]
pub struct LongTask {
    /// Which task.
    pub task: TaskRef,
    /// What it is.
    pub facts: TaskFacts,
    /// Its long polls.
    pub polls: Spread,
    /// Of their time, on a CPU.
    pub cpu_ns: u64,
    /// Of their time, blocked in futex calls.
    pub lock_ns: u64,
    /// Of their time, off the CPU otherwise.
    pub blocked_ns: u64,
    /// Of their time, ready without a CPU.
    pub run_queue_ns: u64,
    /// Polls that had not ended.
    pub open: u64,
}

/// What a task waited behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Culprit {
    /// A poll on the worker that then polled it.
    Poll(TaskRef, TaskFacts),
    /// A poll on another worker.
    Elsewhere(TaskRef, TaskFacts),
    /// The worker that then polled it had no CPU.
    NoCpu,
    /// None of these.
    Nothing,
}

/// A task that was delayed from its wake-up to its poll.
#[derive(Debug, Clone)]
pub struct Victim {
    /// Index into `View::targets`.
    pub target: usize,
    /// Which task.
    pub task: TaskRef,
    /// What it is.
    pub facts: TaskFacts,
    /// Its long delays.
    pub delays: Spread,
    /// Behind what.
    pub behind: Culprit,
    /// For how much of that time the poll that they waited behind lasted.
    pub overlap_ns: u64,
}
