//! What tasks were blocked on.

use super::cpu::LongPoll;
use super::frame::{Frame, Resource, Site};
use super::{id, schema, share};
use crate::model::view::{self, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;

/// One cause of blocking at one site on one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blocking {
    /// Short id, the same for the same thing in another report of the same program.
    pub id: String,
    /// Index into `targets`.
    pub target: usize,
    /// Why.
    #[schemars(schema_with = "schema::cause")]
    pub cause: String,
    /// The system call, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// The runtime's own wait reason, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_reason: Option<String>,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// `in_poll`: a blocking call inside an async poll, which holds up its worker. `may_block`:
    /// made for blocking. `no_rule`: the runtime has no such rule.
    #[schemars(schema_with = "schema::legality")]
    pub legality: String,
    /// How legality is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legality_evidence: Option<String>,
    /// Nearest frame of the application's own code.
    pub site: Site,
    /// The C function that a goroutine called and waits in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c_call: Option<CCall>,
    /// The whole stack, nearest frame first; kernel frames come first.
    pub stack: Vec<Frame>,
    /// Which tasks, most time first; bounded, see `tasks_total`.
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
    /// Cause `futex`: who ended at least half of the waits, and so probably held what was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probable_holder: Option<Holder>,
    /// Cause `long_poll`: what is known of the polls' length. The times above are then lower bounds
    /// of their time on a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_poll: Option<LongPoll>,
}

/// A call from Go to C.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CCall {
    /// The C function, as Go calls it.
    pub function: String,
    /// Executable or library that holds it. Absent when its own frame is not on the stack: it jumped
    /// into another function, or frames are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// The Go function that calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_by: Option<Frame>,
}

impl From<&view::CCall> for CCall {
    fn from(call: &view::CCall) -> Self {
        Self {
            function: call.function.clone(),
            library: call.library.clone(),
            called_by: call.called_by.as_ref().map(Frame::from),
        }
    }
}

/// Who probably held a lock: a futex does not say. Only wake-ups are evidence, so it may as well be who
/// sent a message or signalled a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// A short description: `tokio task 7`, `thread 812`.
    pub task: String,
    /// Where it woke the waiters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Waits that it ended.
    pub wake_ups: u64,
    /// Of so many whose waker was seen.
    pub of: u64,
}

/// Waits that had not ended when the window did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unfinished {
    /// How many.
    pub count: u64,
    /// Age of the oldest at the end of the window.
    pub oldest_ns: u64,
    /// The oldest began before the observation did: its age is a lower bound.
    pub lower_bound: bool,
}

/// One task's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskShare {
    /// What it is.
    #[schemars(schema_with = "schema::task_kind")]
    pub kind: String,
    /// goid, tokio task id or tid.
    pub id: u64,
    /// A thread's comm, a tokio task's future type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why the type's name is not known; `name` is then a label that stands for it, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_unknown_reason: Option<String>,
    /// What runs a tokio task: `multi_thread`, `current_thread`, `local_set`, `blocking_pool`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// The number of the tokio copy it belongs to; absent for the first. Each copy in a process
    /// counts its ids from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<u32>,
    /// Where it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Waits.
    pub count: u64,
    /// Their total.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Who ended waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waker {
    /// A short description: `goroutine 7`, `thread 812 (app)`, `timer or network interrupt`.
    pub task: String,
    /// Where it did so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// How often.
    pub count: u64,
}

/// One cause's part of all blocked time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CauseShare {
    /// The cause.
    #[schemars(schema_with = "schema::cause")]
    pub cause: String,
    /// Share of all blocked time, 0 to 1.
    pub share: f64,
    /// Total time.
    pub total_ns: u64,
    /// Index into `blocking` of the largest entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub representative: Option<usize>,
}

/// The entries in their final order, and for each place in the view its place in that order.
///
/// Entries of equal time are ordered by what they are, so that equal views give equal reports.
pub(super) fn ordered(view: &View) -> (Vec<Blocking>, HashMap<usize, usize>) {
    let comm = |entry: &view::Blocking| {
        view.targets
            .get(entry.target)
            .map_or("", |target| target.comm.as_str())
    };
    let mut entries: Vec<(usize, u64, Blocking)> = view
        .blocking
        .iter()
        .enumerate()
        .map(|(place, entry)| (place, id::of(comm(entry), entry), convert(entry)))
        .collect();
    entries.sort_by(|(_, hash_a, a), (_, hash_b, b)| {
        Reverse(a.total_ns)
            .cmp(&Reverse(b.total_ns))
            .then_with(|| Reverse(a.count).cmp(&Reverse(b.count)))
            .then_with(|| a.cause.cmp(&b.cause))
            .then_with(|| a.site.function.cmp(&b.site.function))
            .then_with(|| hash_a.cmp(hash_b))
    });
    let mut uses: HashMap<u64, usize> = HashMap::new();
    let mut position = HashMap::new();
    let mut blocking = Vec::with_capacity(entries.len());
    for (place, hash, mut entry) in entries {
        let earlier = uses.entry(hash).or_default();
        entry.id = id::text(hash, *earlier);
        *earlier += 1;
        position.insert(place, blocking.len());
        blocking.push(entry);
    }
    (blocking, position)
}

/// The causes in their final order; `position` tells where the representatives went.
pub(super) fn causes(view: &View, position: &HashMap<usize, usize>) -> Vec<CauseShare> {
    let mut causes: Vec<_> = view.causes.iter().collect();
    causes.sort_by_key(|cause| (Reverse(cause.total_ns), cause.cause));
    causes
        .into_iter()
        .map(|cause| CauseShare {
            cause: cause.cause.as_str().to_owned(),
            share: share(cause.share),
            total_ns: cause.total_ns,
            representative: position.get(&cause.representative).copied(),
        })
        .collect()
}

fn convert(entry: &view::Blocking) -> Blocking {
    let mut tasks: Vec<TaskShare> = entry.tasks.iter().map(TaskShare::from).collect();
    tasks.sort_by(|a, b| {
        (Reverse(a.total_ns), &a.kind, a.id).cmp(&(Reverse(b.total_ns), &b.kind, b.id))
    });
    let mut wakers: Vec<Waker> = entry.wakers.iter().map(Waker::from).collect();
    wakers.sort_by(|a, b| {
        (Reverse(a.count), &a.task, &a.site).cmp(&(Reverse(b.count), &b.task, &b.site))
    });
    Blocking {
        id: String::new(),
        target: entry.target,
        cause: entry.cause.as_str().to_owned(),
        syscall: entry.syscall.clone(),
        wait_reason: entry.wait_reason.clone(),
        resource: entry.resource.as_ref().map(Resource::from),
        legality: entry.legality.as_str().to_owned(),
        legality_evidence: entry.legality_evidence.clone(),
        site: (&entry.site).into(),
        c_call: entry.c_call.as_ref().map(CCall::from),
        stack: entry.stack.iter().map(Frame::from).collect(),
        tasks,
        tasks_total: entry.tasks_total,
        count: entry.count,
        total_ns: entry.total_ns,
        p50_ns: entry.p50_ns,
        p99_ns: entry.p99_ns,
        max_ns: entry.max_ns,
        run_queue_ns: entry.run_queue_ns,
        unfinished: Unfinished {
            count: entry.unfinished.count,
            oldest_ns: entry.unfinished.oldest_ns,
            lower_bound: entry.unfinished.lower_bound,
        },
        wakers,
        probable_holder: entry.holder.as_ref().map(|holder| Holder {
            task: holder.task.clone(),
            site: holder.site.clone(),
            wake_ups: holder.wake_ups,
            of: holder.of,
        }),
        long_poll: entry.long_poll.as_ref().map(LongPoll::from),
    }
}

impl From<&view::TaskShare> for TaskShare {
    fn from(share: &view::TaskShare) -> Self {
        Self {
            kind: share.task.kind.as_str().to_owned(),
            id: share.task.id,
            name: share.name.clone(),
            name_unknown_reason: share.name_unknown.as_ref().map(ToString::to_string),
            scheduler: share.scheduler.map(ToOwned::to_owned),
            copy: share
                .task
                .kind
                .tokio_copy()
                .filter(|copy| *copy > 0)
                .map(|copy| u32::from(copy) + 1),
            created_by: share.created_by.clone(),
            count: share.count,
            total_ns: share.total_ns,
            max_ns: share.max_ns,
        }
    }
}

impl From<&view::Waker> for Waker {
    fn from(waker: &view::Waker) -> Self {
        Self {
            task: waker.task.clone(),
            site: waker.site.clone(),
            count: waker.count,
        }
    }
}
