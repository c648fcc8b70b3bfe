//! Perf event buffers: one per CPU, for kernels without a ring buffer (before 5.8).

use std::task::Poll;

use aya::maps::perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer};
use aya::maps::{Map, MapData};
use aya::util::online_cpus;
use bytes::BytesMut;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{BATCH, IntakeError};

/// Pages per CPU: 2 MiB, so that some hundred stack copies fit.
const PAGES: usize = 512;

/// Perf buffers of all online CPUs.
pub struct PerfSource {
    // Dropping the array closes the map that the buffers belong to.
    _array: PerfEventArray<MapData>,
    buffers: Vec<AsyncFd<PerfEventArrayBuffer<MapData>>>,
    /// A record that wraps around the end of a buffer is put together here.
    joined: BytesMut,
    lost: u64,
}

impl std::fmt::Debug for PerfSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PerfSource")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl PerfSource {
    pub(super) fn open(map: Map) -> Result<Self, IntakeError> {
        let wrong = |e: &dyn std::fmt::Display| IntakeError::Map(e.to_string());
        let mut array = PerfEventArray::try_from(map).map_err(|e| wrong(&e))?;
        let cpus = online_cpus().map_err(|(what, e)| wrong(&format!("{what}: {e}")))?;
        let mut buffers = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let buffer = array.open(cpu, Some(PAGES)).map_err(|e| wrong(&e))?;
            // SAFETY: the buffer owns its descriptor, which stays open until both are dropped.
            let buffer = unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) }
                .map_err(|e| wrong(&e))?;
            buffers.push(buffer);
        }
        Ok(Self {
            _array: array,
            buffers,
            joined: BytesMut::with_capacity(32 * 1024),
            lost: 0,
        })
    }

    pub(super) async fn ready(&mut self) -> Result<(), IntakeError> {
        let buffers = &mut self.buffers;
        std::future::poll_fn(|context| {
            let mut any = false;
            for buffer in buffers.iter_mut() {
                match buffer.poll_read_ready_mut(context) {
                    Poll::Ready(Ok(mut guard)) => {
                        guard.clear_ready();
                        any = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {}
                }
            }
            if any {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let mut drained = 0;
        let share = BATCH / self.buffers.len().max(1);
        for buffer in &mut self.buffers {
            let (joined, lost) = (&mut self.joined, &mut self.lost);
            let mut here = 0;
            let flow = buffer.get_mut().try_fold((), |(), event| {
                match event {
                    PerfEvent::Sample { head, tail: [] } => each(head),
                    PerfEvent::Sample { head, tail } => {
                        joined.clear();
                        joined.extend_from_slice(head);
                        joined.extend_from_slice(tail);
                        each(joined);
                    }
                    PerfEvent::Lost { count } => *lost += count,
                }
                here += 1;
                if here < share {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            });
            drained += if flow.is_break() { BATCH } else { here };
        }
        drained
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
