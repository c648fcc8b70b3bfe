//! The running task as the kernel side read it from the thread's memory, with "why not".

use crate::pod;

/// Nothing was looked for: the target is observed by threads.
pub const TASK_THREAD: u8 = 0;
/// `Task::id` is a goroutine id.
pub const TASK_GOROUTINE: u8 = 1;
/// `Task::id` is a tokio task id.
pub const TASK_TOKIO: u8 = 2;

/// The runtime's thread runs no task: it is idle (Go: `m.curg` is nil).
pub const TASK_IDLE: u8 = 1;
/// The thread's memory could not be read, so the task is not known.
pub const TASK_UNREADABLE: u8 = 2;
/// A foreign thread: it has no runtime state (Go: no g or m; tokio: no task id).
pub const TASK_FOREIGN: u8 = 4;
/// Go: the thread's `m.procid` is not its thread id, so the offsets do not fit.
pub const TASK_MISMATCH: u8 = 8;
/// tokio: `detail` holds the EnterRuntime byte.
pub const TASK_HAS_ENTERED: u8 = 16;
/// tokio: the thread is inside a budgeted poll (it has a cooperative budget).
pub const TASK_IN_POLL: u8 = 32;
/// tokio: the budget was read, so that the absence of [`TASK_IN_POLL`] means something.
pub const TASK_HAS_BUDGET: u8 = 64;

/// Many tasks, folded together for want of room; `Task::id` is 0.
pub const TASK_FOLDED: u8 = 128;

/// Who was running.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Task {
    /// Goroutine id, tokio task id or thread id. Meaningless when a "why not" flag is set.
    pub id: u64,
    /// `TASK_THREAD`, `TASK_GOROUTINE` or `TASK_TOKIO`.
    pub kind: u8,
    /// `TASK_*` flags.
    pub flags: u8,
    /// Go: low byte of `atomicstatus`. tokio: the EnterRuntime byte.
    pub detail: u8,
    /// Go: wait reason. tokio: which copy in the process.
    pub reason: u8,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<Task>() == 16);
pod!(Task);
