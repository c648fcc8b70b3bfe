//! The first bytes of every record.

use crate::pod;

/// Starts every record, so that a reader can check kind and length before it looks further.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`crate::kind::Kind`] as a number.
    pub kind: u16,
    /// CPU that wrote the record.
    pub cpu: u16,
    /// Length of the whole record in bytes.
    pub len: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Nanoseconds of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
    pub ktime: u64,
}

const _: () = assert!(size_of::<Header>() == 24);
pod!(Header);
