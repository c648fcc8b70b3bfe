//! Wire types shared by the kernel programs and the user side: integers only, explicit padding,
//! one `repr(C)` struct per record, its size asserted beside it.
//!
//! Nothing here has behaviour beyond conversions; see ARCHITECTURE.md for who writes and reads what.
#![no_std]

pub mod config;
pub mod counters;
pub mod events;
pub mod header;
pub mod kind;
pub mod task;

/// Raised whenever a layout in this crate changes; a recording or an object of another version is refused.
pub const ABI_VERSION: u32 = 1;

/// Implements `aya::Pod` on the user side for plain-integer structs.
macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            #[cfg(feature = "user")]
            // SAFETY: the type is `repr(C)`, holds only integers and has no implicit padding
            // (its size is asserted beside its definition), so every bit pattern is valid.
            unsafe impl aya::Pod for $type {}
        )+
    };
}
pub(crate) use pod;
