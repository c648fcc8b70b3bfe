//! What a session hands over at its end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use observer_common::counters::COUNTERS;

use super::census::Sampled;
use super::polls::FollowedPolls;
use super::stacks::Stacks;
use super::syscalls::SyscallsSeen;
use super::target::Target;
use super::task_types::Finders;
use super::workers::Workers;
use crate::aggregate::cpu::CpuLedger;
use crate::aggregate::ledger::Ledger;
use crate::aggregate::polls::PollLedger;
use crate::aggregate::workers::HeldLedger;
use crate::model::transitions::Followed;
use crate::model::{Mono, Pid};
use crate::resolve::resources::FdTable;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Time,
    /// The user interrupted it.
    Interrupted,
    /// All targets have ended.
    Targets,
}

/// All that a session has found, before it is named and rolled up.
#[derive(Debug)]
pub struct Observed {
    /// The targets as they are at the end.
    pub targets: Vec<Target>,
    /// Sums.
    pub ledger: Ledger,
    /// What the sampling clock saw.
    pub cpu: CpuLedger,
    /// Its ticks per second and CPU; `None`: it did not run.
    pub cpu_hz: Option<u32>,
    /// Long polls and delays that probes saw.
    pub polls: PollLedger,
    /// What each attachment of such probes has found.
    pub followed_polls: Vec<FollowedPolls>,
    /// Threads of tokio runtimes, and when they were held inside polls.
    pub workers: (Workers, HeldLedger),
    /// Stacks, those of targets that ended or called exec symbolized already.
    pub stacks: Stacks,
    /// Descriptors.
    pub fds: FdTable,
    /// What tells tasks' types.
    pub finders: Finders,
    /// Counters of the kernel side.
    pub counters: [u64; COUNTERS as usize],
    /// Records lost by the transport, and records not understood.
    pub lost_records: u64,
    /// See `lost_records`.
    pub undecoded: u64,
    /// What the tier `syscalls` saw.
    pub syscalls: Option<SyscallsSeen>,
    /// What the targets' own lists of tasks said.
    pub censuses: HashMap<Pid, Sampled>,
    /// Tasks followed exactly.
    pub followed: Vec<Followed>,
    /// Waits that had not ended.
    pub unfinished: u64,
    /// Waits in the sums.
    pub summed: u64,
    /// Wall time of start and end, and the monotonic length.
    pub window: (SystemTime, SystemTime, Duration),
    /// When the window began, by the clock of the kernel side.
    pub began: Mono,
    /// Why it ended.
    pub ended: Ended,
    /// Time in and runs of kernel programs, when counted.
    pub bpf: Option<(u64, u64)>,
    /// What was degraded.
    pub notes: Vec<String>,
    /// Hash of the object that ran.
    pub object_sha256: String,
}
