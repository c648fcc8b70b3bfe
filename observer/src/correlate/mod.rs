//! Puts together what different sources say of the same thing.

pub mod doings;
pub mod wait_graph;
