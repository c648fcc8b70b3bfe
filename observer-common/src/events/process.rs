//! What happens to a target process as a whole.

use crate::header::Header;
use crate::pod;

/// A target called exec, exited or made a child (see the header's kind).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ProcessRecord {
    /// tgid is the target's.
    pub header: Header,
    /// Fork: the child's process id; else 0.
    pub child: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<ProcessRecord>() == 32);
pod!(ProcessRecord);
