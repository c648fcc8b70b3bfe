//! A thread that was already blocked when observation began: written by the task iterator.

use crate::pod;

/// Kernel frames that a seed holds at most.
pub const SEED_FRAMES: usize = 24;

/// One thread of a target.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// When it was looked at.
    pub ktime: u64,
    /// TLS base, to read its task from outside.
    pub fsbase: u64,
    /// User instruction pointer.
    pub user_ip: u64,
    /// User stack pointer.
    pub user_sp: u64,
    /// User frame pointer.
    pub user_bp: u64,
    /// Syscall number or -1.
    pub syscall: i32,
    /// Number of valid entries in `kernel_stack`.
    pub frames: u32,
    /// Kernel return addresses, nearest first.
    pub kernel_stack: [u64; SEED_FRAMES],
}

const _: () = assert!(size_of::<Seed>() == 56 + 8 * SEED_FRAMES);
pod!(Seed);
