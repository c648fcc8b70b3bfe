//! When every worker of a runtime was held inside a poll at once.

use std::collections::HashMap;

use crate::model::{Mono, Pid, Tid};

/// Stretches that are remembered.
const MAX_STRETCHES: usize = 262_144;

/// Stretches for which threads were inside one poll: blocked, or seen computing.
#[derive(Debug, Default)]
pub struct HeldLedger {
    stretches: HashMap<(Pid, Tid), Vec<(Mono, Mono)>>,
    count: usize,
    left_out: u64,
}

/// Time for which all of some threads were held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllHeld {
    /// In all.
    pub total_ns: u64,
    /// The longest stretch.
    pub longest_ns: u64,
    /// Stretches.
    pub count: u64,
}

impl HeldLedger {
    /// A thread was in one poll from `from` to `to`.
    pub fn add(&mut self, pid: Pid, tid: Tid, from: Mono, to: Mono) {
        if to <= from {
            return;
        }
        if self.count >= MAX_STRETCHES {
            self.left_out += 1;
            return;
        }
        self.count += 1;
        self.stretches
            .entry((pid, tid))
            .or_default()
            .push((from, to));
    }

    /// Drops what was seen of a process.
    pub fn forget(&mut self, pid: Pid) {
        self.stretches.retain(|(of, _), _| *of != pid);
    }

    /// Stretches for which there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// For how long all of `threads` were held at once.
    pub fn all_held(&self, pid: Pid, threads: &[Tid]) -> AllHeld {
        let mut steps: Vec<(Mono, i32)> = Vec::new();
        for tid in threads {
            let Some(stretches) = self.stretches.get(&(pid, *tid)) else {
                return AllHeld::default();
            };
            for (from, to) in united(stretches.clone()) {
                steps.extend([(from, 1), (to, -1)]);
            }
        }
        // At equal times ends come first: stretches that only touch do not overlap.
        steps.sort_unstable();
        let (mut held, mut since, mut found) = (0, Mono(0), AllHeld::default());
        let all = i32::try_from(threads.len()).unwrap_or(i32::MAX);
        for (at, step) in steps {
            if held == all && all > 0 {
                let ns = at.since(since);
                found.total_ns += ns;
                found.longest_ns = found.longest_ns.max(ns);
                found.count += u64::from(ns > 0);
            }
            held += step;
            since = at;
        }
        found
    }
}

/// Overlapping stretches of one thread as one.
fn united(mut stretches: Vec<(Mono, Mono)>) -> Vec<(Mono, Mono)> {
    stretches.sort_unstable();
    let mut united: Vec<(Mono, Mono)> = Vec::with_capacity(stretches.len());
    for (from, to) in stretches {
        match united.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => united.push((from, to)),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(stretches: &[(u32, u64, u64)]) -> HeldLedger {
        let mut ledger = HeldLedger::default();
        for (tid, from, to) in stretches {
            ledger.add(Pid(1), Tid(*tid), Mono(*from), Mono(*to));
        }
        ledger
    }

    fn held(stretches: &[(u32, u64, u64)]) -> (u64, u64, u64) {
        let all = ledger(stretches).all_held(Pid(1), &[Tid(1), Tid(2)]);
        (all.total_ns, all.longest_ns, all.count)
    }

    #[test]
    fn only_what_all_threads_share_counts() {
        assert_eq!(held(&[(1, 0, 100)]), (0, 0, 0));
        assert_eq!(held(&[(1, 0, 100), (2, 60, 150)]), (40, 40, 1));
        assert_eq!(held(&[(1, 0, 100), (2, 10, 20), (2, 50, 90)]), (50, 40, 2));
        // Touching is not overlapping.
        assert_eq!(held(&[(1, 0, 100), (2, 100, 150)]), (0, 0, 0));
    }

    #[test]
    fn a_wait_inside_a_poll_does_not_count_twice() {
        assert_eq!(
            held(&[(1, 0, 100), (1, 20, 40), (1, 90, 120), (2, 0, 110)]),
            (110, 110, 1)
        );
    }
}
