//! A wait that has not ended: the value of the in-flight map, keyed by thread id.

use crate::events::hold::Hold;
use crate::events::wait::{WaitKey, Waker};
use crate::pod;

/// A thread that is off CPU now.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// What it will be grouped by (the epoch is set when it ends).
    pub key: WaitKey,
    /// When it began.
    pub start: u64,
    /// When it was woken; 0 while it sleeps.
    pub woken: u64,
    /// Syscall arguments.
    pub args: [u64; 6],
    /// User instruction pointer, stack pointer and frame pointer at the syscall.
    pub user_ip: u64,
    /// See `user_ip`.
    pub user_sp: u64,
    /// See `user_ip`.
    pub user_bp: u64,
    /// Who woke it.
    pub waker: Waker,
    /// `WAIT_*` flags.
    pub flags: u32,
    /// Id of the kernel stack in the stack map, when it was sampled; else `NO_STACK`.
    pub kernel_stack: i32,
    /// The poll that it left its CPU in.
    pub hold: Hold,
}

const _: () = assert!(size_of::<InFlight>() == 56 + 16 + 48 + 24 + 32 + 8 + 64);
pod!(InFlight);
