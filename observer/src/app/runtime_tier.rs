//! The tier `runtime` in a session: which probes go into which target, when they are taken out, and
//! what is said about it.

use super::session::Session;
use super::user_probes::{ExactWindow, UserProbes, WhyEnded};
use crate::decode;
use crate::model::event::Tally;
use crate::model::memory::Memory as _;
use crate::model::polls::Waiting;
use crate::model::{Known, Mono, Pid, Reason, Tid};
use crate::runtimes::{CodeReader, TaskTypes};
use crate::sys::memory::ProcessMemory;
use observer_common::events::poll::{LONG_POLL_NS, Woken};
use std::sync::Arc;

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
    /// Tasks that were ready at the end.
    pub waiting: Known<Waiting>,
}


impl Session {
    /// Puts probes into a target's own code, when that was asked for and they have verified places.
    pub(super) fn attach_code_probes(&mut self, index: usize) {
        let Self {
            user_probes: Some(user),
            kernel,
            targets,
            state,
            poll_maps,
            poll_names,
            ..
        } = self
        else {
            return;
        };
        let target = &targets[index];
        let pid = target.process.id.pid;
        if target.ended.is_some() || state.launched == Some(pid) {
            // A program that is to be started is looked at when it has called exec.
            return;
        }
        let found = match target.code_probes() {
            Known::Known(found) => found,
            Known::Unknown(reason) => {
                state
                    .notes
                    .push(format!("tier runtime: no probes in pid {pid}: {reason}"));
                return;
            }
        };
        let prepare = |slot: u32| match &found.reader {
            CodeReader::Go(_) => Ok(()),
            CodeReader::Tokio { types, .. } => match poll_maps {
                Some(maps) => types
                    .iter()
                    .try_for_each(|of| maps.add_type(slot, of.vtable, of.id_offset)),
                None => Err(Reason::new("the maps for polls are not there")),
            },
        };
        match user.attach(kernel, pid, &found.probes, prepare, &mut state.notes) {
            Ok(slot) => {
                if let CodeReader::Tokio { names, .. } = found.reader {
                    poll_names.push((slot, names));
                }
            }
            Err(reason) => state
                .notes
                .push(format!("tier runtime: no probes in pid {pid}: {reason}")),
        }
    }

    /// Takes out what is hit too often.
    pub(super) fn check_code_probes(&mut self) {
        let Some(user) = &mut self.user_probes else {
            return;
        };
        for ended in user.check(&mut self.kernel) {
            if let ExactWindow {
                pid,
                why: WhyEnded::TooOften { rate, budget },
                ..
            } = ended
            {
                tracing::warn!(
                    "pid {pid}: {rate} hits per second of probes in its code, {budget} are allowed: taken out"
                );
            }
        }
    }

    /// Takes the probes of one target out.
    pub(super) fn end_code_probes_of(&mut self, pid: Pid, why: WhyEnded) {
        if let Some(user) = &mut self.user_probes {
            user.end_of(&mut self.kernel, pid, why);
        }
    }

    /// Takes all probes out of targets' code.
    pub(super) fn end_code_probes(&mut self) {
        if let Some(user) = &mut self.user_probes {
            UserProbes::end_all(user, &mut self.kernel);
        }
    }

    /// Takes what probes on polls have summed out of the kernel. The probes must be out.
    pub(super) fn collect_polls(&mut self, end: Mono) -> Vec<FollowedPolls> {
        let (Some(user), Some(maps)) = (&self.user_probes, &mut self.poll_maps) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (slot, names) in std::mem::take(&mut self.poll_names) {
            let Some(window) = user.windows().iter().find(|w| w.slot == slot) else {
                continue;
            };
            // The programs work while the observation lasts, however long it takes to put them in and
            // to take them out.
            let mut window = *window;
            window.from = window.from.max(self.state.began);
            window.to = window.to.min(end);
            let mut types: Vec<(u64, Tally, Tally)> = maps
                .take_types(slot)
                .into_iter()
                .map(|(vtable, sum)| {
                    let tally = decode::poll::tally;
                    (vtable, tally(&sum.polls), tally(&sum.delays))
                })
                .collect();
            for (tid, polls) in maps.take_polls(slot) {
                for poll in decode::poll::open(Tid(tid), &polls, window.to) {
                    if let Some((_, sum, _)) = types.iter_mut().find(|t| t.0 == poll.vtable) {
                        sum.add(poll.end.since(poll.start), 0);
                    }
                    if poll.end.since(poll.start) >= LONG_POLL_NS {
                        self.state.polls.add_open(&poll);
                    }
                }
            }
            let woken = maps.take_woken(slot);
            let waiting = match window.why {
                WhyEnded::Session => Known::Known(waiting(window.pid, window.to, &woken)),
                _ => Known::unknown("the probes were out before the observation ended"),
            };
            all.push(FollowedPolls {
                window,
                names,
                types,
                waiting,
            });
        }
        all
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
