//! Tasks followed exactly by probes in their runtime's own code.

use super::blocking::{Unfinished, Waker};
use super::frame::{Frame, Site};
use super::schema;
use crate::model::transitions as model;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was followed of one target, from when to when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transitions {
    /// Index into `targets`.
    pub target: usize,
    /// When the probes were in, since the start of the window. From then on every change of a task's
    /// state is in the figures, but for what `lost` counts.
    pub from_ns: u64,
    /// When they were taken out.
    pub to_ns: u64,
    /// Present when that was before the end of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached: Option<Detached>,
    /// Hits of the probes.
    pub hits: u64,
    /// Hits per second, mean over the time.
    pub hits_per_s: f64,
    /// Mean run time of the kernel program at a hit, as counted in the first two seconds of the session.
    /// The breakpoint itself is not in it. Absent when it was not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_ns_per_hit: Option<u64>,
    /// Hits per second above which the probes are taken out.
    pub max_hits_per_s: u64,
    /// What could not be followed, by reason. Empty: everything was.
    pub lost: BTreeMap<String, u64>,
    /// Whether tasks in system calls are a state of their own. Where not (Go 1.26 and later), they
    /// are part of `running`.
    pub system_calls_apart: bool,
    /// Time of all tasks by state, wait reason and place, most first; those that rest or work for the
    /// runtime after the others.
    pub states: Vec<StateTime>,
    /// From ready to running.
    pub scheduling_delay: Delay,
    /// The same by what made the task ready.
    pub scheduling_delay_after: Vec<DelayAfter>,
    /// Where tasks were made and how long they lived, most made first.
    pub created: Vec<Birth>,
}

/// Why probes were taken out before the end of the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Detached {
    /// When, since the start of the window.
    pub at_ns: u64,
    /// Why.
    pub reason: String,
}

/// Time in one state for one reason at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateTime {
    /// `waiting`, `runnable`, `running`, `in a system call`, ...
    pub state: String,
    /// The runtime's wait reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_reason: Option<String>,
    /// In the vocabulary of `blocking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cause")]
    pub cause: Option<String>,
    /// Marked as waiting, but at rest on purpose or at work for the runtime.
    pub resting: bool,
    /// Where it waited. Absent for states without a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Site>,
    /// The stack there with most time, nearest frame first: at most 32 frames, without those that
    /// were compiled into others' code unless they could be told.
    pub stack: Vec<Frame>,
    /// Stretches that began and ended while the probes were in.
    pub count: u64,
    /// Time while the probes were in: of these, of those that began before, and of those that had
    /// not ended.
    pub total_ns: u64,
    /// Median of those that `count` counts.
    pub p50_ns: u64,
    /// Their 99th percentile.
    pub p99_ns: u64,
    /// The longest of them.
    pub max_ns: u64,
    /// Id of the task whose that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_task: Option<u64>,
    /// Stretches that began before the probes were in, and ended while they were.
    pub began_before: u64,
    /// Stretches that had not ended when the probes were taken out.
    pub unfinished: Unfinished,
    /// Ids of a few tasks of these, oldest first.
    pub unfinished_ids: Vec<u64>,
    /// Who ended the waits, most often first.
    pub wakers: Vec<Waker>,
}

/// A distribution of times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delay {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Time from ready to running, by what made the task ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DelayAfter {
    /// `woken from a wait`, `preempted or yielded`, `newly created`, `back from a system call`.
    pub after: String,
    /// The times.
    pub delay: Delay,
}

/// Tasks that one place creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Birth {
    /// The place.
    pub site: Site,
    /// Made while the probes were in.
    pub created: u64,
    /// Ended while the probes were in.
    pub exited: u64,
    /// Lives that began and ended while the probes were in.
    pub life: Delay,
}

impl From<&model::Transitions> for Transitions {
    fn from(followed: &model::Transitions) -> Self {
        let seconds = followed.to_ns.saturating_sub(followed.from_ns) as f64 / 1e9;
        Self {
            target: followed.target,
            from_ns: followed.from_ns,
            to_ns: followed.to_ns,
            detached: followed.detached.as_ref().map(|reason| Detached {
                at_ns: followed.to_ns,
                reason: reason.to_string(),
            }),
            hits: followed.hits,
            hits_per_s: if seconds > 0.0 {
                (followed.hits as f64 / seconds).round()
            } else {
                0.0
            },
            program_ns_per_hit: followed.program_ns,
            max_hits_per_s: followed.budget,
            lost: followed
                .lost
                .iter()
                .map(|(reason, n)| ((*reason).to_owned(), *n))
                .collect(),
            system_calls_apart: followed.syscalls_apart,
            states: followed.states.iter().map(StateTime::from).collect(),
            scheduling_delay: (&followed.scheduling_delay).into(),
            scheduling_delay_after: followed
                .delay_after
                .iter()
                .map(|(after, delay)| DelayAfter {
                    after: after.as_str().to_owned(),
                    delay: delay.into(),
                })
                .collect(),
            created: followed.births.iter().map(Birth::from).collect(),
        }
    }
}

impl From<&model::StateTime> for StateTime {
    fn from(row: &model::StateTime) -> Self {
        Self {
            state: row.state.to_owned(),
            wait_reason: row.wait_reason.clone(),
            cause: row.cause.map(|cause| cause.as_str().to_owned()),
            resting: row.resting,
            site: row.site.as_ref().map(Site::from),
            stack: row.stack.iter().map(Frame::from).collect(),
            count: row.count,
            total_ns: row.total_ns,
            p50_ns: row.p50_ns,
            p99_ns: row.p99_ns,
            max_ns: row.max_ns,
            max_task: row.max_task,
            began_before: row.began_before,
            unfinished: Unfinished {
                count: row.unfinished.count,
                oldest_ns: row.unfinished.oldest_ns,
                lower_bound: row.unfinished.lower_bound,
            },
            unfinished_ids: row.unfinished_ids.clone(),
            wakers: row.wakers.iter().map(Waker::from).collect(),
        }
    }
}

impl From<&model::Delay> for Delay {
    fn from(delay: &model::Delay) -> Self {
        Self {
            count: delay.count,
            total_ns: delay.total_ns,
            p50_ns: delay.p50_ns,
            p99_ns: delay.p99_ns,
            max_ns: delay.max_ns,
        }
    }
}

impl From<&model::Birth> for Birth {
    fn from(birth: &model::Birth) -> Self {
        Self {
            site: (&birth.site).into(),
            created: birth.created,
            exited: birth.exited,
            life: (&birth.life).into(),
        }
    }
}
