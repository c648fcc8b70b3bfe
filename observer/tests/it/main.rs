//! The one integration test binary.

mod report;
mod report_samples;
