//! Which waits of a thread have been sampled lately: others like them wait for their turn.

use crate::pod;

/// Shapes of waits that are remembered of each thread.
pub const SHAPES: usize = 8;

/// Waits of one thread that look alike: of the same task, on the same resource, from the same instruction
/// at the same depth of the stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Hash of what they have in common.
    pub hash: u32,
    /// When one of them was sampled last, in units of 2^[`UNIT_SHIFT`] ns, from which the high bits are
    /// missing.
    pub at: u16,
    /// Those since then.
    pub waits: u16,
}

/// See [`Shape::at`]: 134 ms.
pub const UNIT_SHIFT: u32 = 27;

const _: () = assert!(size_of::<Shape>() == 8);
pod!(Shape);
