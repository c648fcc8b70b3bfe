//! `observer`: attach to a live PID and be told which goroutine or async task is blocked, and why.
//!
//! Data goes one way (see ARCHITECTURE.md):
//! kernel programs -> `intake` -> `decode` -> `aggregate` -> `correlate` -> `export`; `resolve` names what
//! is shown. Stages never import each other: they meet in `model` and are wired in `app`.

pub mod aggregate;
pub mod app;
pub mod cli;
pub mod correlate;
pub mod decode;
pub mod export;
pub mod intake;
pub mod model;
pub mod probes;
pub mod resolve;
pub mod runtimes;
#[cfg(test)]
mod skips;
pub mod sys;
