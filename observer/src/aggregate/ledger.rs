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
    /// Kernel stacks that were sampled for its waits, by id in the kernel's stack map, with counts.
    pub kernel_stacks: HashMap<u32, u64>,
    /// Who ended waits, with counts.
    pub wakers: HashMap<WakerKey, u64>,
    /// Wake-ups by wakers that found no room above.
    pub other_wakers: u64,
}

/// What a stack sample stands for: waits of one task in one syscall, from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SampleKey {
    /// The process.
    pub pid: Pid,
    /// Who waits.
    pub identity: Identity,
    /// Why.
    pub class: WaitClass,
    /// File descriptor or futex address.
    pub subject: u64,
    /// User instruction pointer, when the stack was not walked by frame pointers.
    pub user_ip: u64,
    /// Id of the stack as walked by frame pointers.
    pub user_stack: Option<u32>,
}

impl SampleKey {
    /// The samples that belong to a row.
    pub fn of(key: &WaitKey) -> Self {
        Self {
            pid: key.pid,
            identity: key.identity,
            class: key.class,
            subject: key.subject,
            user_ip: key.user_ip,
            user_stack: key.user_stack,
        }
    }

    /// The same for all tasks of the process.
    fn of_all_tasks(self) -> Self {
        Self {
            identity: Identity::Folded,
            ..self
        }
    }
}

/// Stacks that were sampled under one key.
#[derive(Debug, Clone, Default)]
pub struct Sampled {
    /// User stacks with counts.
    pub user: HashMap<StackId, u64>,
    /// Kernel stacks, by id in the kernel's stack map, with counts.
    pub kernel: HashMap<u32, u64>,
}

impl Sampled {
    fn add(&mut self, user: StackId, kernel: Option<u32>, weight: u64) {
        if self.user.len() < MAX_STACKS || self.user.contains_key(&user) {
            *self.user.entry(user).or_default() += weight;
        }
        if let Some(kernel) = kernel
            && (self.kernel.len() < MAX_STACKS || self.kernel.contains_key(&kernel))
        {
            *self.kernel.entry(kernel).or_default() += weight;
        }
    }
}

/// The sums of a session.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: HashMap<WaitKey, Row>,
    samples: HashMap<SampleKey, Sampled>,
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

    /// Counts the stacks of one wait, which may be too short to be sent by itself and stands for `weight`
    /// waits.
    pub fn add_sample(&mut self, key: SampleKey, user: StackId, kernel: Option<u32>, weight: u64) {
        for key in [key, key.of_all_tasks()] {
            let sampled = self.samples.entry(key).or_default();
            sampled.add(user, kernel, weight);
        }
    }

    /// Counts the kernel stack of a wait that has a row.
    pub fn add_kernel_stack(&mut self, key: WaitKey, kernel: u32) {
        let stacks = &mut self.rows.entry(key).or_default().kernel_stacks;
        if stacks.len() < MAX_STACKS || stacks.contains_key(&kernel) {
            *stacks.entry(kernel).or_default() += 1;
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

    /// Stacks that were sampled for waits of the same task at the same place.
    pub fn samples(&self, key: &WaitKey) -> Option<&Sampled> {
        self.samples.get(&SampleKey::of(key))
    }

    /// The same for all tasks of the process.
    pub fn samples_of_all_tasks(&self, key: &WaitKey) -> Option<&Sampled> {
        self.samples.get(&SampleKey::of(key).of_all_tasks())
    }

    /// Kernel stacks, by id in the kernel's stack map.
    pub fn kernel_stacks(&self) -> std::collections::HashSet<u32> {
        let rows = self.rows.values().flat_map(|row| row.kernel_stacks.keys());
        let samples = self.samples.values().flat_map(|s| s.kernel.keys());
        rows.chain(samples).copied().collect()
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
