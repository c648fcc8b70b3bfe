//! Paths that system calls were given: what waits in `openat` and its like are for.

use crate::pod;

/// Bytes that are kept of a path.
pub const PATH_BYTES: usize = 256;
/// The same in words.
pub const PATH_WORDS: usize = PATH_BYTES / 8;

/// A path as the thread gave it, up to its NUL; zeros behind it. One that does not end in NUL is cut.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Its bytes, eight to a word, in memory order.
    pub words: [u64; PATH_WORDS],
}

const _: () = assert!(size_of::<Path>() == PATH_BYTES);
pod!(Path);

impl Path {
    /// What a path is known by. Never 0, which stands for a path that could not be read. Two paths of one
    /// id are possible, but not to be expected: 64 bits, mixed as FNV-1a does, by words.
    #[inline(always)]
    pub fn id(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for word in &self.words {
            // The high half is folded in, since a multiplication carries upwards only.
            hash = (hash ^ word ^ (hash >> 32)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash | 1
    }
}
