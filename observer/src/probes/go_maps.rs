//! The maps of the probe in Go's runtime: what it is told, and what it has found.

use aya::EbpfLoader;
use aya::maps::{Array, HashMap, MapData};
use observer_common::goroutines::{
    GoKey, GoLosses, GoProbeConfig, GoStack, GoState, GoSum, GoSumKey, GoWake, GoWakeKey,
};

use super::attach::{AttachError, Kernel, chain};
use crate::model::Reason;

/// Entries that never change again count as free, so these are bounds on what lives at once. Only
/// what is used takes memory, beside 16 bytes for each possible entry.
const ROOM: &[(&str, u32)] = &[
    ("GOROUTINES", 1 << 18),
    ("GO_SUMS", 1 << 14),
    ("GO_WAKES", 1 << 14),
    ("GO_STACKS", 1 << 14),
];
/// `BPF_NOEXIST` (Linux `include/uapi/linux/bpf.h`).
const NOEXIST: u64 = 1;

/// Gives the maps their size; they have one entry otherwise.
pub(super) fn make_room(loader: &mut EbpfLoader<'_>) {
    for (name, entries) in ROOM {
        loader.map_max_entries(name, *entries);
    }
}

/// The maps.
pub struct GoMaps {
    probes: Array<MapData, GoProbeConfig>,
    losses: Array<MapData, GoLosses>,
    goroutines: HashMap<MapData, GoKey, GoState>,
    sums: HashMap<MapData, GoSumKey, GoSum>,
    wakes: HashMap<MapData, GoWakeKey, GoWake>,
    stacks: HashMap<MapData, u64, GoStack>,
}

impl std::fmt::Debug for GoMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoMaps").finish_non_exhaustive()
    }
}

impl GoMaps {
    /// Takes them from the object.
    ///
    /// # Errors
    /// When the object lacks one of them.
    pub fn take(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            probes: kernel.array("GO_PROBES")?,
            losses: kernel.array("GO_LOSSES")?,
            goroutines: kernel.hash("GOROUTINES")?,
            sums: kernel.hash("GO_SUMS")?,
            wakes: kernel.hash("GO_WAKES")?,
            stacks: kernel.hash("GO_STACKS")?,
        })
    }

    /// Tells the probe of an attachment what it needs to know.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prepare(&mut self, slot: u32, config: GoProbeConfig) -> Result<(), Reason> {
        self.probes
            .set(slot, config, 0)
            .map_err(|e| Reason::with(chain(&e)))
    }

    /// Enters the state of a goroutine, unless it has changed since the probe was in. False when
    /// there was no room.
    pub fn seed(&mut self, key: GoKey, state: GoState, stack: Option<(u64, GoStack)>) -> bool {
        if let Some((place, stack)) = stack
            && let Err(error) = self.stacks.insert(place, stack, NOEXIST)
        {
            tracing::trace!(%error, "place known, or no room");
        }
        match self.goroutines.insert(key, state, NOEXIST) {
            Ok(()) => true,
            // It is there: it has changed since.
            Err(_) => self.goroutines.get(&key, 0).is_ok(),
        }
    }

    /// Goroutines of an attachment, with the state that each is in.
    pub fn goroutines(&self, slot: u32) -> impl Iterator<Item = (GoKey, GoState)> {
        self.goroutines
            .iter()
            .filter_map(Result::ok)
            .filter(move |(key, _)| key.slot == slot)
    }

    /// Sums of an attachment.
    pub fn sums(&self, slot: u32) -> impl Iterator<Item = (GoSumKey, GoSum)> {
        self.sums
            .iter()
            .filter_map(Result::ok)
            .filter(move |(key, _)| key.slot == slot)
    }

    /// Wakers of an attachment.
    pub fn wakes(&self, slot: u32) -> impl Iterator<Item = (GoWakeKey, GoWake)> {
        self.wakes
            .iter()
            .filter_map(Result::ok)
            .filter(move |(key, _)| key.slot == slot)
    }

    /// The addresses of a place, nearest first.
    pub fn stack(&self, place: u64) -> Option<Vec<u64>> {
        let stack = self.stacks.get(&place, 0).ok()?;
        let frames = stack.frames;
        Some(frames.into_iter().take_while(|frame| *frame != 0).collect())
    }

    /// What could not be followed.
    pub fn losses(&self, slot: u32) -> GoLosses {
        self.losses.get(&slot, 0).unwrap_or_default()
    }

    /// Forgets an attachment that has ended, so that its room can be used again.
    pub fn forget(&mut self, slot: u32) {
        let goroutines: Vec<_> = self.goroutines(slot).map(|(key, _)| key).collect();
        let sums: Vec<_> = self.sums(slot).map(|(key, _)| key).collect();
        let wakes: Vec<_> = self.wakes(slot).map(|(key, _)| key).collect();
        let mut failed = 0;
        failed += goroutines
            .iter()
            .filter(|k| self.goroutines.remove(k).is_err())
            .count();
        failed += sums.iter().filter(|k| self.sums.remove(k).is_err()).count();
        failed += wakes
            .iter()
            .filter(|k| self.wakes.remove(k).is_err())
            .count();
        if failed > 0 {
            tracing::debug!(slot, failed, "entries were gone already");
        }
    }
}
