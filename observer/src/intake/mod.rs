//! Records from the kernel side as bytes: readiness-driven, in capped batches, without copying.

pub mod perf;
pub mod ring;

use aya::maps::Map;

use crate::model::transport::Transport;

/// Records handed over per wake-up at most, so that a flood can not starve timers and signals.
pub const BATCH: usize = 4096;

/// Why records can not be read.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The map is missing or of another type.
    #[error("record buffer: {0}")]
    Map(String),
    /// The buffer's descriptor can not be waited for.
    #[error("record buffer: {0}")]
    Io(#[from] std::io::Error),
}

/// Where records come from.
#[derive(Debug)]
pub enum Source {
    /// A ring buffer.
    Ring(ring::RingSource),
    /// Perf event buffers, one per CPU.
    Perf(perf::PerfSource),
}

impl Source {
    /// Opens the record map of a loaded object.
    ///
    /// # Errors
    /// When the map does not fit the transport or can not be waited for.
    pub fn open(map: Option<Map>, transport: Transport) -> Result<Self, IntakeError> {
        let map = map.ok_or_else(|| IntakeError::Map("missing in the object".into()))?;
        match transport {
            Transport::Ring => Ok(Self::Ring(ring::RingSource::open(map)?)),
            Transport::Perf => Ok(Self::Perf(perf::PerfSource::open(map)?)),
        }
    }

    /// Waits until there is something to drain.
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn ready(&mut self) -> Result<(), IntakeError> {
        match self {
            Self::Ring(ring) => ring.ready().await,
            Self::Perf(perf) => perf.ready().await,
        }
    }

    /// Hands over up to [`BATCH`] records; the number handed over is returned.
    pub fn drain(&mut self, each: impl FnMut(&[u8])) -> usize {
        match self {
            Self::Ring(ring) => ring.drain(each),
            Self::Perf(perf) => perf.drain(each),
        }
    }

    /// Records that the transport itself lost and reported.
    pub fn lost(&self) -> u64 {
        match self {
            // A full ring buffer is counted by the kernel side, which can not reserve.
            Self::Ring(_) => 0,
            Self::Perf(perf) => perf.lost(),
        }
    }
}
