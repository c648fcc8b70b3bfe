//! System calls one by one, and waits for the network: tier `syscalls`.

use super::blocking::{TaskShare, Unfinished};
use super::frame::{Resource, Site};
use crate::model::calls as model;
use crate::model::view;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the tier `syscalls` saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Syscalls {
    /// By target and system call, most time first. A call's time is all of it: on the CPU and off.
    pub calls: Vec<SyscallRow>,
    /// Waits for the network: from a descriptor's answer "not ready" (EAGAIN, EINPROGRESS) until the
    /// same task tried it again. Most time first.
    pub net_waits: Vec<NetWait>,
    /// Calls entered in the window. `entered` = `summed` + `unfinished` + `ended` + calls in `lost`.
    pub entered: u64,
    /// Calls that returned and are in `calls`.
    pub summed: u64,
    /// Calls that had not returned at the end.
    pub unfinished: u64,
    /// Calls whose thread ended in them (`exit`).
    pub ended: u64,
    /// Calls that returned in the window, but were entered before it: not in `calls`.
    pub before: u64,
    /// Calls whose task is not known, because the kernel's table was full.
    pub folded: u64,
    /// Waits for the network that are not in `net_waits`, because how long they took is not known:
    /// another task tried the descriptor next, it was closed, or two tasks found it not ready at once
    /// (then the first of them). A count of waits, not of calls: it is in no sum of the account.
    #[serde(default)]
    pub net_waits_untimed: u64,
    /// What was lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// What the tier cost every process of the host, measured when it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<SyscallCost>,
}

/// What a trivial system call took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyscallCost {
    /// Without the tier, in nanoseconds.
    pub without_ns: f64,
    /// With it, for a process that is not a target.
    pub with_ns: f64,
}

/// One system call of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyscallRow {
    /// Index into `targets`.
    pub target: usize,
    /// Name.
    pub syscall: String,
    /// Calls by tasks that returned.
    pub count: u64,
    /// Calls that failed, by error; those of idle threads too.
    pub errors: BTreeMap<String, u64>,
    /// Their time.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Calls by idle runtime threads, which are in none of the figures above but `errors`.
    pub idle_count: u64,
    /// Their time.
    pub idle_ns: u64,
    /// Calls that had not returned; in none of the figures above.
    pub unfinished: Unfinished,
    /// Which tasks, most time first; bounded, see `tasks_total`.
    pub tasks: Vec<TaskShare>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
}

/// Waits for the network at one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetWait {
    /// Index into `targets`.
    pub target: usize,
    /// The system call that found the descriptor not ready.
    pub syscall: String,
    /// On what: what its descriptors have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// How many descriptors.
    pub descriptors: u64,
    /// Nearest frame of the application's own code.
    pub site: Site,
    /// Waits, unfinished ones included.
    pub count: u64,
    /// Their total time, unfinished ones included up to the end of the window.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Descriptors that were not tried again until the end.
    pub unfinished: Unfinished,
    /// Which tasks, most time first; bounded, see `tasks_total`.
    pub tasks: Vec<TaskShare>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
}

impl From<&model::Syscalls> for Syscalls {
    fn from(seen: &model::Syscalls) -> Self {
        Self {
            calls: seen.calls.iter().map(SyscallRow::from).collect(),
            net_waits: seen.net_waits.iter().map(NetWait::from).collect(),
            entered: seen.entered,
            summed: seen.summed,
            unfinished: seen.unfinished,
            ended: seen.ended,
            before: seen.before,
            folded: seen.folded,
            net_waits_untimed: seen.net_waits_untimed,
            lost: seen
                .lost
                .iter()
                .map(|(reason, n)| ((*reason).to_owned(), *n))
                .collect(),
            cost: seen.cost.map(|cost| SyscallCost {
                without_ns: rounded(cost.without_ns),
                with_ns: rounded(cost.with_ns),
            }),
        }
    }
}

/// To a tenth of a nanosecond.
fn rounded(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

fn unfinished(open: view::Unfinished) -> Unfinished {
    Unfinished {
        count: open.count,
        oldest_ns: open.oldest_ns,
        lower_bound: open.lower_bound,
    }
}

impl From<&model::CallRow> for SyscallRow {
    fn from(row: &model::CallRow) -> Self {
        Self {
            target: row.target,
            syscall: row.syscall.clone(),
            count: row.count,
            errors: row.errors.clone(),
            total_ns: row.total_ns,
            p50_ns: row.p50_ns,
            p99_ns: row.p99_ns,
            max_ns: row.max_ns,
            idle_count: row.idle_count,
            idle_ns: row.idle_ns,
            unfinished: unfinished(row.unfinished),
            tasks: row.tasks.iter().map(TaskShare::from).collect(),
            tasks_total: row.tasks_total,
        }
    }
}

impl From<&model::NetWait> for NetWait {
    fn from(wait: &model::NetWait) -> Self {
        Self {
            target: wait.target,
            syscall: wait.syscall.clone(),
            resource: wait.resource.as_ref().map(Resource::from),
            descriptors: wait.descriptors,
            site: (&wait.site).into(),
            count: wait.count,
            total_ns: wait.total_ns,
            p50_ns: wait.p50_ns,
            p99_ns: wait.p99_ns,
            max_ns: wait.max_ns,
            unfinished: unfinished(wait.unfinished),
            tasks: wait.tasks.iter().map(TaskShare::from).collect(),
            tasks_total: wait.tasks_total,
        }
    }
}
