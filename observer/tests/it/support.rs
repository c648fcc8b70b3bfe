//! What the integration tests share. Every process that is started here is ended here, by its own
//! handle, also when a test panics; every wait has a limit.

pub mod child;
pub mod elf32;
pub mod followed;
pub mod observer;
pub mod pair;
pub mod report;
pub mod require;
pub mod tracefs;
pub mod truth;
