//! Seeds: what the task iterator wrote about threads that were blocked before observation.

use observer_common::events::seed::Seed;

use crate::model::event::SeedEvent;
use crate::model::{Mono, Pid, Tid};

/// Decodes all whole seeds; trailing bytes that do not make one are returned as a count.
pub fn seeds(bytes: &[u8]) -> (Vec<SeedEvent>, usize) {
    let mut chunks = bytes.chunks_exact(size_of::<Seed>());
    let seeds = chunks
        .by_ref()
        .filter_map(|chunk| {
            let seed: Seed = super::read(chunk).ok()?;
            let frames = (seed.frames as usize).min(seed.kernel_stack.len());
            Some(SeedEvent {
                pid: Pid(seed.tgid),
                tid: Tid(seed.tid),
                at: Mono(seed.ktime),
                fsbase: seed.fsbase,
                ip: seed.user_ip,
                sp: seed.user_sp,
                bp: seed.user_bp,
                kernel_stack: seed.kernel_stack[..frames].to_vec(),
            })
        })
        .collect();
    (seeds, chunks.remainder().len())
}
