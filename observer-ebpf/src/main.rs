//! observer's kernel programs. Read-only by construction: no helper here writes user memory.
#![no_std]
#![no_main]
// The target has no compare-and-swap, so core's atomic types lack addition there; the instruction exists.
#![feature(core_intrinsics)]
#![allow(
    internal_features,
    reason = "atomic addition has no other name on this target"
)]

#[macro_use]
mod log;

mod current;
mod emit;
mod filter;
mod goroutines;
mod holds;
mod kernel;
mod maps;
mod paths;
mod polls;
mod probes;
mod stacks;
mod sums;
mod syscalls;
mod user_probes;
mod wait_samples;
mod waits;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier rejects any program in which this could be reached.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The licence that GPL-only helpers (stack walks, probe reads) ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
