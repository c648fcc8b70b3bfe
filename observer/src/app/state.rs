//! What records change while observing: the ledger, stacks, seeds and what is to be looked up.

use std::collections::{HashMap, HashSet};

use super::children::Children;
use super::paths::Paths;
use super::stacks::Stacks;
use super::task_types::Finders;
use crate::aggregate::cpu::{CpuLedger, CpuStack};
use crate::aggregate::ledger::{Ledger, SampleKey, WakerKey};
use crate::aggregate::polls::PollLedger;
use crate::aggregate::workers::HeldLedger;
use crate::model::event::{Event, Identity, UserStackEvent, WaitClass, WaitEvent, WaitKey};
use crate::model::stacks::StackId;
use crate::model::syscall::{self, Subject};
use crate::model::task::{Legality, TaskKind};
use crate::model::{Mono, Pid, Tid};
use crate::resolve::resources::FdTable;
use crate::runtimes::PolledStack;
use crate::runtimes::reading::TaskRead;

/// Descriptors that are looked up per interval at most.
const LOOKUPS: usize = 256;

/// A thread that was blocked before observation, as read from outside.
#[derive(Debug)]
pub struct SeedRead {
    pub task: TaskRead,
    pub user: Option<u32>,
    pub kernel: Option<u32>,
    /// What its system call is for, when only the thread's memory tells.
    pub subject: Option<u64>,
}

/// The state that records change: apart from the maps, so that both can be borrowed.
#[derive(Debug)]
pub struct State {
    pub ledger: Ledger,
    pub cpu: CpuLedger,
    pub polls: PollLedger,
    pub held: HeldLedger,
    pub stacks: Stacks,
    pub fds: FdTable,
    pub paths: Paths,
    /// What tells tasks' types from stacks.
    pub finders: Finders,
    pub seeds: HashMap<Tid, SeedRead>,
    /// The last unwound stack of each thread, until its wait is seen to end.
    pub unwound: HashMap<Tid, (Mono, StackId)>,
    /// Descriptors to look up at the next sweep.
    pub wanted: HashSet<(Pid, i32)>,
    pub looked_up: usize,
    pub epoch: u32,
    pub undecoded: u64,
    pub summed: u64,
    pub notes: Vec<String>,
    /// Processes that targets made.
    pub children: Children,
    pub exec_seen: Vec<Pid>,
    pub launched: Option<Pid>,
    /// When the observation began.
    pub began: Mono,
    /// When it ended.
    pub ended: Option<Mono>,
    pub threads_seen: Vec<(Pid, Tid)>,
    /// Targets whose tasks are read.
    pub with_tasks: HashSet<Pid>,
}

impl State {
    pub fn on_event(&mut self, event: &Event<'_>) {
        match event {
            Event::Wait(wait) => self.on_wait(wait),
            Event::UserStack(stack) => self.on_user_stack(stack),
            Event::CpuSample(sample) => {
                let stack = match sample.user_stack {
                    Some(id) if sample.bytes.is_empty() => CpuStack::Kernel(id),
                    _ => {
                        let (stack, unwound) = self.stacks.of_running(sample);
                        if let Some(unwound) = unwound {
                            let shown = PolledStack {
                                frames: &unwound.frames,
                                stack_pointers: &unwound.stack_pointers,
                                start: sample.sp,
                                bytes: sample.bytes,
                            };
                            self.finders.look(sample.pid, sample.identity, &shown);
                        }
                        CpuStack::Own(stack)
                    }
                };
                self.cpu.add_sample(sample, stack);
                if let Identity::Task(task) = sample.identity
                    && task.kind == TaskKind::Thread
                {
                    self.threads_seen.push((sample.pid, sample.tid));
                }
            }
            Event::Poll(poll) => self.polls.add_poll(poll),
            Event::Delay(delay) => self.polls.add_delay(delay),
            Event::Hold(hold) => {
                self.held.add(hold.pid, hold.tid, hold.first, hold.last);
                self.cpu.add_hold(hold, self.began, hold.last);
            }
            Event::Exec { pid } => self.exec_seen.push(*pid),
            // The process as a whole ends when its pidfd says so; threads may outlive the first.
            Event::Exit { pid } => tracing::debug!(pid = pid.0, "main thread exited"),
            Event::Fork { pid, child } => self.children.add(*pid, *child),
        }
    }

    pub fn on_wait(&mut self, wait: &WaitEvent) {
        let key = self.with_seed(wait.key, Some(wait.tid));
        self.want(&key);
        if let Identity::Task(task) = key.identity
            && task.kind == TaskKind::Thread
        {
            self.threads_seen.push((key.pid, wait.tid));
        }
        if key.legality == Legality::InPoll && key.class != WaitClass::RunQueue {
            self.held.add(key.pid, wait.tid, wait.start, wait.end);
        }
        let ready = match key.class {
            WaitClass::RunQueue => Some(wait.start),
            _ => wait.woken,
        };
        if let Some(ready) = ready
            && self.with_tasks.contains(&key.pid)
        {
            self.polls.add_no_cpu(key.pid, wait.tid, ready, wait.end);
        }
        let unwound = match self.unwound.get(&wait.tid) {
            Some((start, stack)) if *start == wait.start => Some(*stack),
            _ => None,
        };
        let ns = wait.end.since(wait.start);
        let run_queue = wait.woken.map_or(0, |woken| wait.end.since(woken));
        let waker = wait.waker.as_ref().map(WakerKey::of);
        self.ledger.add_details(key, ns, run_queue, unwound, waker);
        if let Some(kernel) = wait.kernel_stack.or(self.seed_kernel(wait)) {
            self.ledger.add_kernel_stack(key, kernel);
        }
    }

    pub fn on_user_stack(&mut self, event: &UserStackEvent<'_>) {
        let Some((stack, unwound)) = self.stacks.unwind(event) else {
            return;
        };
        if let Some(unwound) = unwound {
            let shown = PolledStack {
                frames: &unwound.frames,
                stack_pointers: &unwound.stack_pointers,
                start: event.sp,
                bytes: event.bytes,
            };
            self.finders.look(event.pid, event.identity, &shown);
        }
        self.unwound.insert(event.tid, (event.start, stack));
        let key = SampleKey {
            pid: event.pid,
            identity: event.identity,
            class: event.class,
            subject: event.subject,
            user_ip: if event.user_stack.is_none() {
                event.ip
            } else {
                0
            },
            user_stack: event.user_stack,
        };
        self.ledger
            .add_sample(key, stack, event.kernel_stack, event.weight);
    }

    /// The kernel stack of a wait from before the observation.
    fn seed_kernel(&self, wait: &WaitEvent) -> Option<u32> {
        if !wait.key.seeded {
            return None;
        }
        self.seeds.get(&wait.tid)?.kernel
    }

    /// Notes a descriptor to look up soon, while it is likely still open.
    pub fn want(&mut self, key: &WaitKey) {
        let WaitClass::Syscall(nr) = key.class else {
            return;
        };
        if self.looked_up >= LOOKUPS || key.identity == Identity::Idle {
            return;
        }
        if let Some(row) = syscall::by_number(nr)
            && matches!(row.subject, Subject::Fd(_))
            && self.wanted.insert((key.pid, key.subject as i32))
        {
            self.looked_up += 1;
        }
    }

    /// Notes descriptors that tasks wait on by their runtime's own list.
    pub fn want_descriptors(&mut self, pid: Pid, fds: Vec<i32>) {
        for fd in fds {
            if self.looked_up < LOOKUPS && self.wanted.insert((pid, fd)) {
                self.looked_up += 1;
            }
        }
    }

    /// The key of a wait from before the observation, with the task that was read from outside.
    /// The kernel side knows such a thread by its id only.
    pub fn with_seed(&self, mut key: WaitKey, tid: Option<Tid>) -> WaitKey {
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
                key.subject = seed.subject.unwrap_or(key.subject);
            }
            None if self.with_tasks.contains(&key.pid) => key.identity = Identity::Missed,
            None => {}
        }
        key
    }
}
