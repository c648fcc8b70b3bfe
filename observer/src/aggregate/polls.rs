//! Polls and delays of tokio tasks as probes saw them: sums per type, and who waited behind whom.

use std::collections::{HashMap, VecDeque};

use crate::model::event::{DelayEvent, PollEvent, Tally};
use crate::model::{Mono, Pid, Tid};

/// Long polls of one thread that are remembered, to find what a task waited behind.
const MAX_RECENT: usize = 64;
/// Threads whose polls are remembered.
const MAX_THREADS: usize = 4096;
/// Tasks, and pairs of tasks, that are told apart.
const MAX_ROWS: usize = 65_536;

/// A task of one attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PollTask {
    /// The attachment.
    pub slot: u32,
    /// Its type: address of the vtable in the process.
    pub vtable: u64,
    /// Its id.
    pub id: u64,
}

/// Long polls of one task.
#[derive(Debug, Clone, Default)]
pub struct LongPolls {
    /// Their lengths.
    pub tally: Tally,
    /// Of these, blocked in futex calls.
    pub lock_ns: u64,
    /// Of these, off the CPU otherwise.
    pub blocked_ns: u64,
    /// Of these, ready without a CPU.
    pub run_queue_ns: u64,
    /// Polls that had not ended.
    pub open: u64,
}

impl LongPolls {
    fn add(&mut self, poll: &PollEvent) {
        self.tally.add(poll.end.since(poll.start), 0);
        self.lock_ns = self.lock_ns.saturating_add(poll.lock_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(poll.blocked_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_add(poll.run_queue_ns);
    }

    /// Adds the polls of another task.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.lock_ns = self.lock_ns.saturating_add(other.lock_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_add(other.run_queue_ns);
        self.open += other.open;
    }
}

/// What a task waited behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Behind {
    /// A poll on the worker that then polled it.
    Poll(PollTask),
    /// A poll on another worker, while the one that then polled it had none.
    Elsewhere(PollTask),
    /// The worker that then polled it was ready to run, but had no CPU.
    NoCpu,
    /// None of these: many short polls, for one.
    Nothing,
}

/// Delays of one task behind one thing.
#[derive(Debug, Clone, Default)]
pub struct Delays {
    /// Their lengths.
    pub tally: Tally,
    /// For how much of that time the poll that they waited behind lasted.
    pub overlap_ns: u64,
}

/// Sums over a session.
#[derive(Debug, Default)]
pub struct PollLedger {
    long: HashMap<PollTask, LongPolls>,
    delays: HashMap<(PollTask, Behind), Delays>,
    recent: HashMap<(Pid, Tid), VecDeque<PollEvent>>,
    no_cpu: HashMap<(Pid, Tid), VecDeque<(Mono, Mono)>>,
    folded: u64,
}

impl PollLedger {
    /// Adds a long poll that ended.
    pub fn add_poll(&mut self, poll: &PollEvent) {
        self.sum(poll);
        self.remember(poll);
    }

    /// Adds a poll that had not ended.
    pub fn add_open(&mut self, poll: &PollEvent) {
        if let Some(long) = self.sum(poll) {
            long.open += 1;
        }
        self.remember(poll);
    }

    fn sum(&mut self, poll: &PollEvent) -> Option<&mut LongPolls> {
        let task = task_of(poll);
        if self.long.len() >= MAX_ROWS && !self.long.contains_key(&task) {
            self.folded += 1;
            return None;
        }
        let long = self.long.entry(task).or_default();
        long.add(poll);
        Some(long)
    }

    fn remember(&mut self, poll: &PollEvent) {
        let thread = (poll.pid, poll.tid);
        if self.recent.len() >= MAX_THREADS && !self.recent.contains_key(&thread) {
            return;
        }
        let recent = self.recent.entry(thread).or_default();
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(*poll);
    }

    /// A thread was ready to run from `from` to `to`, but had no CPU.
    pub fn add_no_cpu(&mut self, pid: Pid, tid: Tid, from: Mono, to: Mono) {
        if self.no_cpu.len() >= MAX_THREADS && !self.no_cpu.contains_key(&(pid, tid)) {
            return;
        }
        let recent = self.no_cpu.entry((pid, tid)).or_default();
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back((from, to));
    }

    /// Adds a long delay, behind what lasted for most of it.
    pub fn add_delay(&mut self, delay: &DelayEvent) {
        let (behind, overlap) = self.behind(delay);
        let task = PollTask {
            slot: delay.slot,
            vtable: delay.vtable,
            id: delay.id,
        };
        let key = (task, behind);
        if self.delays.len() >= MAX_ROWS && !self.delays.contains_key(&key) {
            self.folded += 1;
            return;
        }
        let row = self.delays.entry(key).or_default();
        row.tally.add(delay.polled.since(delay.woken), 0);
        row.overlap_ns = row.overlap_ns.saturating_add(overlap);
    }

    fn behind(&self, delay: &DelayEvent) -> (Behind, u64) {
        let half = delay.polled.since(delay.woken) / 2;
        let own = self.recent.get(&(delay.pid, delay.tid));
        if let Some((poll, overlap)) = longest(own.into_iter().flatten(), delay)
            && overlap >= half
        {
            return (Behind::Poll(task_of(poll)), overlap);
        }
        let no_cpu = self.no_cpu.get(&(delay.pid, delay.tid));
        let without: u64 = no_cpu
            .into_iter()
            .flatten()
            .map(|(from, to)| (*to).min(delay.polled).since((*from).max(delay.woken)))
            .sum();
        if without >= half {
            return (Behind::NoCpu, without);
        }
        let others = self
            .recent
            .iter()
            .filter(|((pid, tid), _)| *pid == delay.pid && *tid != delay.tid)
            .flat_map(|(_, recent)| recent);
        match longest(others, delay) {
            Some((poll, overlap)) if overlap >= half => (Behind::Elsewhere(task_of(poll)), overlap),
            _ => (Behind::Nothing, 0),
        }
    }

    /// Long polls by task.
    pub fn long(&self) -> impl Iterator<Item = (&PollTask, &LongPolls)> {
        self.long.iter()
    }

    /// Long delays by task and what it waited behind.
    pub fn delays(&self) -> impl Iterator<Item = (&(PollTask, Behind), &Delays)> {
        self.delays.iter()
    }

    /// Long polls and delays for which there was no room.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

fn task_of(poll: &PollEvent) -> PollTask {
    PollTask {
        slot: poll.slot,
        vtable: poll.vtable,
        id: poll.id,
    }
}

/// The poll that lasted for most of a delay, and for how much of it.
fn longest<'a>(
    polls: impl Iterator<Item = &'a PollEvent>,
    delay: &DelayEvent,
) -> Option<(&'a PollEvent, u64)> {
    let overlap = |poll: &PollEvent| {
        let from: Mono = poll.start.max(delay.woken);
        poll.end.min(delay.polled).since(from)
    };
    polls
        .map(|poll| (poll, overlap(poll)))
        .filter(|(_, overlap)| *overlap > 0)
        .max_by_key(|(poll, overlap)| (*overlap, std::cmp::Reverse((poll.tid, poll.start))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(tid: u32, id: u64, start: u64, end: u64) -> PollEvent {
        PollEvent {
            pid: Pid(1),
            tid: Tid(tid),
            slot: 0,
            id,
            vtable: 100,
            start: Mono(start),
            end: Mono(end),
            lock_ns: 1,
            blocked_ns: 2,
            run_queue_ns: 3,
        }
    }

    fn delay(tid: u32, woken: u64, polled: u64) -> DelayEvent {
        DelayEvent {
            pid: Pid(1),
            tid: Tid(tid),
            slot: 0,
            id: 9,
            vtable: 200,
            woken: Mono(woken),
            polled: Mono(polled),
        }
    }

    fn behind(ledger: &PollLedger) -> Vec<(Behind, u64)> {
        let mut all: Vec<_> = ledger
            .delays()
            .map(|((_, behind), delays)| (*behind, delays.overlap_ns))
            .collect();
        all.sort_unstable();
        all
    }

    const fn task(id: u64) -> PollTask {
        PollTask {
            slot: 0,
            vtable: 100,
            id,
        }
    }

    #[test]
    fn a_task_waits_behind_the_poll_that_lasted_for_most_of_its_delay() {
        let mut ledger = PollLedger::default();
        ledger.add_poll(&poll(5, 1, 0, 1000));
        ledger.add_poll(&poll(5, 2, 1000, 1100));
        ledger.add_delay(&delay(5, 400, 1150));
        assert_eq!(behind(&ledger), [(Behind::Poll(task(1)), 600)]);
    }

    #[test]
    fn else_behind_a_poll_on_another_worker_or_behind_nothing_in_particular() {
        let mut ledger = PollLedger::default();
        ledger.add_poll(&poll(6, 3, 0, 1000));
        ledger.add_delay(&delay(5, 400, 1100));
        assert_eq!(behind(&ledger), [(Behind::Elsewhere(task(3)), 600)]);
        let mut ledger = PollLedger::default();
        ledger.add_poll(&poll(5, 1, 0, 500));
        ledger.add_delay(&delay(5, 400, 1100));
        assert_eq!(behind(&ledger), [(Behind::Nothing, 0)]);
    }

    #[test]
    fn a_worker_without_a_cpu_delays_what_it_would_poll() {
        let mut ledger = PollLedger::default();
        ledger.add_no_cpu(Pid(1), Tid(5), Mono(300), Mono(900));
        ledger.add_delay(&delay(5, 400, 1000));
        assert_eq!(behind(&ledger), [(Behind::NoCpu, 500)]);
    }

    #[test]
    fn open_polls_count_and_split() {
        let mut ledger = PollLedger::default();
        ledger.add_poll(&poll(5, 1, 0, 1000));
        ledger.add_open(&poll(5, 1, 2000, 2500));
        let (_, long) = ledger.long().next().unwrap();
        assert_eq!(
            (long.tally.count, long.tally.total_ns, long.open),
            (2, 1500, 1)
        );
        assert_eq!(
            (long.lock_ns, long.blocked_ns, long.run_queue_ns),
            (2, 4, 6)
        );
    }
}
