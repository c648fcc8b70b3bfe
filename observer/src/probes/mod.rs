//! Kernel programs: which there are, which can run here, and attaching them.
//!
//! Deciding (`plan`) is apart from doing (`attach`): a pure function turns facts into a plan, and a
//! plain loop carries it out and records what became of each probe (`outcome`).

pub mod attach;
mod cpu_clock;
pub mod go_maps;
pub mod maps;
pub mod object;
pub mod outcome;
pub mod plan;
pub mod poll_maps;
pub mod settings;
pub mod spec;
pub mod syscalls;
pub mod user_maps;
pub mod user_probe;
