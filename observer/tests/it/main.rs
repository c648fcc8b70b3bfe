//! The integration tests of `observer`, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

mod census;
mod privileged;
mod report;
mod report_pile_up;
mod report_samples;
mod report_verdict;
#[path = "../../src/skips.rs"]
mod skips;
mod streams;
mod support;
mod tokio_types;
