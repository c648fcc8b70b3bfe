//! Turns numbers into what people read: addresses into functions, descriptors into sockets and
//! files, pids into processes.

pub mod classify;
pub mod symbols;
pub mod unwind;
