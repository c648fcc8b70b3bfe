//! The Go runtime, read from outside.
//!
//! An executable: [`buildinfo`] (version), [`tables`] and [`pclntab`] (functions), [`symbols`]
//! (names and lines). A process: see the modules that read memory.

pub mod buildinfo;
pub mod pclntab;
pub mod symbols;
pub mod tables;

pub use symbols::{GoFrame, GoInlined, GoSymbols};
