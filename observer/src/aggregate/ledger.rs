//! Everything that is summed while observing. One owner; nothing is allocated per event, only per
//! new key.

use std::collections::HashMap;

use crate::model::Pid;
use crate::model::event::{Identity, Tally, WaitClass, WaitKey, WakerContext, WakerSeen};
use crate::model::stacks::StackId;

/// Wakers that one row remembers; further ones are counted as others.
const MAX_WAKERS: usize = 32;
/// Different unwound stacks that one row remembers.
const MAX_STACKS: usize = 64;

/// A waker as it is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WakerKey {
    /// Its process.
    pub pid: Pid,
    /// Its task, or its thread when it has none. `None`: an interrupt.
    pub identity: Option<Identity>,
    /// In what context it ran.
    pub context: WakerContext,
    /// Id of its stack in the kernel's stack map.
    pub stack: Option<u32>,
}

/// Sums of one key.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// All its waits.
    pub tally: Tally,
    /// Of those, waits that had not ended when the window did.
    pub open: u64,
    /// Age of the oldest of these.
    pub oldest_open_ns: u64,
    /// The oldest began before the window.
    pub open_lower_bound: bool,
    /// Waits whose own user stack was unwound, by stack.
    pub unwound: HashMap<StackId, Tally>,
    /// Who ended waits, with counts.
    pub wakers: HashMap<WakerKey, u64>,
    /// Wake-ups by wakers that found no room above.
    pub other_wakers: u64,
}

/// What a stack sample stands for: waits of one process in one syscall, from one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleKey {
    /// The process.
    pub pid: Pid,
    /// Why.
    pub class: WaitClass,
    /// File descriptor or futex address.
    pub subject: u64,
    /// User instruction pointer, when the stack was not walked by frame pointers.
    pub user_ip: u64,
    /// Id of the stack as walked by frame pointers.
    pub user_stack: Option<u32>,
}

/// The sums of a session.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: HashMap<WaitKey, Row>,
    samples: HashMap<SampleKey, HashMap<StackId, u64>>,
}

impl Ledger {
    /// Adds a sum from the kernel: this is where all ended waits enter, each once.
    pub fn add_sum(&mut self, key: WaitKey, tally: &Tally) {
        self.rows.entry(key).or_default().tally.merge(tally);
    }

    /// Adds the details of one long wait, whose time is part of the sums already.
    pub fn add_details(
        &mut self,
        key: WaitKey,
        ns: u64,
        run_queue_ns: u64,
        unwound: Option<StackId>,
        waker: Option<WakerKey>,
    ) {
        let row = self.rows.entry(key).or_default();
        if let Some(stack) = unwound
            && (row.unwound.len() < MAX_STACKS || row.unwound.contains_key(&stack))
        {
            row.unwound.entry(stack).or_default().add(ns, run_queue_ns);
        }
        if let Some(waker) = waker {
            if row.wakers.len() < MAX_WAKERS || row.wakers.contains_key(&waker) {
                *row.wakers.entry(waker).or_default() += 1;
            } else {
                row.other_wakers += 1;
            }
        }
    }

    /// Adds a wait that had not ended.
    pub fn add_open(&mut self, key: WaitKey, ns: u64, lower_bound: bool, unwound: Option<StackId>) {
        let row = self.rows.entry(key).or_default();
        row.tally.add(ns, 0);
        row.open += 1;
        if ns >= row.oldest_open_ns {
            row.oldest_open_ns = ns;
            row.open_lower_bound = lower_bound;
        }
        if let Some(stack) = unwound {
            row.unwound.entry(stack).or_default().add(ns, 0);
        }
    }

    /// Counts an unwound stack of a wait that may be too short to be sent by itself.
    pub fn add_sample(&mut self, key: SampleKey, stack: StackId) {
        let stacks = self.samples.entry(key).or_default();
        if stacks.len() < MAX_STACKS || stacks.contains_key(&stack) {
            *stacks.entry(stack).or_default() += 1;
        }
    }

    /// Drops the waits of a process.
    pub fn forget(&mut self, pid: Pid) {
        self.rows.retain(|key, _| key.pid != pid);
        self.samples.retain(|key, _| key.pid != pid);
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = (&WaitKey, &Row)> {
        self.rows.iter()
    }

    /// Stacks that were sampled for waits like this one, with counts.
    pub fn samples(&self, key: &WaitKey) -> Option<&HashMap<StackId, u64>> {
        self.samples.get(&SampleKey {
            pid: key.pid,
            class: key.class,
            subject: key.subject,
            user_ip: key.user_ip,
            user_stack: key.user_stack,
        })
    }

    /// Stacks of wakers, by process and id in the kernel's stack map.
    pub fn waker_stacks(&self) -> std::collections::HashSet<(Pid, u32)> {
        self.rows
            .values()
            .flat_map(|row| row.wakers.keys())
            .filter_map(|waker| Some((waker.pid, waker.stack?)))
            .collect()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl WakerKey {
    /// How a waker that was seen is summed.
    pub fn of(seen: &WakerSeen) -> Self {
        match seen.context {
            WakerContext::Interrupt => Self {
                pid: Pid(0),
                identity: None,
                context: seen.context,
                stack: None,
            },
            context => Self {
                pid: seen.pid,
                identity: seen.identity,
                context,
                stack: seen.user_stack,
            },
        }
    }
}
