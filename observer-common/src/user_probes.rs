//! Probes in a target's own code: which attachment a hit belongs to.

use crate::pod;

/// Attachments that one session may make: each takes a slot, and slots are not used again.
pub const USER_SLOTS: u32 = 1024;

/// One attachment: the probes of one program that one process runs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct UserSlot {
    /// Its process; 0: closed (never opened, ended, or the process has called exec).
    pub tgid: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<UserSlot>() == 8);
pod!(UserSlot);

/// What a probe is given at each hit: its slot, and 32 bits of the runtime's own.
pub const fn cookie(slot: u32, data: u32) -> u64 {
    (slot as u64) << 32 | data as u64
}

/// The slot in a cookie.
#[inline(always)]
pub const fn slot_of(cookie: u64) -> u32 {
    (cookie >> 32) as u32
}

/// The runtime's own part of a cookie.
#[inline(always)]
pub const fn data_of(cookie: u64) -> u32 {
    cookie as u32
}
