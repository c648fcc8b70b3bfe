//! Turns numbers into what people read: addresses into functions, descriptors into sockets and
//! files, pids into processes.

pub mod classify;
pub mod peers;
pub mod processes;
pub mod resources;
pub mod symbols;
pub mod unwind;
