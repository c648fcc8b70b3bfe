//! Registers and the top of a user stack, for code that is not Go's: it seldom has frame pointers all the way.

use crate::header::Header;
use crate::pod;
use crate::task::Task;

/// Bytes of the stack that are copied at most.
pub const STACK_BYTES: usize = 16384;
/// The unit in which they are copied: a piece that is not readable ends the copy.
pub const STACK_PIECE: usize = 1024;

/// Of these, bytes at the end that hold the goroutine's own stack, when C code runs on another.
pub const TASK_STACK_BYTES: usize = 4096;

/// `class` of a CPU sample: user code was running.
pub const CPU_IN_USER: u32 = 0;
/// `class` of a CPU sample: the kernel was running on the thread's behalf.
pub const CPU_IN_KERNEL: u32 = 1;

/// What a [`UserStackRecord`] starts with; `len` bytes of the stack follow.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UserStackHead {
    /// Kind `UserStack`; tgid and tid are the waiter's, ktime the start of its wait.
    pub header: Header,
    /// User instruction pointer.
    pub ip: u64,
    /// User stack pointer: the address of the first copied byte.
    pub sp: u64,
    /// User frame pointer register.
    pub bp: u64,
    /// Valid bytes of the copy.
    pub len: u64,
    /// fd or futex address of the wait; 0 for syscalls without a subject.
    pub subject: u64,
    /// Syscall number or -1.
    pub syscall: i32,
    /// `CLASS_*` of the wait.
    pub class: u32,
    /// Id of the same stack as walked by frame pointers, or `NO_STACK`.
    pub user_stack: i32,
    /// Id of the kernel stack, or `NO_STACK`.
    pub kernel_stack: i32,
    /// Who waits.
    pub task: Task,
    /// Where the task's own stack was left for this one: stack pointer and return address.
    pub task_sp: u64,
    /// See `task_sp`.
    pub task_pc: u64,
    /// Valid bytes of the task's own stack, at the end of the record's bytes; 0: it has none.
    pub task_len: u32,
    /// Waits of its shape that this one stands for: those since the last, while there was a budget.
    pub weight: u32,
}

const _: () = assert!(size_of::<UserStackHead>() == 120);
pod!(UserStackHead);

/// The record.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UserStackRecord {
    /// Registers and length.
    pub head: UserStackHead,
    /// The stack from `sp` up; the task's own in the last [`TASK_STACK_BYTES`].
    pub bytes: [u8; STACK_BYTES],
}

const _: () = assert!(size_of::<UserStackRecord>() == 120 + STACK_BYTES);
pod!(UserStackRecord);
