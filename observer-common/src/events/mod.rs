//! One module per family of records.

pub mod hold;
pub mod inflight;
pub mod path;
pub mod poll;
pub mod process;
pub mod seed;
pub mod syscall;
pub mod user_stack;
pub mod wait;
pub mod wait_sample;
