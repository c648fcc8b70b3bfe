//! One module per family of records.

pub mod inflight;
pub mod process;
pub mod seed;
pub mod syscall;
pub mod user_stack;
pub mod wait;
