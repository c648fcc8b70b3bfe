//! What every probe in a target's own code begins with: whose it is, and a count of its hits.
//!
//! Unlike the programs on tracepoints these run with preemption on where the kernel is preemptible:
//! another program, or another thread's probe, may run in between on the same CPU. So per-CPU room
//! is no scratch here, and every count is an atomic addition.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use observer_common::counters::Counter;
use observer_common::user_probes::{data_of, slot_of};

use crate::filter;
use crate::maps::{COUNTERS, USER_HITS, USER_PIDS, USER_SLOTS};

/// One hit.
#[allow(dead_code, reason = "not every runtime's programs need all of it")]
pub struct Hit {
    /// Which attachment it belongs to: index of the tables that runtimes keep for them.
    pub slot: u32,
    /// What the runtime gave the probe.
    pub data: u32,
    /// The process, as the kernel counts processes.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
}

/// Counts a hit and tells whose it is. `None`: of a child that forked, of a program that has gone by
/// exec, or outside of the observation.
#[inline(always)]
pub fn hit<C: EbpfContext>(ctx: &C) -> Option<Hit> {
    // SAFETY: the context is the one that the kernel passed.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let slot = slot_of(cookie);
    let hits = USER_HITS.get_ptr_mut(slot)?;
    add_one(hits);
    filter::control()?;
    let (tgid, tid) = filter::current_ids();
    if USER_SLOTS.get(slot)?.tgid != tgid {
        return None;
    }
    Some(Hit {
        slot,
        data: data_of(cookie),
        tgid,
        tid,
    })
}

/// Adds one to a word of a map value.
#[inline(always)]
pub fn add_one(word: *mut u64) {
    // SAFETY: callers pass words of map values, which stay while the program runs.
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(word, 1) };
}

/// Adds to a counter, from a program that may be interrupted.
#[allow(dead_code, reason = "not every runtime's programs need it")]
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        add_one(slot);
    }
}

/// A process has called exec: what its probes saw belonged to the old program.
#[inline(always)]
pub fn forget(tgid: u32) {
    // SAFETY: the value is copied at once.
    let Some(slot) = (unsafe { USER_PIDS.get(tgid) }).copied() else {
        return;
    };
    if let Some(slot) = USER_SLOTS.get_ptr_mut(slot) {
        // SAFETY: points into a map value; programs read this word only.
        unsafe { core::ptr::write_volatile(&raw mut (*slot).tgid, 0) };
    }
}
