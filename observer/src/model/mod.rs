//! The types that stages meet in: plain data, no kernel layout, no serialization.

pub mod calls;
pub mod cause;
pub mod census;
pub mod connection;
pub mod cpu;
pub mod doctor;
pub mod event;
pub mod graph;
pub mod hashing;
pub mod ids;
pub mod known;
pub mod meeting;
pub mod memory;
pub mod mention;
pub mod names;
pub mod polls;
pub mod ps;
pub mod resource;
pub mod scheduling;
pub mod stack;
pub mod stacks;
pub mod syscall;
pub mod task;
pub mod time;
pub mod transitions;
pub mod transport;
pub mod view;
pub mod workers;

pub use cause::Cause;
pub use ids::{Pid, ProcessId, StartTime, Tid};
pub use known::{Known, Reason};
pub use resource::Resource;
pub use stack::{Frame, FrameKind};
pub use task::{TaskKind, TaskRef};
pub use time::Mono;
