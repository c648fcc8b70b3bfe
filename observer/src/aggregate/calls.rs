//! Sums over system calls and waits for the network, and their roll-up (tier `syscalls`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::task_shares::{self, TaskPart};
use crate::model::calls::{CallKey, CallRow, NetKey, NetWait, OpenCall, OpenNet};
use crate::model::event::{Identity, Tally, WaitClass};
use crate::model::names::Names;
use crate::model::task::TaskRef;
use crate::model::view::{TaskShare, Unfinished};
use crate::model::{Known, Mono, Pid, Reason, Resource};

/// Tasks that one row lists.
const MAX_TASKS: usize = 20;

/// The sums of a session.
#[derive(Debug, Default)]
pub struct CallLedger {
    calls: HashMap<CallKey, Tally>,
    net: HashMap<NetKey, NetSum>,
    open: Vec<OpenCall>,
    /// The end of the window, for the age of what is open.
    end: Option<Mono>,
}

#[derive(Debug, Clone, Copy, Default)]
struct NetSum {
    tally: Tally,
    open: u64,
    oldest_ns: u64,
}

/// Words for numbers.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// A system call by number.
    pub syscall: fn(u32) -> String,
    /// An error by number.
    pub errno: fn(u32) -> String,
}

impl CallLedger {
    /// Adds sums of calls.
    pub fn add_calls(&mut self, key: CallKey, tally: &Tally) {
        self.calls.entry(key).or_default().merge(tally);
    }

    /// Adds sums of waits for the network.
    pub fn add_net(&mut self, key: NetKey, tally: &Tally) {
        self.net.entry(key).or_default().tally.merge(tally);
    }

    /// Adds what is open at the end of the window.
    pub fn add_open(
        &mut self,
        calls: impl Iterator<Item = OpenCall>,
        net: impl Iterator<Item = OpenNet>,
        end: Mono,
    ) {
        self.end = Some(end);
        self.open.extend(calls);
        for open in net {
            let age = end.since(open.start);
            let sum = self.net.entry(open.key).or_default();
            sum.tally.add(age, 0);
            sum.open += 1;
            sum.oldest_ns = sum.oldest_ns.max(age);
        }
    }

    /// Calls that have not returned.
    pub fn unfinished(&self) -> u64 {
        self.open.len() as u64
    }

    /// Stacks of waits for the network, by process and id in the kernel's stack map, with their time.
    pub fn stacks(&self) -> impl Iterator<Item = (Pid, u32, u64)> {
        self.net
            .iter()
            .filter_map(|(key, sum)| Some((key.pid, key.user_stack?, sum.tally.total_ns)))
    }

    /// Descriptors that were waited for.
    pub fn descriptors(&self) -> HashSet<(Pid, i32)> {
        self.net.keys().map(|key| (key.pid, key.fd)).collect()
    }

    /// Drops what a process did.
    pub fn forget(&mut self, pid: Pid) {
        self.calls.retain(|key, _| key.pid != pid);
        self.net.retain(|key, _| key.pid != pid);
        self.open.retain(|call| call.pid != pid);
    }

    /// System calls by target and name, most time first.
    pub fn calls(&self, names: &dyn Names, words: Words) -> Vec<CallRow> {
        let mut rows: BTreeMap<(usize, u32), CallSums> = BTreeMap::new();
        for (key, tally) in &self.calls {
            let Some(target) = names.target(key.pid) else {
                continue;
            };
            let sums = rows.entry((target, key.nr)).or_default();
            if key.errno != 0 {
                *sums.errors.entry(key.errno).or_default() += tally.count;
            }
            match key.identity {
                Identity::Idle => {
                    sums.idle_count += tally.count;
                    sums.idle_ns += tally.total_ns;
                }
                identity => {
                    sums.tally.merge(tally);
                    sums.tasks.add(identity, key.pid, tally);
                }
            }
        }
        for call in &self.open {
            if let (Some(target), Some(end)) = (names.target(call.pid), self.end) {
                let sums = rows.entry((target, call.nr)).or_default();
                sums.open.count += 1;
                sums.open.oldest_ns = sums.open.oldest_ns.max(end.since(call.start));
            }
        }
        let mut rows: Vec<CallRow> = rows
            .into_iter()
            .map(|((target, nr), sums)| CallRow {
                target,
                syscall: (words.syscall)(nr),
                count: sums.tally.count,
                errors: sums
                    .errors
                    .into_iter()
                    .map(|(errno, n)| ((words.errno)(errno), n))
                    .fold(BTreeMap::new(), |mut errors, (name, n)| {
                        *errors.entry(name).or_default() += n;
                        errors
                    }),
                total_ns: sums.tally.total_ns,
                p50_ns: sums.tally.quantile(0.50),
                p99_ns: sums.tally.quantile(0.99),
                max_ns: sums.tally.max_ns,
                idle_count: sums.idle_count,
                idle_ns: sums.idle_ns,
                unfinished: sums.open,
                tasks_total: sums.tasks.total(),
                tasks: sums.tasks.shares(names),
            })
            .collect();
        rows.sort_by(|a, b| (b.total_ns, &a.syscall).cmp(&(a.total_ns, &b.syscall)));
        rows
    }

    /// Waits for the network by target, call, site and service, most time first.
    pub fn net_waits(&self, names: &dyn Names, words: Words) -> Vec<NetWait> {
        let mut rows: HashMap<NetPlace, NetEntry> = HashMap::new();
        for (key, sum) in &self.net {
            let Some(target) = names.target(key.pid) else {
                continue;
            };
            let resource = names.resource(key.pid, WaitClass::Syscall(key.nr), key.fd as u64);
            let stack = key
                .user_stack
                .and_then(|id| names.kernel_side_stack(Some(key.pid), id));
            let site = stack.map_or(
                Known::Unknown(Reason::new(
                    "the program has no frame pointers, and no stack is copied at each call",
                )),
                |stack| names.site(stack),
            );
            let place = NetPlace {
                target,
                nr: key.nr,
                function: site.known().and_then(|frame| frame.function.clone()),
                service: resource.as_ref().and_then(Resource::called_service),
            };
            let entry = rows.entry(place).or_insert_with(|| NetEntry {
                site,
                resource: resource.clone(),
                tally: Tally::default(),
                open: Unfinished::default(),
                tasks: Tasks::default(),
                descriptors: HashSet::new(),
            });
            if entry.resource != resource {
                entry.resource = super::rollup::common(entry.resource.take(), resource.as_ref());
            }
            entry.tally.merge(&sum.tally);
            entry.open.count += sum.open;
            entry.open.oldest_ns = entry.open.oldest_ns.max(sum.oldest_ns);
            entry.tasks.add(key.identity, key.pid, &sum.tally);
            entry.descriptors.insert((key.pid, key.fd));
        }
        let mut rows: Vec<NetWait> = rows
            .into_iter()
            .map(|(place, entry)| NetWait {
                target: place.target,
                syscall: (words.syscall)(place.nr),
                resource: entry.resource,
                descriptors: entry.descriptors.len() as u64,
                site: entry.site,
                count: entry.tally.count,
                total_ns: entry.tally.total_ns,
                p50_ns: entry.tally.quantile(0.50),
                p99_ns: entry.tally.quantile(0.99),
                max_ns: entry.tally.max_ns,
                unfinished: entry.open,
                tasks_total: entry.tasks.total(),
                tasks: entry.tasks.shares(names),
            })
            .collect();
        rows.sort_by(|a, b| {
            (b.total_ns, &a.syscall, a.target).cmp(&(a.total_ns, &b.syscall, b.target))
        });
        rows
    }
}

/// What makes two sums one row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NetPlace {
    target: usize,
    nr: u32,
    function: Option<Arc<str>>,
    service: Option<String>,
}

#[derive(Debug)]
struct NetEntry {
    site: Known<crate::model::Frame>,
    resource: Option<Resource>,
    tally: Tally,
    open: Unfinished,
    tasks: Tasks,
    descriptors: HashSet<(Pid, i32)>,
}

#[derive(Debug, Default)]
struct CallSums {
    tally: Tally,
    errors: BTreeMap<u32, u64>,
    idle_count: u64,
    idle_ns: u64,
    open: Unfinished,
    tasks: Tasks,
}

/// Sums by task.
#[derive(Debug, Default)]
struct Tasks(HashMap<TaskRef, TaskPart>);

impl Tasks {
    fn add(&mut self, identity: Identity, pid: Pid, tally: &Tally) {
        if let Identity::Task(task) = identity {
            let own = self.0.entry(task);
            own.or_insert_with(|| TaskPart::of(pid)).add(tally, None);
        }
    }

    fn total(&self) -> u64 {
        self.0.len() as u64
    }

    fn shares(self, names: &dyn Names) -> Vec<TaskShare> {
        task_shares::largest(self.0, MAX_TASKS, names)
    }
}
