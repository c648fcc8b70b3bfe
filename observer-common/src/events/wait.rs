//! Waits: the key and value of the aggregates, and the record of a single long wait.

use crate::header::Header;
use crate::pod;
use crate::task::Task;

/// Blocked in a syscall.
pub const CLASS_SYSCALL: u8 = 0;
/// Ready, but not running: preempted or yielded.
pub const CLASS_RUN_QUEUE: u8 = 1;
/// Blocked while handling a page fault.
pub const CLASS_PAGE_FAULT: u8 = 2;
/// Blocked in the kernel outside of a syscall (signal stop, exit, task work).
pub const CLASS_KERNEL: u8 = 3;
/// Blocked, but what in could not be told on this kernel.
pub const CLASS_UNKNOWN: u8 = 4;

/// The wait was under way when observation began: its length is a lower bound.
pub const WAIT_SEEDED: u8 = 1;
/// The thread was new: this is its way to a CPU for the first time.
pub const WAIT_NEW_THREAD: u8 = 2;
/// A copy of the user stack was sent (record kind UserStack with the same thread and start).
pub const WAIT_STACK_COPIED: u8 = 4;
/// Uninterruptible (state D).
pub const WAIT_UNINTERRUPTIBLE: u8 = 8;

/// A stack that was not asked for or could not be taken.
pub const NO_STACK: i32 = -1;
/// No syscall.
pub const NO_SYSCALL: i32 = -1;

/// What waits are grouped by in the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WaitKey {
    /// Who waited.
    pub task: Task,
    /// Descriptor, futex address, `path::Path::id`, or for `vfork` where it was called (it leaves that in its
    /// first argument's register); 0 for syscalls without a subject.
    pub subject: u64,
    /// User instruction pointer, only when the user stack is not walked by frame pointers.
    pub user_ip: u64,
    /// Process.
    pub tgid: u32,
    /// Generation (see `Control::epoch`).
    pub epoch: u32,
    /// Syscall number or [`NO_SYSCALL`].
    pub syscall: i32,
    /// Id in the stack map or [`NO_STACK`].
    pub user_stack: i32,
    /// `CLASS_*`.
    pub class: u8,
    /// `WAIT_*` flags that matter for grouping (seeded).
    pub flags: u8,
    /// 1: the tasks of many rows were folded into this one for want of room.
    pub folded: u8,
    /// Always 0.
    pub pad: [u8; 5],
}

const _: () = assert!(size_of::<WaitKey>() == 56);
pod!(WaitKey);

/// Buckets of the duration histogram: two per octave from 1 µs up; the last one is open.
pub const BUCKETS: usize = 56;

/// Sums over the waits of one key.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WaitSum {
    /// Waits.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// Of that, time from the wake-up to running.
    pub run_queue_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Counts by duration; see [`bucket_of`].
    pub buckets: [u32; BUCKETS],
}

const _: () = assert!(size_of::<WaitSum>() == 32 + 4 * BUCKETS);
pod!(WaitSum);

/// The bucket of a duration: 0 holds everything below 1.024 µs, then two per octave.
#[inline(always)]
pub const fn bucket_of(ns: u64) -> usize {
    let units = ns >> 9;
    if units < 2 {
        return 0;
    }
    // Position of the highest bit by halves. BPF has no instruction for it, and a branch for each half
    // would have the verifier walk what follows once for every position.
    let mut value = units;
    let mut log = 0;
    let mut half = 32;
    while half > 0 {
        let above = exceeds(value, (1 << half) - 1) * half;
        value >>= above;
        log += above;
        half /= 2;
    }
    let bucket = 2 * log + ((units >> (log - 1)) & 1) - 1;
    if bucket >= BUCKETS as u64 {
        BUCKETS - 1
    } else {
        bucket as usize
    }
}

/// 1 when `value` is greater than `limit`, else 0, for values below 2^63: the sign of their difference.
/// Hidden from the compiler, which would make a branch of it.
#[inline(always)]
const fn exceeds(value: u64, limit: u64) -> u64 {
    core::hint::black_box(limit.wrapping_sub(value)) >> 63
}

/// The smallest duration of a bucket, in nanoseconds.
pub const fn bucket_floor(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let log = bucket.div_ceil(2);
    let half = (bucket + 1) % 2;
    ((2 + half as u64) << (log - 1)) << 9
}

/// Waker context: a thread ran and woke the waiter.
pub const WAKER_TASK: u8 = 1;
/// Waker context: an interrupt (timer, network, disk) did.
pub const WAKER_INTERRUPT: u8 = 2;
/// Waker context: deferred interrupt work (network receive, timers) that ran on the waker thread:
/// over loopback that thread is the sender, else it may be unrelated.
pub const WAKER_SOFTIRQ: u8 = 4;
/// Waker context: could not be told apart on this kernel.
pub const WAKER_UNKNOWN_CONTEXT: u8 = 3;

/// Who ended a wait.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waker {
    /// Its task, when its process is a target.
    pub task: Task,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// User stack, when its process is a target and the wait was long; else [`NO_STACK`].
    pub user_stack: i32,
    /// `WAKER_*`; 0 when nobody was seen.
    pub context: u8,
    /// Always 0.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Waker>() == 32);
pod!(Waker);

/// A wait that ended and was longer than the threshold.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct WaitRecord {
    /// Kind `Wait`; tgid and tid are the waiter's, ktime the end.
    pub header: Header,
    /// What it is grouped by.
    pub key: WaitKey,
    /// When it began.
    pub start: u64,
    /// When it was woken; 0 when that was not seen.
    pub woken: u64,
    /// Syscall arguments.
    pub args: [u64; 6],
    /// Who ended it.
    pub waker: Waker,
    /// Id of the kernel stack in the stack map, when it was sampled; else [`NO_STACK`].
    pub kernel_stack: i32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<WaitRecord>() == 24 + 56 + 16 + 48 + 32 + 8);
pod!(WaitRecord);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_between_its_bucket_floor_and_the_next() {
        for shift in 0..60 {
            for extra in [0_u64, 1, 333, 77_777] {
                let ns = (1_u64 << shift) + extra;
                let bucket = bucket_of(ns);
                assert!(bucket_floor(bucket) <= ns, "{ns}: bucket {bucket}");
                if bucket + 1 < BUCKETS {
                    assert!(ns < bucket_floor(bucket + 1), "{ns}: bucket {bucket}");
                }
            }
        }
    }

    #[test]
    fn buckets_reach_a_minute() {
        assert!(bucket_floor(BUCKETS - 1) > 60_000_000_000);
    }
}
