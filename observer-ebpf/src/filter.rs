//! Is this a target, and is anybody interested now?

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use observer_common::config::{Control, TargetConfig};

use crate::maps::{CONTROL, TARGET_BITS, TARGETS};

/// The settings, when observation is on.
#[inline(always)]
pub fn control() -> Option<&'static Control> {
    let control = CONTROL.get(0)?;
    (control.enabled != 0).then_some(control)
}

/// Process and thread id of the running task.
#[inline(always)]
pub fn current_ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// Whether a process is a target, cheaply.
#[inline(always)]
pub fn is_target(tgid: u32) -> bool {
    match TARGET_BITS.get(tgid >> 6) {
        Some(bits) => bits >> (tgid & 63) & 1 != 0,
        None => false,
    }
}

/// The settings of a target, `None` for every other process.
#[inline(always)]
pub fn target(tgid: u32) -> Option<&'static TargetConfig> {
    if !is_target(tgid) {
        return None;
    }
    // SAFETY: entries are replaced whole by the user side; a torn read yields wrong offsets at
    // worst, and every read through them is checked.
    unsafe { TARGETS.get(tgid) }
}
