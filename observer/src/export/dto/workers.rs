//! The workers of async runtimes.

use crate::model::workers;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The workers of one runtime, and what they did with their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// Index into `targets`.
    pub target: usize,
    /// `multi_thread` or `current_thread`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Why the runtimes of the process are not told apart: then these are the workers of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind_unknown_reason: Option<String>,
    /// The workers, by thread id: threads that were inside the runtime when they were last looked at.
    pub workers: Vec<Worker>,
    /// Threads that were workers for a time and are none any more, by thread id: `block_in_place` hands
    /// a worker's tasks to another thread, and the first one does not come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Worker>,
    /// For how long all of them were known to be held inside polls at once: blocked for a
    /// millisecond (`--min-us`) or more, or seen computing by two ticks or more. Nothing ready could
    /// run then.
    pub all_held_ns: u64,
    /// The longest stretch of that.
    pub all_held_longest_ns: u64,
    /// How often.
    pub all_held_count: u64,
}

/// One worker. The times sum up to the time for which its thread was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Thread id.
    pub tid: u32,
    /// The thread's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// On a CPU.
    pub on_cpu_ns: u64,
    /// Blocked inside polls.
    pub held_ns: u64,
    /// Ready without a CPU.
    pub run_queue_ns: u64,
    /// Parked: nothing to do.
    pub idle_ns: u64,
    /// Off the CPU otherwise: in `block_in_place`, or in the runtime's own code.
    pub other_ns: u64,
}

impl From<&workers::WorkerGroup> for Workers {
    fn from(group: &workers::WorkerGroup) -> Self {
        Self {
            target: group.target,
            kind: group.kind.known().map(|kind| (*kind).to_owned()),
            kind_unknown_reason: group.kind.reason().map(ToString::to_string),
            workers: group.workers.iter().map(Worker::from).collect(),
            former: group.former.iter().map(Worker::from).collect(),
            all_held_ns: group.all_held_ns,
            all_held_longest_ns: group.all_held_longest_ns,
            all_held_count: group.all_held_count,
        }
    }
}

impl From<&workers::Worker> for Worker {
    fn from(worker: &workers::Worker) -> Self {
        Self {
            tid: worker.tid,
            name: worker.name.clone(),
            on_cpu_ns: worker.on_cpu_ns,
            held_ns: worker.held_ns,
            run_queue_ns: worker.run_queue_ns,
            idle_ns: worker.idle_ns,
            other_ns: worker.other_ns,
        }
    }
}
