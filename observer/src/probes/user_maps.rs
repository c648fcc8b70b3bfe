//! The maps that probes in targets' own code share: slots, and counts of hits.

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use observer_common::user_probes::{USER_SLOTS, UserSlot};

use super::attach::{AttachError, Kernel, chain};
use crate::model::{Pid, Reason};

/// Slots and hits.
pub struct UserMaps {
    slots: Array<MapData, UserSlot>,
    pids: HashMap<MapData, u32, u32>,
    hits: PerCpuArray<MapData, u64>,
    next: u32,
}

impl std::fmt::Debug for UserMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserMaps")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl UserMaps {
    /// Takes them from the object.
    ///
    /// # Errors
    /// When the object lacks one of them.
    pub fn take(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            slots: kernel.array("USER_SLOTS")?,
            pids: kernel.hash("USER_PIDS")?,
            hits: kernel.per_cpu("USER_HITS")?,
            next: 0,
        })
    }

    /// Opens a slot for a process; before that its probes, if any, only count their hits.
    ///
    /// # Errors
    /// When all slots have been used, or the kernel refuses.
    pub fn open(&mut self, pid: Pid) -> Result<u32, Reason> {
        let failed = |e: aya::maps::MapError| Reason::with(chain(&e));
        let slot = self.next;
        if slot >= USER_SLOTS {
            return Err(Reason::new(
                "this session has attached probes too often: no slot is left",
            ));
        }
        self.next += 1;
        self.pids.insert(pid.0, slot, 0).map_err(failed)?;
        let open = UserSlot {
            tgid: pid.0,
            pad: 0,
        };
        self.slots.set(slot, open, 0).map_err(failed)?;
        Ok(slot)
    }

    /// Closes a slot: hits of it only count from now on.
    pub fn close(&mut self, pid: Pid, slot: u32) {
        if let Err(error) = self.slots.set(slot, UserSlot::default(), 0) {
            tracing::debug!(slot, %error, "slot not closed");
        }
        if self.pids.get(&pid.0, 0).is_ok_and(|open| open == slot)
            && let Err(error) = self.pids.remove(&pid.0)
        {
            tracing::debug!(slot, %error, "process not forgotten");
        }
    }

    /// Hits of a slot so far.
    pub fn hits(&self, slot: u32) -> u64 {
        self.hits
            .get(&slot, 0)
            .map_or(0, |values| values.iter().sum())
    }
}
