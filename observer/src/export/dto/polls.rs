//! Polls that were followed one by one, and tasks that were delayed.

use super::schema;
use crate::model::polls;
use crate::model::task::{TaskFacts, TaskRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lengths of polls or delays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// A time for which every poll of a target was seen, by probes in its code (tier `runtime`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Polls {
    /// Index into `targets`.
    pub target: usize,
    /// How long after the begin of the window it began.
    pub after_ns: u64,
    /// How long it lasted.
    pub duration_ns: u64,
    /// Hits of the probes: one for each poll, one for each wake-up that made a task ready.
    pub hits: u64,
    /// Why the probes were taken out before the window ended; absent when they were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_early: Option<String>,
    /// For how long, from its begin on, wake-ups were seen too: delays and victims are of that time.
    pub delays_duration_ns: u64,
    /// Why that was shorter than `duration_ns`; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delays_ended_early: Option<String>,
    /// Task types, most time first.
    pub types: Vec<PollType>,
    /// Tasks with polls of half a millisecond or more, most time first; bounded, see `long_total`.
    pub long: Vec<LongTask>,
    /// How many tasks had such polls.
    pub long_total: u64,
    /// Tasks that were ready and had not been polled at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Why these are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_unknown_reason: Option<String>,
}

/// Tasks that were ready to be polled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// For how long the first of them had been ready.
    pub oldest_ns: u64,
}

/// Polls of the tasks of one type. A poll is counted until the next one on its worker begins or the
/// worker parks: what the runtime does in between, some microseconds at most, is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PollType {
    /// The future's type, or a label that is the same for the same type in the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why the type is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_unknown_reason: Option<String>,
    /// Who runs it: `multi_thread`, `current_thread`, `local_set`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// Its polls.
    pub polls: Spread,
    /// Delays of its tasks from wake-up to poll.
    pub delays: Spread,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolledTask {
    /// What it is.
    #[schemars(schema_with = "schema::task_kind")]
    pub kind: String,
    /// Its id.
    pub id: u64,
    /// The future's type, or a label that is the same for the same type in the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why the type is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_unknown_reason: Option<String>,
}

/// Long polls of one task, and what they were spent with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LongTask {
    /// Which task.
    pub task: PolledTask,
    /// Its polls of half a millisecond or more.
    pub polls: Spread,
    /// Of their time, on a CPU.
    pub cpu_ns: u64,
    /// Of their time, blocked in futex calls: locks, channels, condition variables.
    pub lock_ns: u64,
    /// Of their time, off the CPU otherwise: other system calls, page faults.
    pub blocked_ns: u64,
    /// Of their time, ready to run without a CPU.
    pub run_queue_ns: u64,
    /// Polls that had not ended.
    pub open: u64,
}

/// A task that waited a millisecond or more from its wake-up to its poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Victim {
    /// Index into `targets`.
    pub target: usize,
    /// Which task.
    pub task: PolledTask,
    /// These delays.
    pub delays: Spread,
    /// `poll`: a long poll on the worker that then polled it. `other_worker`: a long poll on another
    /// worker, while there was none on that one. `no_cpu`: the worker that then polled it was ready to
    /// run without a CPU. `nothing`: none of these lasted for half of the delay: many short polls, for
    /// one.
    pub behind: String,
    /// Whose poll that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub culprit: Option<PolledTask>,
    /// For how much of the delays that lasted.
    pub overlap_ns: u64,
}

impl From<&polls::Spread> for Spread {
    fn from(spread: &polls::Spread) -> Self {
        Self {
            count: spread.count,
            total_ns: spread.total_ns,
            p50_ns: spread.p50_ns,
            p99_ns: spread.p99_ns,
            max_ns: spread.max_ns,
        }
    }
}

fn name(facts: &TaskFacts) -> (Option<String>, Option<String>) {
    (
        facts.name.known().cloned().or_else(|| facts.label.clone()),
        facts.name.reason().map(ToString::to_string),
    )
}

fn task(task: TaskRef, facts: &TaskFacts) -> PolledTask {
    let (name, name_unknown_reason) = name(facts);
    PolledTask {
        kind: task.kind.as_str().to_owned(),
        id: task.id,
        name,
        name_unknown_reason,
    }
}

impl From<&polls::Followed> for Polls {
    fn from(of: &polls::Followed) -> Self {
        Self {
            target: of.target,
            after_ns: of.after_ns,
            duration_ns: of.duration_ns,
            hits: of.hits,
            ended_early: of.ended.clone(),
            delays_duration_ns: of.delays_ns,
            delays_ended_early: of.delays_ended.clone(),
            types: of.types.iter().map(PollType::from).collect(),
            long: of.long.iter().map(LongTask::from).collect(),
            long_total: of.long_total,
            waiting: of.waiting.known().map(|waiting| Waiting {
                count: waiting.count,
                oldest_ns: waiting.oldest_ns,
            }),
            waiting_unknown_reason: of.waiting.reason().map(ToString::to_string),
        }
    }
}

impl From<&polls::PollType> for PollType {
    fn from(of: &polls::PollType) -> Self {
        let (name, name_unknown_reason) = name(&of.facts);
        Self {
            name,
            name_unknown_reason,
            scheduler: of.facts.scheduler.map(str::to_owned),
            polls: (&of.polls).into(),
            delays: (&of.delays).into(),
        }
    }
}

impl From<&polls::LongTask> for LongTask {
    fn from(of: &polls::LongTask) -> Self {
        Self {
            task: task(of.task, &of.facts),
            polls: (&of.polls).into(),
            cpu_ns: of.cpu_ns,
            lock_ns: of.lock_ns,
            blocked_ns: of.blocked_ns,
            run_queue_ns: of.run_queue_ns,
            open: of.open,
        }
    }
}

impl From<&polls::Victim> for Victim {
    fn from(of: &polls::Victim) -> Self {
        let (behind, culprit) = match &of.behind {
            polls::Culprit::Poll(by, facts) => ("poll", Some(task(*by, facts))),
            polls::Culprit::Elsewhere(by, facts) => ("other_worker", Some(task(*by, facts))),
            polls::Culprit::NoCpu => ("no_cpu", None),
            polls::Culprit::Nothing => ("nothing", None),
        };
        Self {
            target: of.target,
            task: task(of.task, &of.facts),
            delays: (&of.delays).into(),
            behind: behind.to_owned(),
            culprit,
            overlap_ns: of.overlap_ns,
        }
    }
}
