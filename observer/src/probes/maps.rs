//! The maps that the user side reads and writes while it observes.

use aya::maps::{Array, HashMap, MapData, PerCpuArray, StackTraceMap};
use observer_common::config::{Control, TargetConfig};
use observer_common::counters::COUNTERS;
use observer_common::events::inflight::InFlight;
use observer_common::events::path::Path;
use observer_common::events::wait::{WaitKey, WaitSum};

use super::attach::{AttachError, Kernel, chain};

impl Kernel {
    /// Takes the maps that the user side reads and writes while observing.
    ///
    /// # Errors
    /// When the object lacks one of them.
    pub fn take_maps(&mut self) -> Result<Maps, AttachError> {
        let stacks = self
            .ebpf_mut()
            .take_map("STACKS")
            .ok_or(AttachError::Map("STACKS", "missing".into()))?;
        Ok(Maps {
            control: self.array("CONTROL")?,
            targets: self.hash("TARGETS")?,
            target_bits: self.array("TARGET_BITS")?,
            inflight: self.hash("INFLIGHT")?,
            waits: self.hash("WAITS")?,
            paths: self.hash("PATHS")?,
            stacks: StackTraceMap::try_from(stacks)
                .map_err(|e| AttachError::Map("STACKS", chain(&e)))?,
            counters: self.per_cpu("COUNTERS")?,
        })
    }
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

/// The maps that the user side reads and writes.
pub struct Maps {
    control: Array<MapData, Control>,
    targets: HashMap<MapData, u32, TargetConfig>,
    target_bits: Array<MapData, u64>,
    inflight: HashMap<MapData, u32, InFlight>,
    waits: HashMap<MapData, WaitKey, WaitSum>,
    paths: HashMap<MapData, u64, Path>,
    stacks: StackTraceMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Changes the running settings.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn set_control(&mut self, control: Control) -> Result<(), AttachError> {
        self.control
            .set(0, control, 0)
            .map_err(|e| AttachError::Map("CONTROL", chain(&e)))
    }

    /// Adds or replaces a target.
    ///
    /// # Errors
    /// When the table is full (1024 targets).
    pub fn set_target(&mut self, tgid: u32, config: TargetConfig) -> Result<(), AttachError> {
        self.targets
            .insert(tgid, config, 0)
            .map_err(|e| AttachError::Map("TARGETS", format!("no room for another target: {e}")))?;
        self.set_bit(tgid, true)
    }

    /// Marks a process in the bitmap that filters before anything else.
    fn set_bit(&mut self, tgid: u32, on: bool) -> Result<(), AttachError> {
        let failed = |e: aya::maps::MapError| AttachError::Map("TARGET_BITS", chain(&e));
        let (index, bit) = (tgid >> 6, 1_u64 << (tgid & 63));
        let bits = self.target_bits.get(&index, 0).map_err(failed)?;
        let bits = if on { bits | bit } else { bits & !bit };
        self.target_bits.set(index, bits, 0).map_err(failed)
    }

    /// Removes a target; it may be gone already.
    pub fn remove_target(&mut self, tgid: u32) {
        if let Err(error) = self.set_bit(tgid, false) {
            tracing::debug!(tgid, %error, "target was not in the bitmap");
        }
        if let Err(error) = self.targets.remove(&tgid) {
            tracing::debug!(tgid, %error, "target was not in the table");
        }
    }

    /// Waits that have not ended.
    pub fn inflight(&self) -> impl Iterator<Item = (u32, InFlight)> {
        self.inflight
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, entry)| entry.whole())
    }

    /// Whether a thread is still in the wait that began at `start`.
    pub fn still_waits(&self, tid: u32, start: u64) -> bool {
        self.inflight
            .get(&tid, 0)
            .is_ok_and(|entry| entry.whole() && entry.start == start)
    }

    /// Forgets the open wait of a thread that no longer exists.
    pub fn forget(&mut self, tid: u32) {
        if let Err(error) = self.inflight.remove(&tid) {
            tracing::debug!(tid, %error, "thread was not in flight");
        }
    }

    /// Takes the aggregates of generations before `epoch` out of the kernel: they no longer change.
    pub fn drain_waits(&mut self, epoch: u32, mut each: impl FnMut(&WaitKey, &WaitSum)) {
        let old: Vec<WaitKey> = self
            .waits
            .keys()
            .filter_map(Result::ok)
            .filter(|key| key.epoch < epoch)
            .collect();
        for key in old {
            if let Ok(sum) = self.waits.get(&key, 0) {
                each(&key, &sum);
                if let Err(error) = self.waits.remove(&key) {
                    tracing::warn!(%error, "an aggregate could not be removed");
                }
            }
        }
    }

    /// What is kept of each thread, waiting or not. A wait may be torn: see [`InFlight::whole`].
    pub fn entries(&self) -> impl Iterator<Item = (u32, InFlight)> {
        self.inflight.iter().filter_map(Result::ok)
    }

    /// Paths of system calls that waited, by their ids.
    pub fn paths(&self) -> impl Iterator<Item = (u64, Path)> {
        self.paths.iter().filter_map(Result::ok)
    }

    /// Addresses of a stack, nearest first.
    pub fn stack(&self, id: u32) -> Option<Vec<u64>> {
        let trace = self.stacks.get(&id, 0).ok()?;
        Some(trace.frames().iter().map(|frame| frame.ip).collect())
    }

    /// The counters, summed over CPUs.
    pub fn counters(&self) -> [u64; COUNTERS as usize] {
        let mut sums = [0; COUNTERS as usize];
        for (slot, sum) in sums.iter_mut().enumerate() {
            if let Ok(values) = self.counters.get(&(slot as u32), 0) {
                *sum = values.iter().sum();
            }
        }
        sums
    }
}
