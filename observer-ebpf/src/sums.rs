//! Sums of waits, by what they are grouped by.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use observer_common::counters::Counter;
use observer_common::events::wait::{BUCKETS, WaitKey, WaitSum, bucket_of};

use crate::emit::{count, count_many};
use crate::maps::{WAITS, ZERO_SUM};

/// Adds a wait to the aggregates. False when it is lost.
#[inline(always)]
pub fn add_wait(key: &mut WaitKey, duration: u64, run_queue: u64) -> bool {
    let known: &WaitKey = key;
    let Some(slot) = WAITS.get_ptr_mut(known) else {
        return add_first(key, duration, run_queue);
    };
    add(slot, duration, run_queue);
    true
}

/// Adds the first wait of its key.
#[inline(never)]
fn add_first(key: &mut WaitKey, duration: u64, run_queue: u64) -> bool {
    if let Some(slot) = slot(key) {
        add(slot, duration, run_queue);
        return true;
    }
    // No room for this task's row: fold it, so that the totals stay complete.
    key.task.id = 0;
    key.folded = 1;
    if let Some(slot) = slot(key) {
        count(Counter::FoldedTasks);
        add(slot, duration, run_queue);
        return true;
    }
    count(Counter::LostAggregateFull);
    count_many(Counter::LostAggregateNs, duration);
    false
}

#[inline(always)]
fn slot(key: &WaitKey) -> Option<*mut WaitSum> {
    if let Some(slot) = WAITS.get_ptr_mut(key) {
        return Some(slot);
    }
    let zero = ZERO_SUM.get(0)?;
    // Another CPU may insert the same key first: then that row is found below.
    let _ = WAITS.insert(key, zero, BPF_NOEXIST as u64);
    WAITS.get_ptr_mut(key)
}

/// Adds a stretch of time to a row.
#[inline(always)]
pub fn add(slot: *mut WaitSum, duration: u64, run_queue: u64) {
    // SAFETY: `slot` points into a map value, which stays allocated while the program runs; other
    // CPUs only change it by the same atomic additions.
    unsafe {
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).count, 1);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).total_ns, duration);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).run_queue_ns, run_queue);
        let bucket = bucket_of(duration);
        if bucket < BUCKETS {
            let bucket = (&raw mut (*slot).buckets).cast::<u32>().add(bucket);
            atomic_xadd::<u32, u32, { Relaxed }>(bucket, 1);
        }
        // Two CPUs that end waits of one key at once can lose the larger maximum; records of long
        // waits carry it exactly.
        if (*slot).max_ns < duration {
            (*slot).max_ns = duration;
        }
    }
}
