//! Polls of tokio tasks, seen by probes in the program's own code (tier `runtime`).

use crate::events::wait::BUCKETS;
use crate::header::Header;
use crate::pod;

/// Polls of at least this long are sent one by one.
pub const LONG_POLL_NS: u64 = 500_000;
/// Delays from wake-up to poll of at least this long are sent one by one.
pub const LONG_DELAY_NS: u64 = 1_000_000;

/// In the cookie of a probe: the argument is on the stack, so many bytes (the low half) above the
/// stack pointer. Else the low byte is the number of its register (0 = rax ... 15 = r15).
pub const ARGUMENT_ON_STACK: u32 = 1 << 16;

/// A task type in one attachment.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollKey {
    /// Address of its vtable in the process.
    pub vtable: u64,
    /// The attachment.
    pub slot: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<PollKey>() == 16);
pod!(PollKey);

/// Sums over one quantity.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Counts by duration; see [`crate::events::wait::bucket_of`].
    pub buckets: [u32; BUCKETS],
}

const _: () = assert!(size_of::<Spread>() == 24 + 4 * BUCKETS);
pod!(Spread);

/// What is kept of a task type.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PollSum {
    /// Where a task of the type keeps its id, in bytes from its header.
    pub id_offset: u64,
    /// Polls.
    pub polls: Spread,
    /// Delays from wake-up to poll.
    pub delays: Spread,
}

const _: () = assert!(size_of::<PollSum>() == 8 + 2 * (24 + 4 * BUCKETS));
pod!(PollSum);

/// One poll that a thread is in.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PollFrame {
    /// The task type's vtable.
    pub vtable: u64,
    /// The task.
    pub id: u64,
    /// When it began.
    pub start: u64,
    /// The stack pointer then.
    pub sp: u64,
    /// Time in it blocked in futex calls.
    pub lock_ns: u64,
    /// Time in it off the CPU otherwise.
    pub blocked_ns: u64,
    /// Time in it ready without a CPU.
    pub run_queue_ns: u64,
    /// The attachment.
    pub slot: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<PollFrame>() == 64);
pod!(PollFrame);

/// Polls inside each other that are followed.
pub const POLL_DEPTH: usize = 4;

/// The polls that a thread is in, outermost first.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Polls {
    /// How many.
    pub depth: u32,
    /// The attachment.
    pub slot: u32,
    /// Process.
    pub tgid: u32,
    /// Always 0.
    pub pad: u32,
    /// The polls.
    pub frames: [PollFrame; POLL_DEPTH],
}

const _: () = assert!(size_of::<Polls>() == 16 + 64 * POLL_DEPTH);
pod!(Polls);

/// A task that was woken.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WokenKey {
    /// Address of its header.
    pub header: u64,
    /// The attachment.
    pub slot: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<WokenKey>() == 16);
pod!(WokenKey);

/// When it was, for a task that has not been polled since.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Woken {
    /// When.
    pub at: u64,
    /// The task.
    pub id: u64,
    /// Its type's vtable.
    pub vtable: u64,
}

const _: () = assert!(size_of::<Woken>() == 24);
pod!(Woken);

/// A long poll that ended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PollRecord {
    /// Kind `Poll`; ktime is the end.
    pub header: Header,
    /// The poll.
    pub frame: PollFrame,
}

const _: () = assert!(size_of::<PollRecord>() == 24 + 64);
pod!(PollRecord);

/// A task waited long from its wake-up to its poll.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct DelayRecord {
    /// Kind `Delay`; ktime is when its poll began, on this thread.
    pub header: Header,
    /// The task and its wake-up.
    pub woken: Woken,
    /// The attachment.
    pub slot: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<DelayRecord>() == 24 + 24 + 8);
pod!(DelayRecord);
