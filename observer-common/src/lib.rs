//! Wire types shared by the kernel programs and the user side: integers only, explicit padding,
//! one `repr(C)` struct per record, its size asserted beside it.
//!
//! Nothing here has behaviour beyond conversions; see ARCHITECTURE.md for who writes and reads what.
#![no_std]

pub mod config;
pub mod counters;
pub mod events;
pub mod goroutines;
pub mod header;
pub mod kind;
pub mod task;
pub mod user_probes;

/// A plain-integer struct that travels between the kernel and the user side.
///
/// # Safety
/// `repr(C)`, integers only, no implicit padding: every bit pattern is a valid value.
pub unsafe trait Wire: Copy + 'static {}

/// Marks plain-integer structs as [`Wire`], and on the user side as `aya::Pod`.
macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: the type is `repr(C)`, holds only integers and has no implicit padding
            // (its size is asserted beside its definition), so every bit pattern is valid.
            unsafe impl $crate::Wire for $type {}
            #[cfg(feature = "user")]
            // SAFETY: the type is `repr(C)`, holds only integers and has no implicit padding
            // (its size is asserted beside its definition), so every bit pattern is valid.
            unsafe impl aya::Pod for $type {}
        )+
    };
}
pub(crate) use pod;
