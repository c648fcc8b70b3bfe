//! A wait that has not ended: the value of the in-flight map, keyed by thread id.
//!
//! A thread keeps its entry while it lives, and waits are written into it in place. The user side may
//! copy it meanwhile: what it copied is whole when [`InFlight::whole`] says so.

use crate::events::hold::Thread;
use crate::events::wait::{WaitKey, Waker};
use crate::pod;

/// The last wait of a thread.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// When it began; 0: it has ended. Written last, cleared first.
    pub start: u64,
    /// What it will be grouped by (the epoch is set when it ends).
    pub key: WaitKey,
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
    /// Go, inside C: address of the goroutine, whose own stack was left; else 0.
    pub task_at: u64,
    /// The same as `start`. Cleared before anything else is written, written before `start`.
    pub check: u64,
    /// What outlives the wait.
    pub thread: Thread,
}

const _: () = assert!(size_of::<InFlight>() == 56 + 16 + 48 + 24 + 32 + 8 + 8 + 8 + 200);
pod!(InFlight);

impl InFlight {
    /// Whether a copy of an entry holds one open wait: not none, and not halves of two. Copies are
    /// made from low addresses to high ones.
    pub const fn whole(&self) -> bool {
        self.start != 0 && self.start == self.check
    }
}
