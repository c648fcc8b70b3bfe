//! Probes on polls of tokio tasks: what their programs are told, and what they have found.

use std::collections::HashMap;
use std::sync::Arc;

use observer_common::events::poll::{LONG_POLL_NS, Woken};

use super::user_probes::{ExactWindow, WhyEnded};
use crate::aggregate::polls::PollLedger;
use crate::decode;
use crate::model::event::Tally;
use crate::model::memory::Memory as _;
use crate::model::polls::Waiting;
use crate::model::{Known, Mono, Pid, Reason, Tid};
use crate::probes::attach::{AttachError, Kernel};
use crate::probes::poll_maps::PollMaps;
use crate::runtimes::{TaskTypes, TokioPollType};
use crate::sys::memory::ProcessMemory;

/// Bits of a task's state (tokio `runtime/task/state.rs`): it has ended, it is to be polled.
const COMPLETE: u64 = 0b10;
/// See [`COMPLETE`].
const NOTIFIED: u64 = 0b100;
/// Tasks whose state is read at the end of a session.
const MAX_WAITING: usize = 4096;

/// What an attachment of probes on polls has found.
#[derive(Debug)]
pub struct FollowedPolls {
    /// For which time every poll was seen.
    pub window: ExactWindow,
    /// What the types are.
    pub names: Arc<dyn TaskTypes>,
    /// Polls and delays by type (address of its vtable in the process).
    pub types: Vec<(u64, Tally, Tally)>,
    /// Wake-ups were probed, at first at least.
    pub delays: bool,
    /// Tasks that were ready at the end.
    pub waiting: Known<Waiting>,
}

/// The tables of these probes, and the attachments whose finds have not been taken out.
#[derive(Debug)]
pub struct PollTier {
    maps: PollMaps,
    /// Of each attachment: what the types are, and whether wake-ups are probed.
    names: HashMap<u32, (Arc<dyn TaskTypes>, bool)>,
    followed: Vec<FollowedPolls>,
}

impl PollTier {
    /// Nothing attached yet.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn new(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            maps: PollMaps::take(kernel)?,
            names: HashMap::new(),
            followed: Vec::new(),
        })
    }

    /// Enters the types of an attachment, before its first hit.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn prepare(&mut self, slot: u32, types: &[TokioPollType]) -> Result<(), Reason> {
        types
            .iter()
            .try_for_each(|of| self.maps.add_type(slot, of.vtable, of.id_offset))
    }

    /// An attachment works. `delays`: wake-ups are probed.
    pub fn attached(&mut self, slot: u32, names: Arc<dyn TaskTypes>, delays: bool) {
        self.names.insert(slot, (names, delays));
    }

    /// Whether one works, or its finds have not been taken out.
    pub fn is_used(&self) -> bool {
        !self.names.is_empty()
    }

    /// Takes what an attachment that has ended has summed out of the kernel. The programs worked from
    /// `began` on, to `end` at most, however long it took to put the probes in and to take them out.
    pub fn collect(
        &mut self,
        window: &ExactWindow,
        ledger: &mut PollLedger,
        (began, end): (Mono, Mono),
    ) {
        let Some((names, delays)) = self.names.remove(&window.slot) else {
            return;
        };
        let mut window = *window;
        window.from = window.from.max(began);
        window.to = window.to.min(end);
        let mut types: Vec<(u64, Tally, Tally)> = self
            .maps
            .take_types(window.slot)
            .into_iter()
            .map(|(vtable, sum)| {
                let tally = decode::poll::tally;
                (vtable, tally(&sum.polls), tally(&sum.delays))
            })
            .collect();
        for (tid, polls) in self.maps.take_polls(window.slot) {
            for poll in decode::poll::open(Tid(tid), &polls, window.to) {
                let ns = poll.end.since(poll.start);
                if let Some((_, sum, _)) = types.iter_mut().find(|t| t.0 == poll.vtable) {
                    sum.add(ns, 0);
                }
                if ns >= LONG_POLL_NS {
                    ledger.add_open(&poll);
                }
            }
        }
        let woken = self.maps.take_woken(window.slot);
        let waiting = match window.why {
            _ if !delays || window.lighter.is_some() => {
                Known::unknown("wake-ups were not observed to the end")
            }
            WhyEnded::Session => Known::Known(waiting(window.pid, window.to, &woken)),
            _ => Known::unknown("the probes were out before the observation ended"),
        };
        self.followed.push(FollowedPolls {
            window,
            names,
            types,
            delays,
            waiting,
        });
    }

    /// What was found of all targets.
    pub fn take_followed(&mut self) -> Vec<FollowedPolls> {
        std::mem::take(&mut self.followed)
    }
}

/// Of tasks that were woken, those that are still to be polled: their own state says so.
fn waiting(pid: Pid, now: Mono, woken: &[(u64, Woken)]) -> Waiting {
    let memory = ProcessMemory::new(pid);
    let mut found = Waiting::default();
    for (header, woken) in woken.iter().take(MAX_WAITING) {
        let vtable = memory.read_u64(header.wrapping_add(16));
        let state = memory.read_u64(*header).unwrap_or(COMPLETE);
        if vtable.is_ok_and(|vtable| vtable == woken.vtable)
            && state & (NOTIFIED | COMPLETE) == NOTIFIED
        {
            found.count += 1;
            found.oldest_ns = found.oldest_ns.max(now.since(Mono(woken.at)));
        }
    }
    found
}
