//! A task that keeps its worker inside a poll, as seen from the sampling clock and from switches.

use crate::events::wait_sample::{SHAPES, Shape};
use crate::header::Header;
use crate::pod;
use crate::task::Task;

/// What is known of the poll that a thread is in: the same task inside a poll at every look from
/// `first` to `last`. A look is a tick of the sampling clock, a switch-out or a switch-in.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Hold {
    /// The task; meaningless when `first` is 0.
    pub task: Task,
    /// The first look that saw it; 0 when the thread is in no poll.
    pub first: u64,
    /// The last look at this thread, whatever it saw; 0 when there was none.
    pub last: u64,
    /// The look before `first`, which saw something else; 0 when there was none.
    pub before: u64,
    /// Of `first` to `last`, time off the CPU, being ready left out.
    pub blocked_ns: u64,
    /// Of `first` to `last`, time ready to run without a CPU.
    pub run_queue_ns: u64,
    /// Ticks of the sampling clock that saw it.
    pub samples: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<Hold>() == 64);
pod!(Hold);

/// The loop of a thread is in no task: it drives a runtime by `block_on`.
pub const LOOP_WITHOUT_TASK: u64 = u64::MAX;

/// What is kept of a thread while it lives, beside its last wait.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Thread {
    /// When it got its CPU; 0 when that was not seen, or while it has none.
    pub since: u64,
    /// Time on a CPU.
    pub on_cpu_ns: u64,
    /// Time blocked inside polls that must not block.
    pub held_ns: u64,
    /// Time parked: the runtime had nothing for it to do.
    pub idle_ns: u64,
    /// Time ready without a CPU.
    pub run_queue_ns: u64,
    /// Time off the CPU otherwise.
    pub other_ns: u64,
    /// TLS base, when the thread was seen inside a tokio runtime; else 0.
    pub fsbase: u64,
    /// The task that it last showed outside of a budget: it is a worker. 0: none.
    pub launcher: u64,
    /// The task that it showed when it last parked: the one that a tokio worker's own loop is in, and no
    /// future that runs without a budget. 0: not seen; [`LOOP_WITHOUT_TASK`]: none.
    pub own_loop: u64,
    /// The poll that it is in.
    pub hold: Hold,
    /// Which of its waits have been sampled.
    pub shapes: [Shape; SHAPES],
}

const _: () = assert!(size_of::<Thread>() == 72 + 64 + 64);
pod!(Thread);

/// A poll that is over: sent when it was long on a CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct HoldRecord {
    /// Kind `Hold`; ktime is the first look that saw something else.
    pub header: Header,
    /// What was seen of it.
    pub hold: Hold,
}

const _: () = assert!(size_of::<HoldRecord>() == 88);
pod!(HoldRecord);
