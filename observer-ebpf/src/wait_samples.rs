//! Which waits are sampled (kernel stack, copy of the user stack): first those of a shape that a thread has
//! not shown yet. Of the others one stands for those since the last,
//! without those that came when the budget of their moment was used up.

use observer_common::config::{Control, TARGET_NO_FRAME_POINTERS, TargetConfig};
use observer_common::counters::Counter;
use observer_common::events::inflight::InFlight;
use observer_common::events::wait_sample::{SHAPES, UNIT_SHIFT};

use crate::emit::count;
use crate::maps::CONTROL;

/// For how many waits the one that begins in `entry` at `now` is to be sampled; 0: it is not (counted).
#[inline(always)]
pub fn due(control: &Control, target: &TargetConfig, entry: &mut InFlight, now: u64) -> u32 {
    let weight = if control.samples == 0 {
        0
    } else {
        turn(control, entry, now)
    };
    if weight != 0 {
        take();
    } else if target.flags & TARGET_NO_FRAME_POINTERS != 0 {
        // With frame pointers every wait has its own stack all the same.
        count(Counter::NotSampled);
    }
    weight
}

/// Whether it is the turn of this shape of waits, and for how many of them.
#[inline(always)]
fn turn(control: &Control, entry: &mut InFlight, now: u64) -> u32 {
    let key = &entry.key;
    let what = (key.task.id ^ entry.user_sp.rotate_left(16) ^ key.subject.rotate_left(32))
        .wrapping_add(entry.user_ip)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (what >> 32) as u32;
    let unit = (now >> UNIT_SHIFT) as u16;
    match entry.thread.shapes.get_mut(hash as usize % SHAPES) {
        Some(shape) => shape.turn(hash, unit, control.again),
        None => 0,
    }
}

/// Takes one from the budget: a bound, not a count, since two CPUs may take the same one.
#[inline(always)]
fn take() {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: points into a map value.
        let left = unsafe { &mut (*control).samples };
        *left = left.saturating_sub(1);
    }
}
