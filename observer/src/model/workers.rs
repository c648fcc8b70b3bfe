//! The workers of runtimes, ready to be shown.

use super::known::Known;

/// One runtime of a target.
#[derive(Debug, Clone)]
pub struct WorkerGroup {
    /// Index into `View::targets`.
    pub target: usize,
    /// `multi_thread` or `current_thread`; or why runtimes of the process are not told apart.
    pub kind: Known<&'static str>,
    /// Its workers: threads that were inside the runtime when they were last looked at.
    pub workers: Vec<Worker>,
    /// Threads that were workers for a time. `block_in_place` hands a worker's tasks to another thread,
    /// and the first one does not come back.
    pub former: Vec<Worker>,
    /// For how long all of them were known to be held inside polls at once.
    pub all_held_ns: u64,
    /// The longest stretch of that.
    pub all_held_longest_ns: u64,
    /// How often.
    pub all_held_count: u64,
}

/// One worker. Times sum up to the time for which it was followed.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Thread.
    pub tid: u32,
    /// Its name.
    pub name: Option<String>,
    /// On a CPU.
    pub on_cpu_ns: u64,
    /// Blocked inside polls.
    pub held_ns: u64,
    /// Ready without a CPU.
    pub run_queue_ns: u64,
    /// Parked: nothing to do.
    pub idle_ns: u64,
    /// Off the CPU otherwise.
    pub other_ns: u64,
}
