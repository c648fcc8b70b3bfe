//! The Go runtime, read from outside.
//!
//! An executable: [`buildinfo`] (version), [`tables`] and [`pclntab`] (functions), [`symbols`]
//! (names and lines), [`tls`] (where a thread keeps its goroutine), [`offsets`] and [`dwarf`]
//! (layouts). A process: [`live`] (the check that all this fits), [`census`] and [`waitreason`]
//! (every goroutine and what it waits on), [`c_calls`] (stacks that C was called from), [`sched`] (the
//! scheduler), [`transitions`] (the place of the probe that tells each change of a goroutine's state).
//! [`detect`] puts them together.

pub mod buildinfo;
pub mod c_calls;
pub mod census;
pub mod decode;
pub mod detect;
pub mod dwarf;
pub mod live;
pub mod offsets;
pub mod pclntab;
pub mod sched;
pub mod symbols;
pub mod tables;
pub mod tls;
pub mod transitions;
pub mod waitreason;

pub use census::GoCensus;
pub use detect::{Go, GoImage, GoProcess};
pub use symbols::{GoFrame, GoInlined, GoSymbols};
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod live_attach_tests;
#[cfg(test)]
mod live_tests;
