//! The only reader of /proc, /sys, clocks, other processes' memory and files.

pub mod elf;
pub mod memory;
pub mod process;
