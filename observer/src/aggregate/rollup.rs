//! From the ledger to what is shown: rows become entries by cause, site and resource.

use std::collections::HashMap;
use std::sync::Arc;

use super::holders::Holders;
use super::ledger::{Ledger, Row};
use super::parts::{first_user, kernel_stack, parts};
use super::task_shares::{self, TaskPart};
use super::{c_call, describe, legality, waiting};
use crate::model::cause::Cause;
use crate::model::event::{Identity, Tally, WaitClass, WaitKey};
use crate::model::names::{Names, cause_of};
use crate::model::stacks::StackId;
use crate::model::task::{Legality, TaskRef};
use crate::model::view::{Blocking, CauseShare, Unfinished, Waker};
use crate::model::{Frame, FrameKind, Known, Reason, Resource};

/// Tasks that one entry lists.
const MAX_TASKS: usize = 100;
/// Wakers that one entry lists.
const MAX_WAKERS: usize = 10;

/// What the roll-up yields.
#[derive(Debug, Default)]
pub struct Rollup {
    /// Entries, most time first.
    pub blocking: Vec<Blocking>,
    /// The same by cause.
    pub causes: Vec<CauseShare>,
    /// Time of idle runtime threads.
    pub idle_ns: u64,
    /// Blocked time whose task is not known.
    pub unattributed_ns: u64,
    /// Waits that are shown with a stack of other waits instead of what frame pointers gave.
    pub stacks_replaced: u64,
    /// Different tasks per target.
    pub tasks_seen: HashMap<usize, u64>,
}

/// Function, file and line.
type SiteName = (Option<Arc<str>>, Option<Arc<str>>, Option<u32>);

/// What makes two rows one entry.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    target: usize,
    cause: Cause,
    nr: Option<u32>,
    legality: Legality,
    /// Function and line, or why they are not known.
    site: Result<SiteName, Reason>,
    /// The C function that it is in, and the Go function and line that called it.
    c_call: Option<(String, Option<Arc<str>>, Option<u32>)>,
    kind: Option<&'static str>,
    path: Option<String>,
    peer: Option<String>,
}

#[derive(Debug)]
struct Entry {
    tally: Tally,
    open: Unfinished,
    tasks: HashMap<TaskRef, TaskPart>,
    wakers: HashMap<(String, Option<String>), u64>,
    holders: Holders,
    resource: Option<Resource>,
    site: Known<Frame>,
    /// The stack with the most time, and that time.
    stack: Option<(StackPair, u64)>,
    go_running: u64,
    legality: Legality,
    /// The legality is known by what the task is.
    by_type: bool,
}

type StackPair = (Option<StackId>, Option<StackId>);

fn no_stack_reason(key: &WaitKey) -> Reason {
    if key.seeded {
        Reason::new("the stack of a wait from before the observation could not be read")
    } else if key.user_ip != 0 {
        Reason::new(
            "no stack of these waits was sampled, and other tasks wait in the same syscall at several places",
        )
    } else if matches!(key.class, WaitClass::RunQueue) {
        Reason::new("no stack is taken for threads that are ready to run")
    } else {
        Reason::new("no user stack could be taken")
    }
}

/// Rolls a ledger up.
pub fn roll_up(ledger: &Ledger, names: &dyn Names) -> Rollup {
    let mut rollup = Rollup::default();
    let mut entries: HashMap<Place, Entry> = HashMap::new();
    let mut tasks: HashMap<usize, std::collections::HashSet<TaskRef>> = HashMap::new();
    for (key, row) in ledger.rows() {
        let Some(target) = names.target(key.pid) else {
            continue;
        };
        match key.identity {
            Identity::Idle => {
                rollup.idle_ns += row.tally.total_ns;
                continue;
            }
            // Perhaps nobody was blocked there; it was short, or it could have been read.
            Identity::Missed => {
                rollup.unattributed_ns += row.tally.total_ns;
                continue;
            }
            Identity::Unreadable | Identity::Mismatch | Identity::Folded => {
                rollup.unattributed_ns += row.tally.total_ns;
            }
            Identity::Task(task) => {
                tasks.entry(target).or_default().insert(task);
            }
        }
        if row.tally.count == 0 {
            continue;
        }
        add_row(key, row, ledger, names, target, (&mut entries, &mut rollup));
    }
    rollup.tasks_seen = tasks
        .into_iter()
        .map(|(t, set)| (t, set.len() as u64))
        .collect();
    rollup.blocking = entries
        .into_iter()
        .map(|(place, entry)| finish(&place, entry, names))
        .collect();
    rollup.sort();
    rollup
}

impl Rollup {
    /// Adds entries that do not come from waits.
    pub fn extend(&mut self, entries: Vec<Blocking>) {
        self.blocking.extend(entries);
        self.sort();
    }

    fn sort(&mut self) {
        self.blocking.sort_by(|a, b| {
            b.total_ns
                .cmp(&a.total_ns)
                .then_with(|| order(a).cmp(&order(b)))
        });
        self.causes = causes(&self.blocking);
    }
}

/// A stable order among entries with the same time.
fn order(b: &Blocking) -> (usize, Cause, Option<&str>, Option<&str>) {
    let site = b.site.known().and_then(|f| f.function.as_deref());
    (b.target, b.cause, b.syscall.as_deref(), site)
}

fn add_row(
    key: &WaitKey,
    row: &Row,
    ledger: &Ledger,
    names: &dyn Names,
    target: usize,
    (entries, rollup): (&mut HashMap<Place, Entry>, &mut Rollup),
) {
    let resource = names.resource(key.pid, key.class, key.subject);
    let cause = cause_of(key.class, resource.as_ref());
    let kernel = kernel_stack(key, row, ledger, names);
    let nr = match key.class {
        WaitClass::Syscall(nr) => Some(nr),
        _ => None,
    };
    for part in parts(key, row, ledger, names) {
        if part
            .user
            .is_some_and(|stack| waiting::rests(names.frames(stack)))
        {
            rollup.idle_ns += part.tally.total_ns;
            continue;
        }
        rollup.stacks_replaced += part.replaced;
        let site = match part.user {
            Some(stack) => names.site(stack),
            None => Known::Unknown(no_stack_reason(key)),
        };
        let cause = if is_dns(part.user, names) {
            Cause::Dns
        } else {
            cause
        };
        let own = part.user.filter(|_| !part.of_others);
        let legality = legality::of(key, part.user, own, names);
        let place = Place {
            target,
            cause,
            nr,
            legality,
            site: match &site {
                Known::Known(f) => Ok((f.function.clone(), f.file.clone(), f.line)),
                Known::Unknown(reason) => Err(reason.clone()),
            },
            c_call: part
                .user
                .and_then(|stack| c_call::of(names.frames(stack)))
                .map(|call| {
                    let by = call.called_by;
                    (
                        call.function,
                        by.as_ref().and_then(|f| f.function.clone()),
                        by.and_then(|f| f.line),
                    )
                }),
            kind: resource.as_ref().map(|r| r.kind),
            path: resource.as_ref().and_then(|r| r.path.clone()),
            peer: resource.as_ref().and_then(Resource::called_service),
        };
        let entry = entries.entry(place).or_insert_with(|| Entry {
            tally: Tally::default(),
            open: Unfinished::default(),
            tasks: HashMap::new(),
            wakers: HashMap::new(),
            holders: Holders::default(),
            resource: resource.clone(),
            site,
            stack: None,
            go_running: 0,
            legality,
            by_type: legality != key.legality,
        });
        entry.tally.merge(&part.tally);
        if entry.resource != resource {
            entry.resource = common(entry.resource.take(), resource.as_ref());
        }
        if let Identity::Task(task) = key.identity {
            let share = entry.tasks.entry(task);
            share
                .or_insert_with(|| TaskPart::of(key.pid))
                .add(&part.tally, own);
        }
        if key.go_status == Some(2) {
            entry.go_running += part.tally.total_ns;
        }
        if entry.stack.is_none_or(|(_, ns)| part.tally.total_ns > ns) {
            entry.stack = Some(((part.user, kernel), part.tally.total_ns));
        }
        // Open waits and wakers are kept per row: they go to the row's first part.
        if part.user == first_user(key, row, ledger, names) {
            add_shared(entry, row, cause, names);
        }
    }
}

fn add_shared(entry: &mut Entry, row: &Row, cause: Cause, names: &dyn Names) {
    entry.open.count += row.open;
    if row.open > 0 && row.oldest_open_ns >= entry.open.oldest_ns {
        entry.open.oldest_ns = row.oldest_open_ns;
        entry.open.lower_bound = row.open_lower_bound;
    }
    for (waker, count) in &row.wakers {
        let described = describe::waker(waker, cause, names);
        entry.holders.add(waker, &described, *count);
        *entry.wakers.entry(described).or_default() += count;
    }
    if row.other_wakers > 0 {
        *entry
            .wakers
            .entry(("other wakers".to_owned(), None))
            .or_default() += row.other_wakers;
    }
}

fn is_dns(stack: Option<StackId>, names: &dyn Names) -> bool {
    stack.is_some_and(|stack| {
        names.frames(stack).iter().any(|frame| {
            frame.function.as_deref().is_some_and(|f| {
                f == "getaddrinfo" || f.starts_with("__res_") || f.starts_with("net.(*Resolver).")
            })
        })
    })
}

/// What two resources have in common.
pub(super) fn common(a: Option<Resource>, b: Option<&Resource>) -> Option<Resource> {
    Some(a?.common(b?))
}

fn finish(place: &Place, entry: Entry, names: &dyn Names) -> Blocking {
    let running = entry.go_running * 2 > entry.tally.total_ns;
    let legality_evidence = legality::evidence(entry.legality, entry.by_type, running);
    let mut stack = Vec::new();
    if let Some(((user, kernel), _)) = entry.stack {
        if let Some(kernel) = kernel {
            stack.extend_from_slice(names.frames(kernel));
        }
        if let Some(user) = user {
            stack.extend_from_slice(names.frames(user));
        }
    }
    debug_assert!(
        stack
            .windows(2)
            .all(|w| { w[0].kind == FrameKind::Kernel || w[1].kind != FrameKind::Kernel })
    );
    let holder = waiting::may_be_lock(&stack)
        .then(|| entry.holders.probable(place.cause))
        .flatten();
    let tasks_total = entry.tasks.len() as u64;
    let tasks = task_shares::largest(entry.tasks, MAX_TASKS, names);
    let mut wakers: Vec<Waker> = entry
        .wakers
        .into_iter()
        .map(|((task, site), count)| Waker { task, site, count })
        .collect();
    wakers.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.task.cmp(&b.task)));
    wakers.truncate(MAX_WAKERS);
    Blocking {
        target: place.target,
        cause: place.cause,
        syscall: place.nr.map(|nr| names.syscall_name(nr)),
        wait_reason: None,
        resource: entry.resource,
        legality: place.legality,
        legality_evidence,
        site: entry.site,
        c_call: c_call::of(&stack),
        stack,
        tasks,
        tasks_total,
        count: entry.tally.count,
        total_ns: entry.tally.total_ns,
        p50_ns: entry.tally.quantile(0.50),
        p99_ns: entry.tally.quantile(0.99),
        max_ns: entry.tally.max_ns,
        run_queue_ns: entry.tally.run_queue_ns,
        unfinished: entry.open,
        wakers,
        holder,
        long_poll: None,
    }
}

fn causes(blocking: &[Blocking]) -> Vec<CauseShare> {
    let all: u64 = blocking.iter().map(|b| b.total_ns).sum();
    let mut causes: Vec<CauseShare> = Vec::new();
    for (index, entry) in blocking.iter().enumerate() {
        match causes.iter_mut().find(|c| c.cause == entry.cause) {
            Some(cause) => cause.total_ns += entry.total_ns,
            // Entries are sorted, so the first of a cause is its largest.
            None => causes.push(CauseShare {
                cause: entry.cause,
                share: 0.0,
                total_ns: entry.total_ns,
                representative: index,
            }),
        }
    }
    for cause in &mut causes {
        cause.share = if all == 0 {
            0.0
        } else {
            cause.total_ns as f64 / all as f64
        };
    }
    causes.sort_by(|a, b| b.total_ns.cmp(&a.total_ns).then(a.cause.cmp(&b.cause)));
    causes
}
