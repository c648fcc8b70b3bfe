//! Tests that load kernel programs and observe real processes with ground truth, all started here.
//! `cargo xtask test` runs them one at a time.

mod accounting;
mod bad_input;
mod cgo_blocking;
mod connections;
mod cpu_samples;
mod go_blocking;
mod go_probe;
mod go_transitions;
mod lifecycle;
mod locks;
mod named_calls;
mod native_blocking;
mod pile_up;
mod scheduler;
mod syscalls;
mod tokio_blocking;
mod tokio_debug_files;
mod tokio_http;
mod tokio_libraries;
mod tokio_locks;
mod tokio_matrix;
mod tokio_owners;
mod tokio_polls;
mod tokio_service;
mod tokio_workers;
mod unfinished;
