//! Tests that load kernel programs and observe real processes with ground truth, all started here.
//! `cargo xtask test` runs them one at a time.

mod accounting;
mod bad_input;
mod go_blocking;
mod lifecycle;
mod locks;
mod native_blocking;
mod pile_up;
mod tokio_blocking;
mod tokio_libraries;
mod unfinished;
