//! What weighs how much: which entries may be a fault, which of these amount to something, and in
//! which order people should look at them.

use super::phrase;
use crate::export::dto::{Blocking, Report};

/// One wait of this length inside an async poll matters at any share. A poll is expected to end within
/// 100 µs.
const LONG_IN_POLL_NS: u64 = 1_000_000;
/// The same for a lock, a memory page, and a poll that computes: a shorter one now and then is found
/// in healthy programs too, when the holder of a lock loses its CPU.
const LONG_AND_SELDOM_NS: u64 = 10_000_000;
/// One wait of this length of a goroutine or task matters at any share: a person notices it.
const LONG_OF_TASK_NS: u64 = 100_000_000;
/// One wait for a CPU of this length matters at any share. Others' turns are 3 ms at most (Linux 6.12
/// `kernel/sched/fair.c`, `sysctl_sched_base_slice` with its scaling): this is several of them, or a
/// limit of CPU time.
const LONG_FOR_CPU_NS: u64 = 20_000_000;

/// What a blocked entry means, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A blocking call inside an async poll.
    InPoll,
    /// A goroutine or a task whose legality is not known.
    Task,
    /// A thread that runs no task.
    Thread,
    /// A thread that sleeps, or waits for events or connections as an event loop does.
    ForWork,
    /// `spawn_blocking`, `block_in_place`.
    Allowed,
}

impl Rank {
    /// The rank of an entry.
    pub fn of(entry: &Blocking) -> Self {
        match (
            entry.legality.as_str(),
            phrase::kind(entry),
            entry.cause.as_str(),
        ) {
            ("in_poll", ..) => Self::InPoll,
            ("may_block", ..) => Self::Allowed,
            // Go's goroutine that waits for signals does so for its whole life.
            (_, "goroutine", "futex") if waits_for_signals(entry) => Self::ForWork,
            (_, "thread", "epoll" | "accept" | "sleep" | "idle") => Self::ForWork,
            (_, "thread", _) => Self::Thread,
            _ => Self::Task,
        }
    }
}

fn waits_for_signals(entry: &Blocking) -> bool {
    let functions = entry.stack.iter().filter_map(|f| f.function.as_deref());
    functions
        .into_iter()
        .any(|name| name == "os/signal.signal_recv")
}

/// Whether an entry is more than waiting for work, or blocking where that is allowed.
pub fn may_be_fault(report: &Report, entry: &Blocking) -> bool {
    Rank::of(entry) < Rank::ForWork && !is_bystander(report, entry)
}

/// Whether what a thread waits in is also what one without work waits in: a lock, a message, a time.
pub fn is_ambiguous(entry: &Blocking) -> bool {
    match entry.cause.as_str() {
        "futex" | "recv" | "pipe" | "condition" | "channel" | "other" => true,
        "file_io" => is_message_or_lock(entry),
        _ => false,
    }
}

/// Whether a call for files is for none: reads of a terminal, an eventfd, a watch; and for the lock of one.
fn is_message_or_lock(entry: &Blocking) -> bool {
    let lock = matches!(entry.syscall.as_deref(), Some("flock" | "fcntl"));
    let kind = entry.resource.as_ref().map(|resource| &*resource.kind);
    lock || kind.is_some_and(|kind| !matches!(kind, "file" | "path" | "descriptor"))
}

/// Whether this is a library's thread in a program whose tasks are known, and no more is known than
/// that it waits: what it is good for, tasks wait for, and they tell.
pub fn is_bystander(report: &Report, entry: &Blocking) -> bool {
    let tasks_known = report.targets.get(entry.target).is_some_and(|target| {
        let runtime = &target.runtime;
        runtime.degraded.is_none() && matches!(runtime.kind.as_str(), "go" | "tokio")
    });
    tasks_known && Rank::of(entry) == Rank::Thread && is_ambiguous(entry) && !is_for_cpu(entry)
}

/// The part of an entry's time that was spent ready, without a CPU.
pub fn run_queue(entry: &Blocking) -> u64 {
    if entry.cause == "run_queue" {
        entry.total_ns
    } else {
        entry.run_queue_ns.min(entry.total_ns)
    }
}

/// Whether most of an entry's time was spent waiting for a CPU: what it was blocked on is not what
/// took the time.
fn is_for_cpu(entry: &Blocking) -> bool {
    // A call that blocks in a poll gives the CPU away: that it comes back late is its own doing.
    let own_doing = Rank::of(entry) == Rank::InPoll
        && !matches!(
            entry.cause.as_str(),
            "run_queue" | "futex" | "page_fault" | "other"
        );
    run_queue(entry) > entry.total_ns / 2 && !own_doing
}

/// The longest wait of an entry.
fn longest(entry: &Blocking) -> u64 {
    let poll = entry.long_poll.as_ref();
    entry
        .max_ns
        .max(entry.unfinished.oldest_ns)
        .max(poll.map_or(0, |poll| poll.longest_at_least_ns))
}

/// The entry with the most time among those that are wanted.
pub fn largest(report: &Report, wanted: impl Fn(&Blocking) -> bool) -> Option<&Blocking> {
    // They are sorted by time, and the first of equal ones counts.
    report.blocking.iter().find(|entry| wanted(entry))
}

/// The sums that entries are weighed against.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    report: &'a Report,
    /// The length of the window.
    pub window_ns: u64,
    /// The time of all entries that may be a fault.
    pub all_ns: u64,
    /// The part of it that was spent ready, without a CPU.
    pub cpu_ns: u64,
    /// By [`kind_of`]: the time of all entries of a kind.
    sums: [u64; KINDS],
    /// By [`kind_of`]: the largest entry of a kind.
    largest: [u64; KINDS],
}

/// The ranks that may be a fault, and what waits mostly for a CPU.
const KINDS: usize = 4;

/// Which entries are summed up together; `None`: no fault.
fn kind_of(report: &Report, entry: &Blocking) -> Option<usize> {
    match Rank::of(entry) {
        _ if !may_be_fault(report, entry) => None,
        _ if is_for_cpu(entry) => Some(3),
        rank => Some(rank as usize),
    }
}

impl<'a> Weights<'a> {
    /// The sums of a report.
    pub fn of(report: &'a Report) -> Self {
        let mut weights = Self {
            report,
            window_ns: report.window.duration_ns,
            all_ns: 0,
            cpu_ns: 0,
            sums: [0; KINDS],
            largest: [0; KINDS],
        };
        let add = |sum: &mut u64, time| *sum = sum.saturating_add(time);
        for entry in &report.blocking {
            let Some(kind) = kind_of(report, entry) else {
                continue;
            };
            add(&mut weights.all_ns, entry.total_ns);
            add(&mut weights.cpu_ns, run_queue(entry));
            add(&mut weights.sums[kind], entry.total_ns);
            weights.largest[kind] = weights.largest[kind].max(entry.total_ns);
        }
        weights
    }

    /// Whether a sum of time amounts to something: a tenth of the window.
    pub fn is_much(&self, time: u64) -> bool {
        time > 0 && time >= self.window_ns / 10
    }

    /// Whether time without a CPU is a shortage, and most of the blocked time. Below a tenth of the
    /// window it is what a scheduler does.
    pub fn lacks_cpu(&self) -> bool {
        self.cpu_ns > self.all_ns / 2 && self.is_much(self.cpu_ns)
    }

    /// Whether an entry is a possible fault that amounts to something: by one long wait, or as a
    /// part of a sum that is much. A sum, because what blocks on one file after the other has many
    /// entries; a part is the largest one, or a hundredth of the window.
    pub fn matters(&self, entry: &Blocking) -> bool {
        may_be_fault(self.report, entry)
            && (is_long(self.window_ns, entry) || self.is_much_in_sum(entry))
    }

    fn is_much_in_sum(&self, entry: &Blocking) -> bool {
        kind_of(self.report, entry).is_some_and(|kind| {
            let part = self.largest[kind].min(self.window_ns / 100);
            self.is_much(self.sums[kind]) && entry.total_ns >= part
        })
    }

    /// Whether an entry matters only because single waits were long.
    pub fn only_long(&self, entry: &Blocking) -> bool {
        self.matters(entry) && !self.is_much_in_sum(entry)
    }
}

/// Whether one wait alone is a fault.
fn is_long(window_ns: u64, entry: &Blocking) -> bool {
    match Rank::of(entry) {
        Rank::InPoll | Rank::Task if is_for_cpu(entry) => longest(entry) >= LONG_FOR_CPU_NS,
        Rank::InPoll => {
            let often = match entry.cause.as_str() {
                // "other": memory is asked for, under the lock of the address space.
                "futex" | "page_fault" | "other" => {
                    entry.p50_ns >= LONG_IN_POLL_NS && entry.count > 2
                }
                // Few of them are seen, each by a lower bound.
                "long_poll" => entry.total_ns >= window_ns / 100,
                _ => true,
            };
            let limit = if often {
                LONG_IN_POLL_NS
            } else {
                LONG_AND_SELDOM_NS
            };
            longest(entry) >= limit
        }
        Rank::Task => longest(entry) >= LONG_OF_TASK_NS,
        _ => false,
    }
}

/// The entries (as indices into `blocking`) in the order in which people should look at them: what
/// is a fault and amounts to something, most urgent first; then the rest by time, what is allowed
/// last. The verdict is about the first if that matters, and the text form numbers sites in this order.
pub fn order(report: &Report) -> Vec<usize> {
    let weights = Weights::of(report);
    let entries = report.blocking.iter().enumerate();
    let mut order: Vec<_> = entries
        .map(|(i, entry)| (urgency(&weights, entry), i))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

/// What the order is by, before time.
pub fn urgency(weights: &Weights<'_>, entry: &Blocking) -> (u8, Rank) {
    match Rank::of(entry) {
        rank if weights.matters(entry) => (0, rank),
        Rank::Allowed => (2, Rank::Allowed),
        _ => (1, Rank::ForWork),
    }
}
