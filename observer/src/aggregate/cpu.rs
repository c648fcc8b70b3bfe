//! What the sampling clock saw: who was on a CPU where, and polls that kept their worker.

use std::collections::HashMap;

use crate::model::event::{CpuSampleEvent, HoldEvent, Identity, Tally};
use crate::model::stacks::StackId;
use crate::model::task::Legality;
use crate::model::{Mono, Pid, Tid};

/// Different tasks and stacks that are told apart; samples beyond are counted, not placed.
const MAX_ROWS: usize = 65_536;
/// Threads whose last samples are remembered.
const MAX_THREADS: usize = 4_096;
/// Samples of one thread that are remembered, to find the stack of a poll by.
const MAX_RECENT: usize = 1_024;

/// A stack of a running thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CpuStack {
    /// The kernel keeps it under this id.
    Kernel(u32),
    /// It was unwound here.
    Own(StackId),
}

/// What samples are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuKey {
    /// The process.
    pub pid: Pid,
    /// Who ran.
    pub identity: Identity,
    /// Whether it was inside a poll.
    pub legality: Legality,
    /// Where.
    pub stack: CpuStack,
}

/// Samples of one key.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuRow {
    /// All.
    pub samples: u64,
    /// Of these, inside a call into the kernel.
    pub in_kernel: u64,
}

/// What long polls are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HoldKey {
    /// The process.
    pub pid: Pid,
    /// Whose polls.
    pub identity: Identity,
    /// Where most samples of the poll were; `None`: not known.
    pub stack: Option<CpuStack>,
}

/// Long polls of one key.
#[derive(Debug, Clone, Default)]
pub struct HoldRow {
    /// How long each was on a CPU at least.
    pub on_cpu: Tally,
    /// How long they lasted at least, in all.
    pub at_least_ns: u64,
    /// How long they lasted at most within the observation, in all.
    pub at_most_ns: u64,
    /// The longest: how long it lasted at least and at most.
    pub longest: (u64, Option<u64>),
    /// Of `at_least_ns`, blocked.
    pub blocked_ns: u64,
    /// Of `at_least_ns`, ready without a CPU.
    pub run_queue_ns: u64,
    /// Ticks that saw them.
    pub samples: u64,
    /// Polls that had not ended.
    pub open: u64,
    /// The longest of these, at least.
    pub oldest_open_ns: u64,
    /// It may have begun before the observation.
    pub open_lower_bound: bool,
}

/// Sums over a session.
#[derive(Debug, Default)]
pub struct CpuLedger {
    rows: HashMap<CpuKey, CpuRow>,
    holds: HashMap<HoldKey, HoldRow>,
    recent: HashMap<(Pid, Tid), Vec<(Mono, CpuStack)>>,
    samples: HashMap<Pid, u64>,
    unplaced: u64,
}

impl CpuLedger {
    /// Counts a sample.
    pub fn add_sample(&mut self, sample: &CpuSampleEvent<'_>, stack: CpuStack) {
        *self.samples.entry(sample.pid).or_default() += 1;
        let key = CpuKey {
            pid: sample.pid,
            identity: sample.identity,
            legality: sample.legality,
            stack,
        };
        if self.rows.len() < MAX_ROWS || self.rows.contains_key(&key) {
            let row = self.rows.entry(key).or_default();
            row.samples += 1;
            row.in_kernel += u64::from(sample.in_kernel);
        } else {
            self.unplaced += 1;
        }
        if sample.legality != Legality::InPoll {
            return;
        }
        let thread = (sample.pid, sample.tid);
        if self.recent.len() < MAX_THREADS || self.recent.contains_key(&thread) {
            let recent = self.recent.entry(thread).or_default();
            if recent.len() == MAX_RECENT {
                recent.drain(..MAX_RECENT / 2);
            }
            recent.push((sample.at, stack));
        }
    }

    /// Adds a poll that kept its worker.
    /// Its time counts from `start`, the begin of the observation, to `end` when it has not ended.
    pub fn add_hold(&mut self, hold: &HoldEvent, start: Mono, end: Mono) {
        let mut stacks: HashMap<CpuStack, u64> = HashMap::new();
        if let Some(recent) = self.recent.get_mut(&(hold.pid, hold.tid)) {
            for (at, stack) in recent.iter() {
                if (hold.first..=hold.last).contains(at) {
                    *stacks.entry(*stack).or_default() += 1;
                }
            }
            recent.retain(|(at, _)| *at > hold.last);
        }
        let stack = stacks
            .into_iter()
            .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)))
            .map(|(stack, _)| stack);
        let mut key = HoldKey {
            pid: hold.pid,
            identity: hold.identity,
            stack,
        };
        if self.holds.len() >= MAX_ROWS && !self.holds.contains_key(&key) {
            key.identity = Identity::Folded;
            key.stack = None;
        }
        let within = hold
            .after
            .unwrap_or(end)
            .since(hold.before.unwrap_or(start));
        self.holds.entry(key).or_default().add(hold, within);
    }

    /// Drops what was seen of a process.
    pub fn forget(&mut self, pid: Pid) {
        self.rows.retain(|key, _| key.pid != pid);
        self.holds.retain(|key, _| key.pid != pid);
        self.recent.retain(|(of, _), _| *of != pid);
        self.samples.remove(&pid);
    }

    /// Samples by task and stack.
    pub fn rows(&self) -> impl Iterator<Item = (&CpuKey, &CpuRow)> {
        self.rows.iter()
    }

    /// Long polls.
    pub fn holds(&self) -> impl Iterator<Item = (&HoldKey, &HoldRow)> {
        self.holds.iter()
    }

    /// All samples of a process.
    pub fn samples(&self, pid: Pid) -> u64 {
        self.samples.get(&pid).copied().unwrap_or(0)
    }

    /// Samples for which there was no room.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }
}

impl HoldRow {
    fn add(&mut self, hold: &HoldEvent, within_ns: u64) {
        let (least, most) = (hold.at_least_ns(), hold.at_most_ns());
        self.on_cpu.add(hold.on_cpu_ns(), 0);
        self.at_least_ns = self.at_least_ns.saturating_add(least);
        self.at_most_ns = self.at_most_ns.saturating_add(within_ns.max(least));
        if least >= self.longest.0 {
            self.longest = (least, most);
        }
        self.blocked_ns = self.blocked_ns.saturating_add(hold.blocked_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_add(hold.run_queue_ns);
        self.samples += u64::from(hold.samples);
        if hold.after.is_none() {
            self.open += 1;
            if least >= self.oldest_open_ns {
                self.oldest_open_ns = least;
                self.open_lower_bound = hold.before.is_none();
            }
        }
    }

    /// Adds the polls of another row.
    pub fn merge(&mut self, other: &Self) {
        self.on_cpu.merge(&other.on_cpu);
        self.at_least_ns = self.at_least_ns.saturating_add(other.at_least_ns);
        self.at_most_ns = self.at_most_ns.saturating_add(other.at_most_ns);
        self.longest = self.longest.max(other.longest);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_add(other.run_queue_ns);
        self.samples += other.samples;
        self.open += other.open;
        if other.open > 0 && other.oldest_open_ns >= self.oldest_open_ns {
            self.oldest_open_ns = other.oldest_open_ns;
            self.open_lower_bound = other.open_lower_bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::{TaskKind, TaskRef};

    const TASK: Identity = Identity::Task(TaskRef {
        kind: TaskKind::TokioTask,
        id: 7,
    });

    fn hold(first: u64, last: u64, before: Option<u64>, after: Option<u64>) -> HoldEvent {
        HoldEvent {
            pid: Pid(1),
            tid: Tid(2),
            identity: TASK,
            first: Mono(first),
            last: Mono(last),
            before: before.map(Mono),
            after: after.map(Mono),
            blocked_ns: 10,
            run_queue_ns: 5,
            samples: 2,
        }
    }

    fn sample(at: u64) -> CpuSampleEvent<'static> {
        CpuSampleEvent {
            pid: Pid(1),
            tid: Tid(2),
            at: Mono(at),
            identity: TASK,
            legality: Legality::InPoll,
            in_kernel: false,
            ip: 1,
            sp: 0,
            bp: 0,
            user_stack: Some(9),
            bytes: &[],
        }
    }

    #[test]
    fn a_poll_is_placed_where_most_of_its_own_samples_were() {
        let mut ledger = CpuLedger::default();
        for (at, stack) in [(50, 1), (110, 2), (120, 3), (130, 3)] {
            ledger.add_sample(&sample(at), CpuStack::Kernel(stack));
        }
        ledger.add_hold(&hold(100, 140, Some(90), Some(150)), Mono(0), Mono(999));
        let (key, row) = ledger.holds().next().unwrap();
        assert_eq!(key.stack, Some(CpuStack::Kernel(3)));
        assert_eq!((row.at_least_ns, row.at_most_ns), (40, 60));
        assert_eq!(row.on_cpu.total_ns, 25);
        assert_eq!(ledger.samples(Pid(1)), 4);
        // The samples are used up: a later poll of the thread has none of them.
        ledger.add_hold(&hold(101, 141, Some(90), Some(150)), Mono(0), Mono(999));
        assert!(ledger.holds().any(|(key, _)| key.stack.is_none()));
    }

    #[test]
    fn a_poll_whose_ends_were_not_seen_is_bounded_by_the_observation() {
        let mut ledger = CpuLedger::default();
        ledger.add_hold(&hold(100, 140, None, Some(150)), Mono(60), Mono(320));
        ledger.add_hold(&hold(200, 300, Some(190), None), Mono(60), Mono(320));
        let (_, row) = ledger.holds().next().unwrap();
        assert_eq!((row.at_most_ns, row.open), (90 + 130, 1));
        assert_eq!((row.longest, row.oldest_open_ns), ((100, None), 100));
        assert!(!row.open_lower_bound);
    }
}
