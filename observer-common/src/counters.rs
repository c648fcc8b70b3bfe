//! Counters that the kernel side keeps, one slot each in a per-CPU array.

/// A counter.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Off-CPU stretches of target threads that began, or were under way when observation began.
    Seen = 0,
    /// Ended and counted in the aggregates only.
    Aggregated = 1,
    /// Ended, counted in the aggregates and sent as a record.
    Emitted = 2,
    /// Left out: the thread exited.
    Exited = 3,
    /// Lost: no room for another blocked thread.
    LostInflightFull = 8,
    /// Lost: neither the detailed nor the coarse aggregate had room.
    LostAggregateFull = 9,
    /// Lost: time of the above, in nanoseconds.
    LostAggregateNs = 10,
    /// A record did not fit the buffer (the wait is in the aggregates all the same).
    LostRecord = 11,
    /// Lost: a thread left its CPU whose last wait was seen neither to end nor to be woken from.
    LostEnd = 12,
    /// Detail lost: the task was folded into "other tasks" because the aggregate was full.
    FoldedTasks = 13,
    /// Time of idle runtime threads, in nanoseconds; their waits are among `Aggregated`.
    IdleNs = 14,
    /// Detail lost: the end of a wait was not seen. It is counted until the thread was woken.
    EndAtWakeUp = 15,
    /// Detail lost: no room for another path of a system call.
    LostPath = 16,
    /// User stacks not taken: the walk failed.
    UserStackFailed = 20,
    /// Stacks not taken: another stack has the slot (hash collision).
    StackCollision = 21,
    /// Stacks not taken: the stack map is full.
    StackMapFull = 22,
    /// Kernel stacks not taken: the walk failed.
    KernelStackFailed = 23,
    /// Waits without stacks of their own: the sampling budget of the moment was used up.
    NotSampled = 24,
    /// Stack copies left out: no room in the buffer.
    StackCopyLost = 25,
    /// The task could not be read from the thread's memory.
    TaskUnreadable = 30,
    /// Go: m.procid was not the thread's id.
    TaskMismatch = 31,
    /// Records about processes that did not fit the buffer.
    LostProcessRecord = 32,
    /// CPU samples that hit a thread of a target.
    CpuSamples = 40,
    /// CPU samples that did not fit the buffer.
    CpuSampleLost = 41,
    /// CPU samples whose stack was not copied: the budget of the moment was used up.
    CpuNotCopied = 42,
    /// Polls that held their worker and whose record did not fit the buffer.
    LostHold = 43,
    /// tokio: a poll or wake-up of a task whose type is not known, or that could not be read.
    PollUnknown = 60,
    /// tokio: a wake-up for which there was no room: its delay is not known.
    LostWoken = 61,
    /// tokio: a long poll that did not fit the buffer (it is in the sums).
    LostPoll = 62,
    /// tokio: a long delay that did not fit the buffer (it is in the sums).
    LostDelay = 63,
    /// tokio: a poll inside of more polls than are followed.
    PollTooDeep = 64,
    /// tokio: a poll on a thread for which there was no room.
    LostPollThread = 65,
    /// System calls of targets that were entered.
    SyscallsEntered = 33,
    /// System calls that returned and were summed.
    SyscallsSummed = 34,
    /// System calls that returned, but were entered before the observation.
    SyscallsBefore = 35,
    /// Lost: no room for another thread.
    LostSyscallThread = 36,
    /// Lost: no room for another sum.
    LostSyscallSum = 37,
    /// Detail lost: the task was folded into "other tasks" for want of room.
    FoldedSyscalls = 38,
    /// Lost: waits for the network for which there was no room.
    LostNetWait = 39,
    /// System calls that never returned: their thread ended in them.
    SyscallsEnded = 70,
    /// Waits for the network that are in no sum, because how long they took is not known: another
    /// task tried the descriptor next, it was closed, or it was "not ready" for another task too.
    NetWaitsUntimed = 71,
}

/// Slots in the map.
pub const COUNTERS: u32 = 80;
