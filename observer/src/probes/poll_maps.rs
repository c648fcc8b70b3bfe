//! The maps of the probes on tokio's polls.

use aya::maps::{HashMap, MapData};
use observer_common::events::poll::{PollKey, PollSum, Polls, Spread, Woken, WokenKey};
use observer_common::events::wait::BUCKETS;

use super::attach::{AttachError, Kernel, chain};
use crate::model::Reason;

/// Task types with their sums, polls under way, tasks that were woken.
pub struct PollMaps {
    types: HashMap<MapData, PollKey, PollSum>,
    polls: HashMap<MapData, u32, Polls>,
    woken: HashMap<MapData, WokenKey, Woken>,
}

impl std::fmt::Debug for PollMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollMaps").finish_non_exhaustive()
    }
}

/// Sizes the tables for a session with these probes: without, they have one entry each.
pub(super) fn make_room(loader: &mut aya::EbpfLoader<'_>) {
    for (map, entries) in [("POLL_TYPES", 8192), ("POLLS", 8192), ("WOKEN", 65536)] {
        loader.map_max_entries(map, entries);
    }
}

impl PollMaps {
    /// Takes them from the object.
    ///
    /// # Errors
    /// When the object lacks one of them.
    pub fn take(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            types: kernel.hash("POLL_TYPES")?,
            polls: kernel.hash("POLLS")?,
            woken: kernel.hash("WOKEN")?,
        })
    }

    /// Enters a task type of an attachment, before the first hit.
    ///
    /// # Errors
    /// When the table is full.
    pub fn add_type(&mut self, slot: u32, vtable: u64, id_offset: u64) -> Result<(), Reason> {
        let none = Spread {
            count: 0,
            total_ns: 0,
            max_ns: 0,
            buckets: [0; BUCKETS],
        };
        let key = PollKey {
            vtable,
            slot,
            pad: 0,
        };
        let sum = PollSum {
            id_offset,
            polls: none,
            delays: none,
        };
        self.types
            .insert(key, sum, 0)
            .map_err(|e| Reason::with(format!("no room for its task types: {}", chain(&e))))
    }

    /// Takes the sums of an attachment out.
    pub fn take_types(&mut self, slot: u32) -> Vec<(u64, PollSum)> {
        let keys = self.types.keys().filter_map(Result::ok);
        let keys: Vec<PollKey> = keys.filter(|key| key.slot == slot).collect();
        keys.into_iter()
            .filter_map(|key| {
                let sum = self.types.get(&key, 0).ok()?;
                if let Err(error) = self.types.remove(&key) {
                    tracing::debug!(%error, "task type not removed");
                }
                Some((key.vtable, sum))
            })
            .collect()
    }

    /// The polls that threads of an attachment are in, by thread; they are forgotten.
    pub fn take_polls(&mut self, slot: u32) -> Vec<(u32, Polls)> {
        let all = self.polls.iter().filter_map(Result::ok);
        let of: Vec<(u32, Polls)> = all.filter(|(_, polls)| polls.slot == slot).collect();
        for (tid, _) in &of {
            if let Err(error) = self.polls.remove(tid) {
                tracing::debug!(%error, "polls of a thread not removed");
            }
        }
        of
    }

    /// The tasks of an attachment that were woken and not polled since, by the address of their
    /// header; they are forgotten.
    pub fn take_woken(&mut self, slot: u32) -> Vec<(u64, Woken)> {
        let all = self.woken.iter().filter_map(Result::ok);
        let of: Vec<(WokenKey, Woken)> = all.filter(|(key, _)| key.slot == slot).collect();
        of.into_iter()
            .map(|(key, woken)| {
                if let Err(error) = self.woken.remove(&key) {
                    tracing::debug!(%error, "woken task not removed");
                }
                (key.header, woken)
            })
            .collect()
    }
}
