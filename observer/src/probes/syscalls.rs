//! The maps of the tier `syscalls`.

use aya::EbpfLoader;
use aya::maps::{HashMap, MapData};
use observer_common::events::syscall::{NetKey, NetOpen, NetOpenKey, SyscallKey, SyscallOpen};
use observer_common::events::wait::WaitSum;

use super::attach::{AttachError, Kernel};

/// Makes the maps as small as can be: the tier does not run.
pub(super) fn shrink(loader: &mut EbpfLoader<'_>) {
    for map in ["SYSCALL_OPEN", "SYSCALLS", "NET_OPEN", "NET_WAITS"] {
        loader.map_max_entries(map, 1);
    }
}

/// The maps that the user side reads.
pub struct SyscallMaps {
    open: HashMap<MapData, u32, SyscallOpen>,
    calls: HashMap<MapData, SyscallKey, WaitSum>,
    net_open: HashMap<MapData, NetOpenKey, NetOpen>,
    net_waits: HashMap<MapData, NetKey, WaitSum>,
}

impl std::fmt::Debug for SyscallMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyscallMaps").finish_non_exhaustive()
    }
}

/// Takes rows of generations before `epoch` out of a map of sums: they no longer change.
fn drain<K: aya::Pod>(
    map: &mut HashMap<MapData, K, WaitSum>,
    old: impl Fn(&K) -> bool,
    mut each: impl FnMut(&K, &WaitSum),
) {
    let keys: Vec<K> = map.keys().filter_map(Result::ok).filter(old).collect();
    for key in keys {
        if let Ok(sum) = map.get(&key, 0) {
            each(&key, &sum);
        }
        if let Err(error) = map.remove(&key) {
            tracing::debug!(%error, "a row could not be removed");
        }
    }
}

impl SyscallMaps {
    /// Takes the maps.
    ///
    /// # Errors
    /// When the object lacks one of them.
    pub fn take(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            open: kernel.hash("SYSCALL_OPEN")?,
            calls: kernel.hash("SYSCALLS")?,
            net_open: kernel.hash("NET_OPEN")?,
            net_waits: kernel.hash("NET_WAITS")?,
        })
    }

    /// Takes the sums of generations before `epoch` out of the kernel.
    pub fn drain_calls(&mut self, epoch: u32, each: impl FnMut(&SyscallKey, &WaitSum)) {
        drain(&mut self.calls, |key| key.epoch < epoch, each);
    }

    /// Likewise of waits for the network.
    pub fn drain_net(&mut self, epoch: u32, each: impl FnMut(&NetKey, &WaitSum)) {
        drain(&mut self.net_waits, |key| key.epoch < epoch, each);
    }

    /// System calls that have not returned, by thread.
    pub fn open(&self) -> impl Iterator<Item = (u32, SyscallOpen)> {
        self.open
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, open)| open.start != 0)
    }

    /// Descriptors that were not ready and have not been tried again.
    pub fn net_open(&self) -> impl Iterator<Item = (NetOpenKey, NetOpen)> {
        self.net_open.iter().filter_map(Result::ok)
    }
}
