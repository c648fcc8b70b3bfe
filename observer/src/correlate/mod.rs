//! Puts together what different sources say of the same thing.

mod deadlocks;
pub mod doings;
mod servers;
pub mod wait_graph;
mod wording;
