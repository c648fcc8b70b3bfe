//! The one integration test binary.

mod report;
mod report_samples;
//! The integration tests of `observer`, in one program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod privileged;
mod support;
