//! The only reader of /proc, /sys, clocks, other processes' memory and files.

pub mod btf;
pub mod caps;
pub mod code;
pub mod debug_files;
pub mod elf;
pub mod fds;
pub mod kallsyms;
pub mod kernel;
pub mod memory;
pub mod modules;
pub mod names;
pub mod netlink;
pub mod pidfd;
pub mod process;
pub mod processes;
pub mod streams;
pub mod tracefs;
pub mod usage;
