//! Observing: one task owns all state, drains records, sweeps the kernel's tables, and at the end
//! hands over what was found.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use observer_common::config::{CONTROL_NO_KERNEL_STACKS, CONTROL_NO_USER_STACKS, Control};
use observer_common::counters::COUNTERS;

use super::census::{Sampled, Sampler};
use super::stacks::Stacks;
use super::target::Target;
use crate::aggregate::ledger::{Ledger, SampleKey, WakerKey};
use crate::decode::{self, decode};
use crate::intake::{BATCH, Source};
use crate::model::event::{
    Event, Identity, OpenWait, SeedEvent, UserStackEvent, WaitClass, WaitEvent, WaitKey,
};
use crate::model::stacks::StackId;
use crate::model::syscall::{self, Subject};
use crate::model::task::TaskKind;
use crate::model::{Known, Mono, Pid, Tid};
use crate::probes::attach::{Kernel, LoadOptions, Maps};
use crate::probes::object::Transport;
use crate::probes::plan::{self, Facts};
use crate::probes::settings;
use crate::probes::spec::Tier;
use crate::resolve::resources::FdTable;
use crate::resolve::symbols::SymbolizerHandle;
use crate::runtimes::reading::TaskRead;
use crate::sys::kernel::KernelFacts;
use crate::sys::tracefs::TracepointFormats;
use crate::sys::usage;

/// Stack copies per interval: a bound on what unwinding may cost (16 KiB and some tens of µs each).
const STACK_COPIES: u64 = 1000;
/// Descriptors that are looked up per interval at most.
const LOOKUPS: usize = 256;
/// How often a runtime whose structures were not ready is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What a session is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long; `None`: until interrupted or all targets have ended.
    pub duration: Option<Duration>,
    /// Between sweeps of the kernel's tables.
    pub interval: Duration,
    /// Waits of at least this long are recorded one by one, in nanoseconds.
    pub min_ns: u64,
    /// Take user stacks.
    pub user_stacks: bool,
    /// Take kernel stacks.
    pub kernel_stacks: bool,
    /// Which probes run.
    pub tier: Tier,
    /// How records arrive.
    pub transport: Transport,
    /// Mechanisms not to use.
    pub excluded: Vec<String>,
    /// Level of the kernel side's own log.
    pub kernel_log: u8,
}

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

/// A thread that was blocked before observation, as read from outside.
#[derive(Debug)]
struct SeedRead {
    task: TaskRead,
    user: Option<u32>,
    kernel: Option<u32>,
}

/// All that a session has found, before it is named and rolled up.
#[derive(Debug)]
pub struct Observed {
    /// The targets as they are at the end.
    pub targets: Vec<Target>,
    /// Sums.
    pub ledger: Ledger,
    /// Stacks, those of targets that ended or called exec symbolized already.
    pub stacks: Stacks,
    /// Descriptors.
    pub fds: FdTable,
    /// Counters of the kernel side.
    pub counters: [u64; COUNTERS as usize],
    /// Records lost by the transport, and records not understood.
    pub lost_records: u64,
    /// See `lost_records`.
    pub undecoded: u64,
    /// What the targets' own lists of tasks said.
    pub censuses: HashMap<Pid, Sampled>,
    /// Waits that had not ended.
    pub unfinished: u64,
    /// Waits in the sums.
    pub summed: u64,
    /// Wall time of start and end, and the monotonic length.
    pub window: (SystemTime, SystemTime, Duration),
    /// Why it ended.
    pub ended: Ended,
    /// Time in and runs of kernel programs, when counted.
    pub bpf: Option<(u64, u64)>,
    /// What was degraded.
    pub notes: Vec<String>,
    /// Hash of the object that ran.
    pub object_sha256: String,
}

/// A session that observes.
#[derive(Debug)]
pub struct Session {
    options: Options,
    kernel: Kernel,
    maps: Maps,
    source: Source,
    targets: Vec<Target>,
    samplers: HashMap<Pid, Sampler>,
    state: State,
    _stats: Option<std::os::fd::OwnedFd>,
}

/// The state that records change: apart from the maps, so that both can be borrowed.
#[derive(Debug)]
struct State {
    ledger: Ledger,
    stacks: Stacks,
    fds: FdTable,
    seeds: HashMap<Tid, SeedRead>,
    /// The last unwound stack of each thread, until its wait is seen to end.
    unwound: HashMap<Tid, (Mono, StackId)>,
    /// Descriptors to look up at the next sweep.
    wanted: HashSet<(Pid, i32)>,
    looked_up: usize,
    epoch: u32,
    undecoded: u64,
    summed: u64,
    notes: Vec<String>,
    exec_seen: Vec<Pid>,
    threads_seen: Vec<(Pid, Tid)>,
    /// Targets whose tasks are read.
    with_tasks: HashSet<Pid>,
}

impl Session {
    /// Loads and attaches the kernel side and starts observing `targets`.
    ///
    /// # Errors
    /// When the kernel side can not be loaded or a required probe can not be attached.
    pub fn start(
        targets: Vec<Target>,
        facts: &KernelFacts,
        options: Options,
        symbolizer: SymbolizerHandle,
    ) -> anyhow::Result<Self> {
        let formats = TracepointFormats::read();
        let config = settings::kernel_config(
            facts,
            formats.as_ref().unwrap_or(&TracepointFormats::default()),
        );
        let threads: u32 = targets.iter().map(|t| t.threads).sum();
        let mut kernel = Kernel::load(
            &config,
            LoadOptions {
                transport: options.transport,
                max_inflight: (threads * 4).clamp(16 * 1024, 1 << 20),
                log_level: options.kernel_log,
            },
        )?;
        let mut maps = kernel.take_maps()?;
        let source = Source::open(kernel.take_records(), options.transport)?;
        if options.kernel_log > 0 {
            forward_kernel_log(&mut kernel);
        }
        let stats = crate::probes::attach::enable_stats();
        let mut state = State {
            ledger: Ledger::default(),
            stacks: Stacks::new(symbolizer),
            fds: FdTable::new(),
            seeds: HashMap::new(),
            unwound: HashMap::new(),
            wanted: HashSet::new(),
            looked_up: 0,
            epoch: 1,
            undecoded: 0,
            summed: 0,
            notes: Vec::new(),
            exec_seen: Vec::new(),
            threads_seen: Vec::new(),
            with_tasks: targets
                .iter()
                .filter(|t| t.reader.known().is_some())
                .map(|t| t.process.id.pid)
                .collect(),
        };
        for target in &targets {
            maps.set_target(target.process.id.pid.0, target.config())?;
            state.stacks.prepare(target.process.id.pid);
        }
        let plan = plan::plan(
            options.tier,
            &Facts {
                btf: match &facts.btf {
                    Known::Known(_) => Ok(()),
                    Known::Unknown(reason) => Err(reason.clone()),
                },
                tracefs: formats.as_ref().map(|_| ()).map_err(Clone::clone),
                task_offsets: facts.task.pid.known().is_some() && facts.task.tgid.known().is_some(),
                excluded: options.excluded.clone(),
            },
        );
        kernel.attach(&plan)?;
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
            state,
            _stats: stats.ok(),
        };
        session.set_control(true)?;
        session.seed();
        for index in 0..session.targets.len() {
            session.start_census(index);
        }
        Ok(session)
    }

    /// Starts to sample a target's own list of tasks, when its runtime keeps one.
    fn start_census(&mut self, index: usize) {
        let Some(target) = self.targets.get(index) else {
            return;
        };
        let pid = target.process.id.pid;
        if self.samplers.contains_key(&pid) || target.ended.is_some() {
            return;
        }
        let census = match target.census() {
            Known::Known(census) => census,
            Known::Unknown(reason) => {
                // Said with the target when it is the reason why no task is told apart.
                tracing::debug!(pid = pid.0, %reason, "no census");
                return;
            }
        };
        match Sampler::start(pid, census) {
            Ok(sampler) => drop(self.samplers.insert(pid, sampler)),
            Err(error) => self.state.notes.push(format!(
                "the task list of pid {pid} is not read: no thread for it ({error})"
            )),
        }
    }

    fn set_control(&mut self, enabled: bool) -> anyhow::Result<()> {
        let mut flags = 0;
        if !self.options.user_stacks {
            flags |= CONTROL_NO_USER_STACKS;
        }
        if !self.options.kernel_stacks {
            flags |= CONTROL_NO_KERNEL_STACKS;
        }
        self.maps.set_control(Control {
            enabled: u32::from(enabled),
            epoch: self.state.epoch,
            min_ns: self.options.min_ns,
            stack_copies: STACK_COPIES,
            flags,
        })?;
        Ok(())
    }

    /// Enters the waits that were under way, and reads who waits there.
    fn seed(&mut self) {
        let bytes = match self.kernel.read_seeds() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(reason) => {
                self.state.notes.push(format!(
                    "waits that began before the observation are seen only when they end ({reason})"
                ));
                return;
            }
        };
        let (seeds, rest) = decode::seed::seeds(&bytes);
        if rest != 0 {
            self.state.undecoded += 1;
        }
        let classes: HashMap<u32, WaitClass> = self
            .maps
            .inflight()
            .map(|(tid, entry)| (tid, decode::wait::open(Tid(tid), &entry)))
            .filter(|(_, open)| open.key.seeded)
            .map(|(tid, open)| (tid, open.key.class))
            .collect();
        for seed in seeds {
            // Without an entry the thread ran on before it could be entered.
            if let Some(class) = classes.get(&seed.tid.0) {
                self.read_seed(&seed, *class);
            }
        }
    }

    fn read_seed(&mut self, seed: &SeedEvent, class: WaitClass) {
        let Some(target) = self
            .targets
            .iter_mut()
            .find(|t| t.process.id.pid == seed.pid)
        else {
            return;
        };
        target.learn_thread(seed.tid);
        let task = target.read_seed(seed, class);
        let user = (seed.ip != 0 && task.identity != Identity::Idle)
            .then(|| {
                self.state
                    .stacks
                    .read_blocked(target, (seed.ip, seed.sp, seed.bp))
            })
            .map(|stack| self.state.stacks.adopt(stack));
        let kernel = (!seed.kernel_stack.is_empty())
            .then(|| self.state.stacks.intern(None, &seed.kernel_stack, None))
            .map(|stack| self.state.stacks.adopt(stack));
        self.state
            .seeds
            .insert(seed.tid, SeedRead { task, user, kernel });
    }

    /// Observes until time is over, the user interrupts, or all targets have ended.
    ///
    /// # Errors
    /// When records can not be read any more.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<Observed> {
        let (started, wall) = (Instant::now(), SystemTime::now());
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
        let mut retry = tokio::time::interval(RETRY);
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
                _ = retry.tick() => self.refresh_targets()?,
                _ = tick.tick() => self.sweep()?,
                ready = self.source.ready() => {
                    ready?;
                    while self.drain() == BATCH {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        self.finish(ended, started, wall)
    }

    fn drain(&mut self) -> usize {
        let Self { source, state, .. } = self;
        source.drain(|bytes| match decode(bytes) {
            Ok(event) => state.on_event(&event),
            Err(error) => {
                state.undecoded += 1;
                tracing::debug!(%error, "record not understood");
            }
        })
    }

    /// What can not be done while records are drained: exec, new threads' names, late runtimes.
    fn refresh_targets(&mut self) -> anyhow::Result<()> {
        for (pid, tid) in std::mem::take(&mut self.state.threads_seen) {
            if let Some(target) = self.targets.iter_mut().find(|t| t.process.id.pid == pid) {
                target.learn_thread(tid);
            }
        }
        for pid in std::mem::take(&mut self.state.exec_seen) {
            self.target_called_exec(pid)?;
        }
        let mut ready = Vec::new();
        for (index, target) in self
            .targets
            .iter_mut()
            .enumerate()
            .filter(|(_, t)| t.retry && t.ended.is_none())
        {
            target.read_runtime();
            if target.reader.known().is_some() {
                self.maps
                    .set_target(target.process.id.pid.0, target.config())?;
                ready.push(index);
            }
        }
        for index in ready {
            self.start_census(index);
        }
        for (pid, sampler) in &self.samplers {
            for fd in sampler.wanted() {
                if self.state.looked_up < LOOKUPS && self.state.wanted.insert((*pid, fd)) {
                    self.state.looked_up += 1;
                }
            }
        }
        Ok(())
    }

    fn target_called_exec(&mut self, pid: Pid) -> anyhow::Result<()> {
        // Stacks of the program before are named by its own files.
        self.collect(true);
        self.state.stacks.name_all_of(pid);
        let Some(target) = self.targets.iter_mut().find(|t| t.process.id.pid == pid) else {
            return Ok(());
        };
        let Ok(process) = crate::sys::process::Process::open(pid) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut target.process, process);
        self.state.notes.push(format!(
            "pid {pid} called exec: {} became {}; waits of both are listed, goroutines or tasks of the new program from then on",
            before.exe.display(),
            target.process.exe.display(),
        ));
        target.thread_names.clear();
        target.detect();
        self.maps.set_target(pid.0, target.config())?;
        self.state.stacks.prepare(pid);
        // Its addresses mean nothing in the new program.
        if let Some(sampler) = self.samplers.remove(&pid) {
            drop(sampler);
            self.state.notes.push(format!(
                "the task list of pid {pid} from before it called exec is left out"
            ));
        }
        if let Some(index) = self.targets.iter().position(|t| t.process.id.pid == pid) {
            self.start_census(index);
        }
        Ok(())
    }

    fn target_ended(&mut self, pid: Pid) {
        let Some(target) = self.targets.iter_mut().find(|t| t.process.id.pid == pid) else {
            return;
        };
        target.ended = Some("the process exited during the observation".to_owned());
        tracing::info!(pid = pid.0, "target exited");
    }

    /// Takes closed generations out of the kernel and opens a new one.
    fn sweep(&mut self) -> anyhow::Result<()> {
        self.state.epoch += 1;
        self.state.looked_up = 0;
        self.set_control(true)?;
        self.collect(false);
        for target in &mut self.targets {
            if target.ended.is_none() {
                target.count_threads();
            }
        }
        Ok(())
    }

    /// Moves sums to the ledger: those of generations that programs can no longer be adding to, or
    /// all of them.
    fn collect(&mut self, all: bool) {
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
            new_stacks.extend(key.kernel_stack.map(|id| (None, id)));
            state.ledger.add_sum(key, &tally);
        });
        for (pid, id) in new_stacks {
            state.stacks.fetch(pid, id, maps);
        }
        for (pid, fd) in std::mem::take(&mut state.wanted) {
            state.fds.resolve_now(pid, fd);
        }
    }

    fn finish(
        mut self,
        ended: Ended,
        started: Instant,
        wall: SystemTime,
    ) -> anyhow::Result<Observed> {
        for sampler in self.samplers.values() {
            sampler.stop();
        }
        let bpf = self._stats.is_some().then(|| self.kernel.run_stats());
        self.set_control(false)?;
        let now = usage::monotonic_ns();
        let window = (wall, SystemTime::now(), started.elapsed());
        // Programs that were running have ended within this time: they run with preemption off.
        std::thread::sleep(Duration::from_millis(2));
        while self.drain() == BATCH {}
        let unfinished = self.close_open(Mono(now));
        self.collect(true);
        for stack in self.state.ledger.waker_stacks() {
            self.state.stacks.fetch(Some(stack.0), stack.1, &self.maps);
        }
        let mut notes = std::mem::take(&mut self.state.notes);
        for target in &self.targets {
            if !target.children.is_empty() {
                let pids: Vec<String> = target.children.iter().map(Pid::to_string).collect();
                notes.push(format!(
                    "pid {} made child processes that were not observed: {}",
                    target.process.id.pid,
                    pids.join(", ")
                ));
            }
        }
        let censuses: HashMap<Pid, Sampled> = std::mem::take(&mut self.samplers)
            .into_iter()
            .map(|(pid, sampler)| (pid, sampler.finish()))
            .collect();
        for (pid, sampled) in &censuses {
            let exited = |t: &&Target| t.process.id.pid == *pid && t.ended.is_some();
            match &sampled.ended {
                Some(reason) if !self.targets.iter().any(|t| exited(&t)) => notes.push(format!(
                    "the task list of pid {pid} was read {} times, and then no more: {reason}",
                    sampled.ledger.samples()
                )),
                _ => {}
            }
            let left_out = sampled.ledger.left_out();
            notes.extend(
                left_out
                    .into_iter()
                    .map(|text| format!("pid {pid}: {text}")),
            );
        }
        Ok(Observed {
            censuses,
            counters: self.maps.counters(),
            lost_records: self.source.lost(),
            undecoded: self.state.undecoded,
            unfinished,
            summed: self.state.summed,
            window,
            ended,
            bpf,
            notes,
            object_sha256: self.options.transport.sha256(),
            targets: self.targets,
            ledger: self.state.ledger,
            stacks: self.state.stacks,
            fds: self.state.fds,
        })
    }

    /// Enters the waits that have not ended. Their number is returned.
    fn close_open(&mut self, now: Mono) -> u64 {
        let open: Vec<OpenWait> = self
            .maps
            .inflight()
            .map(|(tid, entry)| decode::wait::open(Tid(tid), &entry))
            .collect();
        let mut count = 0;
        for wait in open {
            count += 1;
            let Some(target) = self
                .targets
                .iter_mut()
                .find(|t| t.process.id.pid == wait.key.pid)
            else {
                continue;
            };
            target.learn_thread(wait.tid);
            let key = self.state.with_seed(wait.key, Some(wait.tid));
            let lower_bound = wait.key.seeded;
            self.state.want(&key);
            for id in [(Some(key.pid), key.user_stack), (None, key.kernel_stack)] {
                if let (pid, Some(id)) = id {
                    self.state.stacks.fetch(pid, id, &self.maps);
                }
            }
            let unwound = match self.state.unwound.get(&wait.tid) {
                Some((start, stack)) if *start == wait.start => Some(*stack),
                _ if target.copy_stacks
                    && wait.ip != 0
                    && !wait.key.seeded
                    && target.ended.is_none()
                    && key.identity != Identity::Idle =>
                {
                    Some(
                        self.state
                            .stacks
                            .read_blocked(target, (wait.ip, wait.sp, wait.bp)),
                    )
                }
                _ => None,
            };
            self.state
                .ledger
                .add_open(key, now.since(wait.start), lower_bound, unwound);
        }
        count
    }
}

impl State {
    fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Wait(wait) => self.on_wait(wait),
            Event::UserStack(stack) => self.on_user_stack(stack),
            Event::Exec { pid } => self.exec_seen.push(*pid),
            // The process as a whole ends when its pidfd says so; threads may outlive the first.
            Event::Exit { pid } => tracing::debug!(pid = pid.0, "main thread exited"),
            Event::Fork { pid, child } => {
                self.notes_child(*pid, *child);
            }
        }
    }

    fn notes_child(&mut self, pid: Pid, child: Pid) {
        const MOST: usize = 32;
        if self.notes.len() < MOST {
            self.notes.push(format!(
                "pid {pid} made child process {child}, which was not observed (add it with -p)"
            ));
        }
    }

    fn on_wait(&mut self, wait: &WaitEvent) {
        let key = self.with_seed(wait.key, Some(wait.tid));
        self.want(&key);
        if let Identity::Task(task) = key.identity {
            if task.kind == TaskKind::Thread {
                self.threads_seen.push((key.pid, wait.tid));
            }
        }
        let unwound = match self.unwound.get(&wait.tid) {
            Some((start, stack)) if *start == wait.start => Some(*stack),
            _ => None,
        };
        let ns = wait.end.since(wait.start);
        let run_queue = wait.woken.map_or(0, |woken| wait.end.since(woken));
        let waker = wait.waker.as_ref().map(|seen| WakerKey::of(seen));
        self.ledger.add_details(key, ns, run_queue, unwound, waker);
    }

    fn on_user_stack(&mut self, event: &UserStackEvent<'_>) {
        let Some(stack) = self.stacks.unwind(event) else {
            return;
        };
        self.unwound.insert(event.tid, (event.start, stack));
        self.ledger.add_sample(
            SampleKey {
                pid: event.pid,
                class: event.class,
                subject: event.subject,
                user_ip: if event.user_stack.is_none() {
                    event.ip
                } else {
                    0
                },
                user_stack: event.user_stack,
            },
            stack,
        );
    }

    /// Notes a descriptor to look up soon, while it is likely still open.
    fn want(&mut self, key: &WaitKey) {
        let WaitClass::Syscall(nr) = key.class else {
            return;
        };
        if self.looked_up >= LOOKUPS || key.identity == Identity::Idle {
            return;
        }
        if let Some(row) = syscall::by_number(nr) {
            if matches!(row.subject, Subject::Fd(_))
                && self.wanted.insert((key.pid, key.subject as i32))
            {
                self.looked_up += 1;
            }
        }
    }

    /// The key of a wait from before the observation, with the task that was read from outside.
    /// The kernel side knows such a thread by its id only.
    fn with_seed(&self, mut key: WaitKey, tid: Option<Tid>) -> WaitKey {
        if !key.seeded {
            return key;
        }
        let tid = tid.or(match key.identity {
            Identity::Task(task) => Some(Tid(task.id as u32)),
            _ => None,
        });
        match tid.and_then(|tid| self.seeds.get(&tid)) {
            Some(seed) => {
                key.identity = seed.task.identity;
                key.legality = seed.task.legality;
                key.go_status = seed.task.go_status;
                key.user_stack = seed.user;
                key.kernel_stack = seed.kernel;
            }
            // It ended before it could be read: nobody knows which task waited there.
            None if self.with_tasks.contains(&key.pid) => key.identity = Identity::Unreadable,
            None => {}
        }
        key
    }
}

/// Forwards the kernel side's own diagnostics to our log, as they come.
fn forward_kernel_log(kernel: &mut Kernel) {
    let logger = match kernel.logger() {
        Ok(logger) => logger,
        Err(reason) => {
            tracing::warn!(%reason, "the kernel side's log can not be read");
            return;
        }
    };
    tokio::spawn(async move {
        // SAFETY: the logger owns its ring buffer's descriptor, open until both are dropped.
        let watched = unsafe {
            tokio::io::unix::AsyncFd::register_with_interest(logger, tokio::io::Interest::READABLE)
        };
        let Ok(mut watched) = watched else { return };
        while let Ok(mut guard) = watched.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Reports the exit of a process through the channel, once.
fn watch_exit(pid: Pid, sender: tokio::sync::mpsc::UnboundedSender<Pid>) {
    tokio::spawn(async move {
        if let Ok(fd) = crate::sys::pidfd::open(pid) {
            // SAFETY: the descriptor is owned and stays open until both are dropped.
            let watched = unsafe {
                tokio::io::unix::AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE)
            };
            if let Ok(watched) = watched {
                let _ready = watched.readable().await.is_ok();
            }
        }
        // Nobody listens any more when the session is over: then it does not matter.
        let _closed = sender.send(pid).is_err();
    });
}
