//! Who computes, who holds: parts of a view that do not come from sums of waits. Times in nanoseconds.

use super::known::Known;
use super::stack::Frame;
use super::task::TaskRef;

/// Who probably held a lock, by wake-ups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// A short description, as in [`Waker`].
    pub task: String,
    /// Where it woke the waiters.
    pub site: Option<String>,
    /// Waits that it ended.
    pub wake_ups: u64,
    /// Of so many whose waker was seen.
    pub of: u64,
}

/// Bounds of polls that kept their worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LongPoll {
    /// How long they lasted at least, in all; blocked time included.
    pub at_least_ns: u64,
    /// How long they lasted at most within the observation, in all.
    pub at_most_ns: u64,
    /// The longest, at least.
    pub longest_at_least_ns: u64,
    /// The same, at most; `None`: an end of it was not seen.
    pub longest_at_most_ns: Option<u64>,
    /// Of `at_least_ns`, blocked.
    pub blocked_ns: u64,
    /// Of `at_least_ns`, ready without a CPU.
    pub run_queue_ns: u64,
    /// Ticks of the sampling clock that saw them.
    pub samples: u64,
    /// These as a share of one CPU, that is of one worker, over the window.
    pub cores: f64,
}

/// Who was on a CPU, by ticks of a sampling clock.
#[derive(Debug, Clone)]
pub struct CpuUse {
    /// Ticks per second and CPU.
    pub hz: u32,
    /// Ticks that hit a target.
    pub samples: u64,
    /// Of these, ticks for whose place there was no room.
    pub unplaced: u64,
    /// Places, most samples first; bounded.
    pub sites: Vec<CpuSite>,
    /// How many there were in all.
    pub sites_total: u64,
}

/// A place at which tasks compute.
#[derive(Debug, Clone)]
pub struct CpuSite {
    /// Index into `View::targets`.
    pub target: usize,
    /// Nearest user frame that is not runtime or standard library.
    pub site: Known<Frame>,
    /// The stack that was seen most, nearest frame first; without its middle where the place hardly counts.
    pub stack: Vec<Frame>,
    /// Frames that are left out of it.
    pub frames_left_out: u64,
    /// Which tasks, most samples first; bounded.
    pub tasks: Vec<TaskSamples>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
    /// Ticks that hit it.
    pub samples: u64,
    /// Of these, inside a call into the kernel.
    pub in_kernel: u64,
    /// Of these, inside an async poll.
    pub in_poll: u64,
    /// As a share of one CPU over the window; more than 1 on several CPUs.
    pub cores: f64,
}

/// One task's part of a [`CpuSite`].
#[derive(Debug, Clone)]
pub struct TaskSamples {
    /// Which task.
    pub task: TaskRef,
    /// Its name.
    pub name: Option<String>,
    /// Ticks that hit it.
    pub samples: u64,
}
