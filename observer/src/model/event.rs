//! What the kernel side reported, in domain types: the seam between `decode` and the stages after it.

use super::ids::{Pid, Tid};
use super::syscall::{self, Subject};
use super::task::{Legality, TaskRef};
use super::time::Mono;

/// Who was on the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// This task.
    Task(TaskRef),
    /// Nobody: a runtime thread with nothing to do.
    Idle,
    /// The thread's memory could not be read.
    Unreadable,
    /// The runtime's structures did not check out (Go: `m.procid` is not the thread's id).
    Mismatch,
    /// It waited before the observation and ran on before it could be read: a task, or nobody.
    Missed,
    /// Several tasks, folded together because the kernel's table was full.
    Folded,
}

/// What kept the thread off its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitClass {
    /// A blocking syscall.
    Syscall(u32),
    /// Ready, but not running.
    RunQueue,
    /// A page fault.
    PageFault,
    /// Something in the kernel that is neither.
    Kernel,
    /// Could not be told on this kernel.
    Unknown,
}

impl WaitClass {
    /// What tells what such a wait is for.
    pub fn subject(self) -> Subject {
        match self {
            Self::Syscall(nr) => syscall::by_number(nr).map_or(Subject::None, |row| row.subject),
            Self::RunQueue | Self::PageFault | Self::Kernel | Self::Unknown => Subject::None,
        }
    }
}

/// What waits are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitKey {
    /// The process.
    pub pid: Pid,
    /// Who waited.
    pub identity: Identity,
    /// Why.
    pub class: WaitClass,
    /// File descriptor or futex address, for syscalls that have one.
    pub subject: u64,
    /// Whether blocking is allowed there.
    pub legality: Legality,
    /// Go: `g.atomicstatus` (2 = running: the goroutine kept its P; 3 = in a syscall).
    pub go_status: Option<u8>,
    /// User instruction pointer; 0 when the user stack was walked by frame pointers.
    pub user_ip: u64,
    /// Id of the user stack in the kernel's stack map.
    pub user_stack: Option<u32>,
    /// It was under way when observation began: its length is a lower bound.
    pub seeded: bool,
}

/// In what context a wake-up ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WakerContext {
    /// The waker thread itself.
    Task,
    /// Deferred interrupt work on the waker thread: over loopback that is the sender.
    SoftIrq,
    /// A hardware interrupt: the thread it ran on has nothing to do with it.
    Interrupt,
    /// Not known on this kernel.
    Unknown,
}

/// Who ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WakerSeen {
    /// Its process.
    pub pid: Pid,
    /// Its thread.
    pub tid: Tid,
    /// Its task, when its process is a target.
    pub identity: Option<Identity>,
    /// Id of its user stack.
    pub user_stack: Option<u32>,
    /// In what context.
    pub context: WakerContext,
}

/// A wait that ended and was longer than the threshold.
#[derive(Debug, Clone, Copy)]
pub struct WaitEvent {
    /// What it is summed by.
    pub key: WaitKey,
    /// The thread.
    pub tid: Tid,
    /// When it began.
    pub start: Mono,
    /// When it ended.
    pub end: Mono,
    /// When it was woken, if that was seen.
    pub woken: Option<Mono>,
    /// Syscall arguments.
    pub args: [u64; 6],
    /// Who woke it, if that was seen.
    pub waker: Option<WakerSeen>,
    /// Id of the kernel stack in the kernel's stack map, when it was sampled.
    pub kernel_stack: Option<u32>,
}

/// Registers and a piece of a user stack.
#[derive(Debug, Clone, Copy)]
pub struct UserStackEvent<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When the wait began that the stack belongs to.
    pub start: Mono,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer: the address of the first byte of `bytes`.
    pub sp: u64,
    /// Frame pointer register.
    pub bp: u64,
    /// Why the thread waits.
    pub class: WaitClass,
    /// File descriptor or futex address.
    pub subject: u64,
    /// Id of the same stack as walked by frame pointers.
    pub user_stack: Option<u32>,
    /// Id of the kernel stack.
    pub kernel_stack: Option<u32>,
    /// Who waits.
    pub identity: Identity,
    /// The stack from `sp` up.
    pub bytes: &'a [u8],
    /// The task's own stack, when the thread runs on another (a goroutine that called C).
    pub task: Option<LeftStack<'a>>,
    /// Waits of this thread that it stands for.
    pub weight: u64,
}

/// A task's own stack, left for another one.
#[derive(Debug, Clone, Copy)]
pub struct LeftStack<'a> {
    /// Stack pointer where it was left: the address of the first byte of `bytes`.
    pub sp: u64,
    /// Return address.
    pub pc: u64,
    /// The stack from `sp` up.
    pub bytes: &'a [u8],
}

/// A thread of a target was on a CPU at a tick of the sampling clock.
#[derive(Debug, Clone, Copy)]
pub struct CpuSampleEvent<'a> {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When.
    pub at: Mono,
    /// Who ran.
    pub identity: Identity,
    /// Whether its runtime expects it to be quick there.
    pub legality: Legality,
    /// It was inside a call into the kernel.
    pub in_kernel: bool,
    /// Instruction pointer: an instruction of its own, not one after a call.
    pub ip: u64,
    /// Stack pointer: the address of the first byte of `bytes`.
    pub sp: u64,
    /// Frame pointer register.
    pub bp: u64,
    /// Id of the user stack in the kernel's stack map.
    pub user_stack: Option<u32>,
    /// The stack from `sp` up; empty when it was not copied.
    pub bytes: &'a [u8],
}

/// A poll that kept its worker on a CPU: the same task was inside a poll at every look at the thread
/// from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldEvent {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Whose poll.
    pub identity: Identity,
    /// The first look that saw it.
    pub first: Mono,
    /// The last look that saw it.
    pub last: Mono,
    /// The last look before it; `None`: it may have begun before the observation.
    pub before: Option<Mono>,
    /// The first look after it; `None`: it had not ended.
    pub after: Option<Mono>,
    /// Of `first` to `last`, blocked.
    pub blocked_ns: u64,
    /// Of `first` to `last`, ready without a CPU.
    pub run_queue_ns: u64,
    /// Ticks of the sampling clock that saw it.
    pub samples: u32,
}

impl HoldEvent {
    /// How long it lasted at least.
    pub fn at_least_ns(&self) -> u64 {
        self.last.since(self.first)
    }

    /// How long it lasted at most, when both ends were seen.
    pub fn at_most_ns(&self) -> Option<u64> {
        Some(self.after?.since(self.before?))
    }

    /// How long it was on a CPU at least.
    pub fn on_cpu_ns(&self) -> u64 {
        self.at_least_ns()
            .saturating_sub(self.blocked_ns)
            .saturating_sub(self.run_queue_ns)
    }
}

/// A long poll of a tokio task, seen by probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollEvent {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The attachment of the probes.
    pub slot: u32,
    /// The task.
    pub id: u64,
    /// The task type: address of its vtable in the process.
    pub vtable: u64,
    /// When it began.
    pub start: Mono,
    /// When it ended at the latest.
    pub end: Mono,
    /// Of it, blocked in futex calls.
    pub lock_ns: u64,
    /// Of it, off the CPU otherwise.
    pub blocked_ns: u64,
    /// Of it, ready without a CPU.
    pub run_queue_ns: u64,
}

/// A tokio task waited long from its wake-up to its poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayEvent {
    /// The process.
    pub pid: Pid,
    /// The thread that polled it.
    pub tid: Tid,
    /// The attachment of the probes.
    pub slot: u32,
    /// The task.
    pub id: u64,
    /// The task type: address of its vtable in the process.
    pub vtable: u64,
    /// When it was woken.
    pub woken: Mono,
    /// When its poll began.
    pub polled: Mono,
}

/// Anything the kernel side sends.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A wait ended.
    Wait(WaitEvent),
    /// A user stack was copied.
    UserStack(UserStackEvent<'a>),
    /// A running thread was sampled.
    CpuSample(CpuSampleEvent<'a>),
    /// A poll that kept its worker on a CPU is over.
    Hold(HoldEvent),
    /// A long poll, seen by probes.
    Poll(PollEvent),
    /// A long delay from wake-up to poll, seen by probes.
    Delay(DelayEvent),
    /// A target runs another program now.
    Exec {
        /// The target.
        pid: Pid,
    },
    /// A target's main thread exited.
    Exit {
        /// The target.
        pid: Pid,
    },
    /// A target made a child process.
    Fork {
        /// The target.
        pid: Pid,
        /// The child.
        child: Pid,
    },
}

/// A wait that has not ended.
#[derive(Debug, Clone, Copy)]
pub struct OpenWait {
    /// What it will be summed by.
    pub key: WaitKey,
    /// The thread.
    pub tid: Tid,
    /// When it began (or was first looked at, when seeded).
    pub start: Mono,
    /// When it was woken, if it was.
    pub woken: Option<Mono>,
    /// Syscall arguments.
    pub args: [u64; 6],
    /// User instruction pointer.
    pub ip: u64,
    /// User stack pointer.
    pub sp: u64,
    /// User frame pointer.
    pub bp: u64,
    /// Id of the kernel stack, when it was sampled.
    pub kernel_stack: Option<u32>,
    /// A copy of its user stack was sent.
    pub copied: bool,
    /// Address of the goroutine that called C and left its own stack for that; 0: none.
    pub task_at: u64,
}

/// A thread that was blocked when observation began.
#[derive(Debug, Clone)]
pub struct SeedEvent {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// When it was looked at.
    pub at: Mono,
    /// TLS base.
    pub fsbase: u64,
    /// User instruction pointer.
    pub ip: u64,
    /// User stack pointer.
    pub sp: u64,
    /// User frame pointer.
    pub bp: u64,
    /// Kernel stack, nearest first.
    pub kernel_stack: Vec<u64>,
}

/// Number of buckets of a [`Tally`]: two per octave from 1.024 µs up; the first holds what is
/// shorter, the last is open.
pub const BUCKETS: usize = 56;

/// The bucket of a duration.
pub fn bucket_of(ns: u64) -> usize {
    let units = ns >> 9;
    if units < 2 {
        return 0;
    }
    let log = units.ilog2() as usize;
    let half = (units >> (log - 1)) & 1;
    (log * 2 + half as usize - 1).min(BUCKETS - 1)
}

/// The smallest duration of a bucket, in nanoseconds.
pub fn bucket_floor(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let half = (bucket + 1) % 2;
    ((2 + half as u64) << (bucket.div_ceil(2) - 1)) << 9
}

/// Sums over waits.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Waits.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// Of that, ready but not running after the wake-up.
    pub run_queue_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Counts by duration, two buckets per octave.
    pub buckets: [u64; BUCKETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            count: 0,
            total_ns: 0,
            run_queue_ns: 0,
            max_ns: 0,
            buckets: [0; BUCKETS],
        }
    }
}
