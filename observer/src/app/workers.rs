//! The workers of runtimes: what each did with its time, and when all were held at once.

use std::collections::{BTreeMap, HashMap};

use observer_common::events::hold::Thread;
use observer_common::events::inflight::InFlight;
use observer_common::task::{TASK_HAS_ENTERED, TASK_IDLE};

use super::session::Session;
use super::target::Target;
use crate::aggregate::workers::HeldLedger;
use crate::model::workers::{Worker, WorkerGroup};
use crate::model::{Known, Mono, Pid, Reason, Tid};
use crate::probes::maps::Maps;
use crate::runtimes::reading::NOT_ENTERED;
use crate::runtimes::tokio::{RuntimeOf, ThreadBase, runtimes_of};
use crate::runtimes::{RuntimeKind, TaskReader};

/// Threads whose times are kept.
const MAX_THREADS: usize = 65_536;

/// A thread that was seen inside a tokio runtime.
#[derive(Debug, Clone, Copy)]
struct Seen {
    thread: Thread,
    /// It was inside one when it was last looked at.
    inside: bool,
}

/// What was last known of each thread that was seen inside a tokio runtime.
#[derive(Debug, Default)]
pub struct Workers {
    threads: HashMap<(Pid, Tid), Seen>,
    /// Which runtime each belongs to, while its process lived.
    runtimes: HashMap<Pid, Known<BTreeMap<Tid, RuntimeOf>>>,
    left_out: u64,
}

impl Workers {
    /// Copies the kernel side's times. `now`: also what is under way.
    pub fn collect(&mut self, maps: &Maps, now: Option<Mono>) {
        for (tid, entry) in maps.entries() {
            let mut thread = entry.thread;
            if thread.fsbase == 0 {
                continue;
            }
            if let Some(now) = now {
                add_open(&mut thread, &entry, now);
            }
            let key = (Pid(entry.key.tgid), Tid(tid));
            if self.threads.len() < MAX_THREADS || self.threads.contains_key(&key) {
                let inside = inside(&entry);
                self.threads.insert(key, Seen { thread, inside });
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Finds out which runtime the threads of a target belong to.
    pub fn look(&mut self, target: &Target) {
        let pid = target.process.id.pid;
        let Known::Known(TaskReader::Tokio(readers)) = &target.reader else {
            return;
        };
        let Some((_, reader)) = readers.iter().next() else {
            return;
        };
        let bases: Vec<ThreadBase> = self
            .threads
            .iter()
            .filter(|((of, _), _)| *of == pid)
            .map(|((_, tid), seen)| ThreadBase {
                tid: *tid,
                base: seen.thread.fsbase,
            })
            .collect();
        if bases.is_empty() {
            return;
        }
        let found = if readers.iter().count() > 1 {
            Known::Unknown(Reason::new("the process has several copies of tokio"))
        } else {
            runtimes_of(reader, &bases, &target.memory())
        };
        // What was found once stays: threads that end later can not be looked at again.
        if let (Some(Known::Known(before)), Known::Known(now)) =
            (self.runtimes.get_mut(&pid), &found)
        {
            before.extend(now.iter().map(|(tid, of)| (*tid, *of)));
        } else if found.known().is_some() || !self.runtimes.contains_key(&pid) {
            self.runtimes.insert(pid, found);
        }
    }

    /// The workers of a target, by runtime.
    pub fn groups(&self, index: usize, target: &Target, held: &HeldLedger) -> Vec<WorkerGroup> {
        let pid = target.process.id.pid;
        let mut groups: BTreeMap<Option<RuntimeOf>, Vec<(Tid, &Seen)>> = BTreeMap::new();
        let runtimes = self.runtimes.get(&pid);
        for ((of, tid), seen) in &self.threads {
            if *of != pid {
                continue;
            }
            let runtime = runtimes
                .and_then(Known::known)
                .and_then(|all| all.get(tid).copied());
            // The thread that drives a future with block_on is a worker in one kind of runtime only.
            let launcher = seen.thread.launcher;
            if launcher == 0 && runtime.is_none_or(|runtime| !runtime.current_thread) {
                continue;
            }
            groups.entry(runtime).or_default().push((*tid, seen));
        }
        let groups = groups.into_iter().map(|(runtime, mut threads)| {
            threads.sort_by_key(|(tid, _)| *tid);
            let (now, before): (Vec<_>, Vec<_>) =
                threads.into_iter().partition(|(_, seen)| seen.inside);
            let tids: Vec<Tid> = now.iter().map(|(tid, _)| *tid).collect();
            let all = held.all_held(pid, &tids);
            WorkerGroup {
                target: index,
                kind: match (runtime, runtimes) {
                    (Some(of), _) if of.current_thread => Known::Known("current_thread"),
                    (Some(_), _) => Known::Known("multi_thread"),
                    (None, Some(Known::Unknown(reason))) => Known::Unknown(reason.clone()),
                    (None, _) => {
                        Known::unknown("these threads ended before their runtime was read")
                    }
                },
                workers: workers(&now, target),
                former: workers(&before, target),
                all_held_ns: all.total_ns,
                all_held_longest_ns: all.longest_ns,
                all_held_count: all.count,
            }
        });
        groups.collect()
    }
}

fn workers(threads: &[(Tid, &Seen)], target: &Target) -> Vec<Worker> {
    let worker = |(tid, Seen { thread, .. }): &(Tid, &Seen)| Worker {
        tid: tid.0,
        name: target.thread_names.get(tid).cloned(),
        on_cpu_ns: thread.on_cpu_ns,
        held_ns: thread.held_ns,
        run_queue_ns: thread.run_queue_ns,
        idle_ns: thread.idle_ns,
        other_ns: thread.other_ns,
    };
    threads.iter().map(worker).collect()
}

/// Whether a thread is inside a runtime: as its last switch showed it, or a tick of the sampling clock
/// since, if that saw a poll. It is outside in `block_in_place`, where another thread has taken over its
/// tasks, and when it serves the blocking pool.
fn inside(entry: &InFlight) -> bool {
    let task = &entry.key.task;
    let outside = task.flags & TASK_HAS_ENTERED != 0 && task.detail == NOT_ENTERED;
    entry.thread.hold.first != 0 || !outside
}

/// Adds what a thread is in the middle of.
fn add_open(thread: &mut Thread, entry: &InFlight, now: Mono) {
    if entry.start == 0 {
        if thread.since != 0 {
            thread.on_cpu_ns += now.0.saturating_sub(thread.since);
        }
        return;
    }
    let ready = if entry.woken != 0 { entry.woken } else { now.0 };
    let off = ready.saturating_sub(entry.start);
    thread.run_queue_ns += now.0.saturating_sub(ready);
    if entry.key.task.flags & TASK_IDLE != 0 {
        thread.idle_ns += off;
    } else if thread.hold.first != 0 {
        thread.held_ns += off;
    } else {
        thread.other_ns += off;
    }
}

impl Session {
    /// Keeps what is known of workers, at each sweep.
    pub(super) fn collect_workers(&mut self, now: Option<Mono>) {
        self.workers.collect(&self.maps, now);
        for target in self.targets.iter_mut().filter(|t| t.ended.is_none()) {
            self.workers.look(target);
            let pid = target.process.id.pid;
            let tids = self.workers.threads.keys().filter(|(of, _)| *of == pid);
            let tids: Vec<Tid> = tids.map(|(_, tid)| *tid).collect();
            for tid in tids {
                target.learn_thread(tid);
            }
        }
    }

    /// Looks for workers until there are some: a process may end soon.
    pub(super) fn find_workers(&mut self) {
        let wanted = self.targets.iter().any(|t| t.runtime == RuntimeKind::Tokio);
        if wanted && self.workers.threads.is_empty() {
            self.collect_workers(None);
        }
    }
}
