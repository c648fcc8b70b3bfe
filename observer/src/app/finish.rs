//! The end of a session: what is still in the kernel is taken out, and handed over with the rest.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use observer_common::counters::COUNTERS;

use super::census::Sampled;
use super::paths::Paths;
use super::polls::FollowedPolls;
use super::session::Session;
use super::stacks::Stacks;
use super::syscalls::SyscallsSeen;
use super::target::Target;
use super::task_types::Finders;
use super::workers::Workers;
use crate::aggregate::cpu::CpuLedger;
use crate::aggregate::ledger::Ledger;
use crate::aggregate::polls::PollLedger;
use crate::aggregate::workers::HeldLedger;
use crate::intake::BATCH;
use crate::model::transitions::Followed;
use crate::model::{Mono, Pid};
use crate::resolve::peers::Pair;
use crate::resolve::resources::FdTable;
use crate::sys::usage;

/// Waits that have not ended at the end and whose stacks are read then, at most.
const OPEN_STACKS: usize = 4096;

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
    /// Paths of system calls.
    pub paths: Paths,
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
    /// Connections between targets.
    pub pairs: Vec<Pair>,
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

impl Session {
    pub(super) fn finish(mut self, ended: Ended) -> anyhow::Result<Observed> {
        for sampler in self.samplers.values() {
            sampler.stop();
        }
        let (started, wall) = self.started;
        self.run_cost
            .end(started.elapsed(), || self.kernel.run_stats());
        self.count_probe_runs();
        let bpf = self.run_cost.over(started.elapsed());
        self.read_open_waits(0, OPEN_STACKS);
        self.set_control(false)?;
        let now = usage::monotonic_ns();
        let window = (wall, SystemTime::now(), started.elapsed());
        self.state.ended = Some(Mono(now));
        self.end_code_probes();
        // Programs that were running have ended within this time: they run with preemption off.
        std::thread::sleep(Duration::from_millis(2));
        while self.drain() == BATCH {}
        self.close_holds(Mono(now));
        self.collect_workers(Some(Mono(now)));
        let unfinished = self.close_open(Mono(now));
        self.collect(true);
        self.state.paths.extend(self.maps.paths());
        let syscalls = self
            .syscalls
            .take()
            .map(|tier| tier.finish(Mono(now), &mut self.state, &self.maps));
        for stack in self.state.ledger.waker_stacks() {
            self.state.stacks.fetch(Some(stack.0), stack.1, &self.maps);
        }
        self.note_unready();
        let mut notes = std::mem::take(&mut self.state.notes);
        notes.extend(self.state.children.notes());
        notes.extend(self.targets.iter().filter_map(|target| {
            let by = target.process.stopped_by()?;
            let pid = target.process.id.pid;
            Some(format!(
                "pid {pid} was stopped when the observation ended, by {by}: while it is stopped none of its threads can run, and no wait is seen"
            ))
        }));
        let censuses = self.finish_censuses(&mut notes);
        let (pairs, note) = std::mem::take(&mut self.peers).finish();
        notes.extend(note);
        let followed = self.take_followed();
        let followed_polls = self.take_followed_polls();
        self.state.stacks.forget_unwinders();
        usage::release_freed_memory();
        Ok(Observed {
            syscalls,
            followed,
            followed_polls,
            cpu_hz: self.kernel.samples_cpu().then_some(self.options.cpu_hz),
            cpu: self.state.cpu,
            polls: self.state.polls,
            workers: (self.workers, self.state.held),
            began: Mono(now.saturating_sub(window.2.as_nanos() as u64)),
            censuses,
            pairs,
            counters: self.maps.counters(),
            lost_records: self.source.lost(),
            undecoded: self.state.undecoded,
            unfinished,
            summed: self.state.summed,
            window,
            ended,
            bpf,
            notes,
            object_sha256: crate::probes::object::sha256(self.options.transport),
            targets: self.targets,
            ledger: self.state.ledger,
            stacks: self.state.stacks,
            fds: self.state.fds,
            paths: self.state.paths,
            finders: self.state.finders,
        })
    }
}
