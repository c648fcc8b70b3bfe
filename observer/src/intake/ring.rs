//! The BPF ring buffer: one for all CPUs.

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{BATCH, IntakeError};

/// A ring buffer that is waited for by readiness.
pub struct RingSource {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl std::fmt::Debug for RingSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingSource").finish_non_exhaustive()
    }
}

impl RingSource {
    pub(super) fn open(map: Map) -> Result<Self, IntakeError> {
        let ring = RingBuf::try_from(map).map_err(|e| IntakeError::Map(e.to_string()))?;
        // SAFETY: the ring buffer owns its descriptor, which stays open until both are dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|e| IntakeError::Map(e.to_string()))?;
        Ok(Self { ring })
    }

    pub(super) async fn ready(&mut self) -> Result<(), IntakeError> {
        let mut guard = self.ring.readable_mut().await?;
        // Readiness is edge-triggered: forget it now, and records that come during the drain wake
        // the next wait again.
        guard.clear_ready();
        Ok(())
    }

    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let ring = self.ring.get_mut();
        let mut drained = 0;
        while drained < BATCH {
            let Some(record) = ring.next() else { break };
            each(&record);
            drained += 1;
        }
        drained
    }
}
