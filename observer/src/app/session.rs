//! Observing: one task owns all state, drains records, sweeps the kernel's tables, and at the end
//! hands over what was found.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use observer_common::config::{CONTROL_DELAYS, CONTROL_NO_KERNEL_STACKS, CONTROL_POLLS, Control};

use super::census::Sampler;
use super::children::Children;
use super::finish::{Ended, Observed};
use super::paths::Paths;
use super::peers::Peers;
use super::run_cost::{self, RunCost};
use super::runtime_tier::RuntimeTier;
use super::stacks::Stacks;
use super::state::State;
use super::syscalls::SyscallTier;
use super::target::Target;
use super::task_types::Finders;
use super::watch::{forward_kernel_log, sleep_until, watch_exit};
use super::workers::Workers;
use crate::aggregate::cpu::CpuLedger;
use crate::aggregate::cpu_rollup;
use crate::aggregate::ledger::Ledger;
use crate::aggregate::polls::PollLedger;
use crate::aggregate::workers::HeldLedger;
use crate::decode::{self, decode};
use crate::intake::{BATCH, Source};
use crate::model::transport::Transport;
use crate::model::{Known, Mono, Pid};
use crate::probes::attach::{AttachError, Kernel, LoadOptions};
use crate::probes::maps::Maps;
use crate::probes::plan::{self, Facts};
use crate::probes::settings;
use crate::probes::spec::Tiers;
use crate::resolve::resources::FdTable;
use crate::resolve::symbols::SymbolizerHandle;
use crate::sys::kernel::KernelFacts;
use crate::sys::tracefs::TracepointFormats;
use crate::sys::usage;

/// Waits that are sampled per slice of time: a bound on what stacks may cost. A copy of up to 16 KiB of
/// cold memory costs the target as much as many waits do, and unwinding costs us more.
const SAMPLES: u64 = 5;
/// Likewise in the first second, when no stack is known yet.
const FIRST_SAMPLES: u64 = 30;
/// How long waits of a thread that look like one that was sampled are left to others, as the base-2
/// logarithm of units of 134 ms: 2.1 s. In the first second one unit.
const AGAIN: u64 = 4;
/// Stacks of running threads that are copied per slice of time; the others are placed by their
/// instruction alone.
const CPU_COPIES: u64 = 40;
/// The slice: short, so that a flood at its beginning does not hide what comes later.
const SLICE: Duration = Duration::from_millis(100);
/// Batches drained at a time.
const BATCHES: usize = 4;

/// What a session is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long; `None`: until interrupted or all targets have ended.
    pub duration: Option<Duration>,
    /// Between sweeps of the kernel's tables.
    pub interval: Duration,
    /// Waits of at least this long are recorded one by one, in nanoseconds.
    pub min_ns: u64,
    /// Take kernel stacks.
    pub kernel_stacks: bool,
    /// Which probes run.
    pub tiers: Tiers,
    /// Hits per second that probes in a target's own code may have.
    pub max_hits: u64,
    /// tokio: probe wake-ups too.
    pub delays: bool,
    /// How records arrive.
    pub transport: Transport,
    /// Mechanisms not to use.
    pub excluded: Vec<String>,
    /// Level of the kernel side's own log.
    pub kernel_log: u8,
    /// Samples of running threads per second and CPU; 0: none.
    pub cpu_hz: u32,
}

/// A session that observes.
#[derive(Debug)]
pub struct Session {
    pub(super) options: Options,
    pub(super) kernel: Kernel,
    pub(super) maps: Maps,
    pub(super) source: Source,
    pub(super) targets: Vec<Target>,
    pub(super) samplers: HashMap<Pid, Sampler>,
    pub(super) peers: Peers,
    pub(super) syscalls: Option<SyscallTier>,
    pub(super) state: State,
    /// Probes in targets' own code; `None` without the tier `runtime`.
    pub(super) runtime_tier: Option<RuntimeTier>,
    /// Threads of tokio runtimes.
    pub(super) workers: Workers,
    /// Run time of the kernel programs.
    pub(super) run_cost: RunCost,
    /// When waits began to count.
    pub(super) started: (Instant, SystemTime),
}

impl Session {
    /// Loads and attaches the kernel side and starts observing `targets`. `launched` is the one that
    /// was started for this session and has not called exec yet: what it does before does not count.
    ///
    /// # Errors
    /// When the kernel side can not be loaded or a required probe can not be attached.
    pub fn start(
        targets: Vec<Target>,
        launched: Option<Pid>,
        facts: &KernelFacts,
        options: Options,
        symbolizer: SymbolizerHandle,
    ) -> anyhow::Result<Self> {
        let formats = TracepointFormats::read();
        let config = settings::kernel_config(
            facts,
            formats.as_ref().unwrap_or(&TracepointFormats::default()),
            options.tiers,
        );
        let threads: u32 = targets.iter().map(|t| t.threads).sum();
        let load = LoadOptions {
            transport: options.transport,
            max_inflight: (threads * 4).clamp(16 * 1024, 1 << 20),
            runtime: options.tiers.runtime,
            log_level: options.kernel_log,
            cpu_hz: options.cpu_hz,
        };
        let mut options = options;
        let mut kernel = match Kernel::load(&config, load) {
            // Kernels before 5.8 have no ring buffer.
            Err(AttachError::Load(reason)) if options.transport == Transport::Ring => {
                tracing::debug!(reason, "no ring buffer: trying perf buffers");
                options.transport = Transport::Perf;
                Kernel::load(
                    &config,
                    LoadOptions {
                        transport: Transport::Perf,
                        ..load
                    },
                )
                .map_err(|_| AttachError::Load(reason))?
            }
            loaded => loaded?,
        };
        let mut maps = kernel.take_maps()?;
        let mut syscalls = if options.tiers.syscalls {
            Some(SyscallTier::prepare(&mut kernel)?)
        } else {
            None
        };
        let runtime_tier = if options.tiers.runtime {
            Some(RuntimeTier::new(
                &mut kernel,
                options.max_hits,
                options.delays,
            )?)
        } else {
            None
        };
        tracing::debug!("kernel programs loaded");
        if options.kernel_log > 0 {
            forward_kernel_log(&mut kernel);
        }
        let stats = crate::probes::attach::enable_stats();
        let mut state = State {
            ledger: Ledger::default(),
            cpu: CpuLedger::default(),
            polls: PollLedger::default(),
            held: HeldLedger::default(),
            began: Mono(usage::monotonic_ns()),
            ended: None,
            stacks: Stacks::new(symbolizer),
            paths: Paths::default(),
            // A sum is taken out up to two intervals after its waits.
            fds: FdTable::new(options.interval * 3),
            finders: Finders::default(),
            seeds: HashMap::new(),
            unwound: HashMap::new(),
            wanted: HashSet::new(),
            looked_up: 0,
            epoch: 1,
            undecoded: 0,
            summed: 0,
            notes: Vec::new(),
            children: Children::default(),
            exec_seen: Vec::new(),
            launched,
            threads_seen: Vec::new(),
            with_tasks: targets
                .iter()
                .filter(|t| t.reader.known().is_some())
                .map(|t| t.process.id.pid)
                .collect(),
        };
        for target in &targets {
            let pid = target.process.id.pid;
            maps.set_target(pid.0, target.config())?;
            state.stacks.set_tasks(pid, target.task_stacks());
            state.finders.start(target);
            if launched != Some(target.process.id.pid) {
                state.stacks.prepare(target.process.id.pid);
            }
        }
        let plan = plan::plan(
            options.tiers,
            &Facts {
                btf: match &facts.btf {
                    Known::Known(_) => Ok(()),
                    Known::Unknown(reason) => Err(reason.clone()),
                },
                tracefs: formats.as_ref().map(|_| ()).map_err(Clone::clone),
                task_offsets: facts.task.pid.known().is_some() && facts.task.tgid.known().is_some(),
                cpu_samples: options.cpu_hz > 0,
                excluded: options.excluded.clone(),
            },
        );
        kernel.attach(&plan)?;
        // Before the records' buffer is mapped and the stacks of blocked threads are read: not all at once.
        kernel.forget_types();
        usage::release_freed_memory();
        let source = Source::open(kernel.take_records(), options.transport)?;
        if let Some(tier) = &mut syscalls {
            tier.attached();
        }
        for outcome in &kernel.outcomes {
            if let Some(hook) = outcome.attached {
                tracing::debug!(
                    probe = outcome.spec.name,
                    mechanism = hook.mechanism(),
                    "attached"
                );
            }
            state.notes.extend(outcome.degradation());
        }
        if config.has_task_pt_regs == 0 {
            state.notes.push(
                "syscalls are not named: this kernel (before 5.15) does not give a thread's registers"
                    .to_owned(),
            );
        }
        if facts.task.fsbase.known().is_none() && targets.iter().any(|t| t.reader.known().is_some())
        {
            state.notes.push(
                "goroutines and tasks are not named: the kernel does not tell where a thread's TLS base is"
                    .to_owned(),
            );
        }
        let mut session = Self {
            options,
            kernel,
            maps,
            source,
            targets,
            samplers: HashMap::new(),
            peers: Peers::default(),
            syscalls,
            state,
            runtime_tier,
            workers: Workers::default(),
            run_cost: RunCost::new(stats.ok()),
            started: (Instant::now(), SystemTime::now()),
        };
        // Each probe takes some ten milliseconds to put in: the window begins when all are.
        for index in 0..session.targets.len() {
            session.attach_code_probes(index);
        }
        session.started = (Instant::now(), SystemTime::now());
        session.state.began = Mono(usage::monotonic_ns());
        session.set_control(true)?;
        session.seed();
        for index in 0..session.targets.len() {
            session.start_census(index);
        }
        Ok(session)
    }

    pub(super) fn set_control(&mut self, enabled: bool) -> anyhow::Result<()> {
        let mut flags = 0;
        if !self.options.kernel_stacks {
            flags |= CONTROL_NO_KERNEL_STACKS;
        }
        if self.follows_polls() {
            flags |= CONTROL_POLLS;
            if self.options.delays {
                flags |= CONTROL_DELAYS;
            }
        }
        let first = self.started.0.elapsed() < run_cost::FIRST;
        self.maps.set_control(Control {
            enabled: u32::from(enabled),
            epoch: self.state.epoch,
            min_ns: self.options.min_ns,
            samples: if first { FIRST_SAMPLES } else { SAMPLES },
            again: if first { 0 } else { AGAIN },
            cpu_copies: CPU_COPIES,
            flags,
        })?;
        Ok(())
    }

    /// Observes until time is over, the user interrupts, or all targets have ended.
    ///
    /// # Errors
    /// When records can not be read any more.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<Observed> {
        let started = self.started.0;
        let (exit_sender, mut exits) = tokio::sync::mpsc::unbounded_channel();
        for target in &self.targets {
            watch_exit(target.process.id.pid, exit_sender.clone());
        }
        drop(exit_sender);
        let deadline = self.options.duration.map(|d| started + d);
        let mut tick = tokio::time::interval_at(
            (started + self.options.interval).into(),
            self.options.interval,
        );
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut slice = tokio::time::interval(SLICE);
        tokio::pin!(stop);
        let ended = loop {
            tokio::select! {
                biased;
                () = &mut stop => break Ended::Interrupted,
                () = sleep_until(deadline) => break Ended::Time,
                Some(pid) = exits.recv() => {
                    self.target_ended(pid);
                    if self.targets.iter().all(|t| t.ended.is_some()) {
                        break Ended::Targets;
                    }
                }
                _ = slice.tick() => {
                    self.drain_all()?;
                    self.next_slice(started.elapsed())?;
                }
                _ = tick.tick() => self.sweep()?,
                ready = self.source.ready() => {
                    ready?;
                    self.drain_all()?;
                }
            }
        };
        self.finish(ended)
    }

    /// Drains what is there, up to a bound that lets timers and signals in between.
    fn drain_all(&mut self) -> anyhow::Result<()> {
        for _ in 0..BATCHES {
            if self.drain() < BATCH {
                break;
            }
        }
        if self.state.exec_seen.is_empty() {
            Ok(())
        } else {
            self.refresh_targets()
        }
    }

    pub(super) fn drain(&mut self) -> usize {
        let Self { source, state, .. } = self;
        source.drain(|bytes| match decode(bytes) {
            Ok(event) => state.on_event(&event),
            Err(error) => {
                state.undecoded += 1;
                tracing::debug!(%error, "record not understood");
            }
        })
    }

    /// A new slice of time: sampling may go on, long waits are looked at.
    fn next_slice(&mut self, since_start: Duration) -> anyhow::Result<()> {
        if self.run_cost.look(since_start, || self.kernel.run_stats()) {
            self.count_probe_runs();
        }
        self.set_control(true)?;
        self.check_code_probes();
        self.find_workers();
        self.read_long_waits();
        self.refresh_targets()
    }

    /// Moves sums to the ledger: those of generations that programs can no longer be adding to, or
    /// all of them.
    pub(super) fn collect(&mut self, all: bool) {
        let before = if all {
            u32::MAX
        } else {
            self.state.epoch.saturating_sub(1)
        };
        let Self { maps, state, .. } = self;
        let mut new_stacks: HashSet<(Option<Pid>, u32)> = HashSet::new();
        maps.drain_waits(before, |key, sum| {
            let key = state.with_seed(decode::wait::key(key), None);
            let tally = decode::wait::tally(sum);
            state.summed += tally.count;
            state.want(&key);
            new_stacks.extend(key.user_stack.map(|id| (Some(key.pid), id)));
            state.ledger.add_sum(key, &tally);
        });
        for (pid, id) in new_stacks {
            state.stacks.fetch(pid, id, maps);
        }
        for id in state.ledger.kernel_stacks() {
            state.stacks.fetch(None, id, maps);
        }
        for (pid, id) in cpu_rollup::kernel_kept(&state.cpu) {
            state.stacks.fetch_running(pid, id, maps);
        }
        self.collect_syscalls(before);
        let state = &mut self.state;
        for (pid, fd) in std::mem::take(&mut state.wanted) {
            state.fds.resolve_now(pid, fd);
        }
    }
}
