//! A census: every task that a runtime lists, what it waits on, and since when. Runtime-neutral.

use std::ops::Range;

use super::cause::Cause;
use super::hashing::QuickMap;
use super::ids::Tid;
use super::known::Known;
pub use super::mention::{Holder, Mention, Reference, Uses};
use super::scheduling::{Delays, SchedulerSample};
use super::time::Mono;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// On a CPU, as far as the runtime knows.
    Running,
    /// Ready, waiting for the runtime's scheduler.
    Runnable,
    /// In a system call or a C call.
    Syscall,
    /// Parked.
    Waiting,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Running, Self::Runnable, Self::Syscall, Self::Waiting];

    /// The name used in reports and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
        }
    }
}

/// What kind of thing a task waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitKind {
    /// A channel.
    Channel,
    /// A channel for one value: an answer.
    Oneshot,
    /// A mutex.
    Mutex,
    /// A reader-writer mutex.
    RwMutex,
    /// A wait group.
    WaitGroup,
    /// A condition variable.
    Condition,
    /// A semaphore whose owner is not known.
    Semaphore,
    /// A file descriptor's readiness.
    Descriptor,
    /// A point in time.
    Timer,
    /// The end of another task.
    Task,
}

impl WaitKind {
    /// The name used in reports (`Resource::kind`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Oneshot => "oneshot",
            Self::Mutex => "mutex",
            Self::RwMutex => "rwmutex",
            Self::WaitGroup => "wait_group",
            Self::Condition => "condition",
            Self::Semaphore => "semaphore",
            Self::Descriptor => "descriptor",
            Self::Timer => "timer",
            Self::Task => "task",
        }
    }
}

/// Which way data would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The task wants to send, write or hold for writing.
    Send,
    /// The task wants to receive, read or hold for reading.
    Receive,
}

impl Direction {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

/// One thing that a task waits on. Fields that are `None` do not apply or could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitsOn {
    /// What it is.
    pub kind: WaitKind,
    /// Its address in the process: the meeting point of its users.
    pub address: Option<u64>,
    /// Sending or receiving, reading or writing.
    pub direction: Option<Direction>,
    /// Elements that a channel holds.
    pub len: Option<u64>,
    /// Elements that a channel can hold; 0 is unbuffered.
    pub capacity: Option<u64>,
    /// The descriptor, in the process.
    pub fd: Option<i32>,
    /// When a timer fires.
    pub until: Option<Mono>,
}

impl WaitsOn {
    /// Nothing but the kind.
    pub fn new(kind: WaitKind) -> Self {
        Self {
            kind,
            address: None,
            direction: None,
            len: None,
            capacity: None,
            fd: None,
            until: None,
        }
    }
}

/// Index of a stack in its [`Census`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

/// How long a wait has lasted, by the observer's own samples: the runtime keeps no such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// It has lasted at least this long (ns).
    pub at_least_ns: u64,
    /// And at most this long (ns); `None` when it was there at the first sample.
    pub at_most_ns: Option<u64>,
}

/// One task.
#[derive(Debug, Clone)]
pub struct CensusTask {
    /// The runtime's id.
    pub id: u64,
    /// What it does.
    pub state: TaskState,
    /// The runtime's own text, when it waits.
    pub wait_reason: Option<&'static str>,
    /// The same in the common vocabulary; `Cause::Idle` for the runtime's own resting tasks.
    pub cause: Option<Cause>,
    /// It is parked and can not go on: not a task that the runtime merely marks as waiting while it
    /// works on another stack, and not one of the runtime's own resting tasks.
    pub blocked: bool,
    /// A task of the runtime itself: left out of the runtime's own count.
    pub system: bool,
    /// The runtime found that nothing can ever wake it.
    pub leaked: bool,
    /// The thread that runs it, by the id that the process itself sees.
    pub thread: Option<Tid>,
    /// It may run on one thread only.
    pub locked_to_thread: bool,
    /// The task that created it.
    pub parent: Option<u64>,
    /// Address of the call that created it.
    pub created_at: Option<u64>,
    /// First instruction of its function.
    pub entry: Option<u64>,
    /// Its parked stack; `None` while it runs.
    pub stack: Option<StackId>,
    /// Changes when the task has run in between: tells two waits at one place apart.
    pub occasion: u64,
    /// Since when it is ready, when the runtime happens to note that.
    pub ready_since: Option<Mono>,
    /// Filled by [`CensusTracker::update`].
    pub age: Option<Age>,
    /// Entries of the census's waits.
    pub waits: Range<u32>,
}

/// What a census cost and what it missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CensusFigures {
    /// Entries in the runtime's list, ended tasks included.
    pub listed: u64,
    /// Entries left out because the list is longer than the bound.
    pub beyond_bound: u64,
    /// Ended tasks whose entry is kept for reuse.
    pub ended: u64,
    /// Tasks that changed while they were read, and were left out.
    pub torn: u64,
    /// Tasks that could not be read.
    pub unreadable: u64,
    /// Bytes read from the process.
    pub bytes_read: u64,
    /// Time that it took (ns).
    pub duration_ns: u64,
}

/// Every task of a process at one time.
#[derive(Debug, Clone)]
pub struct Census {
    /// When it began.
    pub taken_at: Mono,
    /// The tasks, in the order of the runtime's list.
    pub tasks: Vec<CensusTask>,
    /// What they wait on; see [`Census::waits_of`].
    pub waits: Vec<WaitsOn>,
    /// Different stacks; see [`Census::stack`].
    pub stacks: Stacks,
    /// A task's `occasion` changes whenever it has run. Else it is the same while the task is at one place,
    /// where it may have been again in between: then no age is known.
    pub tells_runs: bool,
    /// Who refers to the addresses that are watched; see [`Mention`].
    pub mentions: Vec<Mention>,
    /// Who refers to the connections that are looked for; see [`Holder`].
    pub holders: Vec<Holder>,
    /// Not every stack was looked at for these.
    pub holders_cut: bool,
    /// All stacks were looked at for references, from end to end: who is not in `mentions` has none.
    pub searched: bool,
    /// Variables of the program lie here: they are used without a reference on any stack.
    pub variables: Range<u64>,
    /// How many tasks can run at once (Go: Ps), when that could be read.
    pub slots: Option<u32>,
    /// The runtime's scheduler at that time, or why it could not be read.
    pub scheduler: Known<SchedulerSample>,
    /// How long tasks were ready before they ran, since the program's start, when the runtime counts it.
    pub delays: Option<Box<Delays>>,
    /// Cost and loss.
    pub figures: CensusFigures,
}

impl Census {
    /// An empty census.
    pub fn new(taken_at: Mono) -> Self {
        Self {
            taken_at,
            tasks: Vec::new(),
            waits: Vec::new(),
            stacks: Stacks::default(),
            tells_runs: true,
            mentions: Vec::new(),
            holders: Vec::new(),
            holders_cut: false,
            searched: false,
            variables: 0..0,
            slots: None,
            scheduler: Known::unknown("this runtime's scheduler is not read"),
            delays: None,
            figures: CensusFigures::default(),
        }
    }

    /// What a task waits on: one thing, or several in a select.
    pub fn waits_of(&self, task: &CensusTask) -> &[WaitsOn] {
        let range = task.waits.start as usize..task.waits.end as usize;
        self.waits.get(range).unwrap_or_default()
    }

    /// A stack's addresses in the process, nearest frame first. Each one lies inside the instruction
    /// that the frame executes (return addresses are already moved back into their call).
    pub fn stack(&self, id: StackId) -> &[u64] {
        self.stacks.get(id)
    }

    /// Tasks in one state.
    pub fn count(&self, state: TaskState) -> u64 {
        self.tasks.iter().filter(|t| t.state == state).count() as u64
    }
}

/// Different stacks, each stored once.
#[derive(Debug, Clone, Default)]
pub struct Stacks {
    frames: Vec<u64>,
    ends: Vec<u32>,
    by_hash: QuickMap<u64, u32>,
}

impl Stacks {
    /// Adds a stack, or finds the same one.
    pub fn intern(&mut self, frames: &[u64]) -> StackId {
        let hash = fingerprint(frames.iter().copied());
        if let Some(&id) = self.by_hash.get(&hash)
            && self.get(StackId(id)) == frames
        {
            return StackId(id);
        }
        let id = self.ends.len() as u32;
        self.frames.extend_from_slice(frames);
        self.ends.push(self.frames.len() as u32);
        self.by_hash.insert(hash, id);
        StackId(id)
    }

    /// The id of a stack that was added.
    pub fn find(&self, frames: &[u64]) -> Option<StackId> {
        let id = StackId(*self.by_hash.get(&fingerprint(frames.iter().copied()))?);
        (self.get(id) == frames).then_some(id)
    }

    /// A stack; empty when there is no such id.
    pub fn get(&self, id: StackId) -> &[u64] {
        let index = id.0 as usize;
        let start = index
            .checked_sub(1)
            .and_then(|i| self.ends.get(i))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.frames
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// Number of different stacks.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// A hash that is good enough to tell values of one process apart (not against an adversary).
pub fn fingerprint(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

/// Follows tasks from census to census and says how long each has waited.
#[derive(Debug, Clone, Default)]
pub struct CensusTracker {
    seen: QuickMap<u64, Seen>,
    samples: u64,
    last: Option<Mono>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    occasion: u64,
    first: Mono,
    before: Option<Mono>,
    sample: u64,
}

impl CensusTracker {
    /// Fills in the age of each waiting or ready task, and forgets tasks that are gone.
    pub fn update(&mut self, census: &mut Census) {
        self.samples += 1;
        let (now, last, sample) = (census.taken_at, self.last, self.samples);
        for task in &mut census.tasks {
            if !census.tells_runs {
                break;
            }
            // System calls are timed by the kernel side: their state does not change in between.
            if !matches!(task.state, TaskState::Waiting | TaskState::Runnable) {
                continue;
            }
            let fresh = Seen {
                occasion: task.occasion,
                first: now,
                before: last,
                sample,
            };
            let seen = self.seen.entry(task.id).or_insert(fresh);
            // Seen in an older census but not in the last one: it ran in between.
            if seen.occasion != task.occasion || seen.sample + 1 < sample {
                *seen = fresh;
            }
            seen.sample = sample;
            task.age = Some(Age {
                at_least_ns: now.since(seen.first),
                at_most_ns: seen.before.map(|before| now.since(before)),
            });
            if let Some(since) = task.ready_since {
                let ns = now.since(since);
                task.age = Some(Age {
                    at_least_ns: ns,
                    at_most_ns: Some(ns),
                });
            }
        }
        self.seen.retain(|_, seen| seen.sample == sample);
        self.last = Some(now);
    }

    /// Tasks that are being followed.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: u64, state: TaskState, occasion: u64) -> CensusTask {
        CensusTask {
            id,
            state,
            wait_reason: None,
            cause: None,
            blocked: true,
            system: false,
            leaked: false,
            thread: None,
            locked_to_thread: false,
            parent: None,
            created_at: None,
            entry: None,
            stack: None,
            occasion,
            ready_since: None,
            age: None,
            waits: 0..0,
        }
    }

    fn ages(tracker: &mut CensusTracker, now: u64, tasks: Vec<CensusTask>) -> Vec<Option<Age>> {
        let mut census = Census::new(Mono(now));
        census.tasks = tasks;
        tracker.update(&mut census);
        census.tasks.iter().map(|t| t.age).collect()
    }

    #[test]
    fn a_wait_ages_until_the_task_runs() {
        let mut tracker = CensusTracker::default();
        let age = |at_least_ns, at_most_ns| {
            Some(Age {
                at_least_ns,
                at_most_ns,
            })
        };
        let waiting = |occasion| vec![task(7, TaskState::Waiting, occasion)];
        assert_eq!(ages(&mut tracker, 100, waiting(1)), [age(0, None)]);
        assert_eq!(ages(&mut tracker, 150, waiting(1)), [age(50, None)]);
        // It ran in between and waits anew.
        assert_eq!(ages(&mut tracker, 180, waiting(2)), [age(0, Some(30))]);
        assert_eq!(ages(&mut tracker, 200, waiting(2)), [age(20, Some(50))]);
        assert_eq!(
            ages(&mut tracker, 210, vec![task(7, TaskState::Running, 2)]),
            [None]
        );
        assert!(tracker.is_empty());
        assert_eq!(ages(&mut tracker, 220, waiting(2)), [age(0, Some(10))]);
    }

    #[test]
    fn a_ready_task_ages_too_and_exactly_when_the_runtime_noted_it() {
        let mut tracker = CensusTracker::default();
        let ready = |occasion, since| CensusTask {
            ready_since: since,
            ..task(7, TaskState::Runnable, occasion)
        };
        let age = |ages: Vec<Option<Age>>| ages[0].unwrap().at_least_ns;
        assert_eq!(age(ages(&mut tracker, 100, vec![ready(1, None)])), 0);
        assert_eq!(age(ages(&mut tracker, 130, vec![ready(1, None)])), 30);
        assert_eq!(
            age(ages(&mut tracker, 140, vec![ready(2, Some(Mono(20)))])),
            120
        );
    }

    #[test]
    fn equal_stacks_are_stored_once() {
        let mut stacks = Stacks::default();
        let a = stacks.intern(&[1, 2, 3]);
        let b = stacks.intern(&[1, 2]);
        let empty = stacks.intern(&[]);
        assert_eq!(stacks.intern(&[1, 2, 3]), a);
        assert_eq!(
            (stacks.get(a), stacks.get(b)),
            (&[1, 2, 3][..], &[1, 2][..])
        );
        assert!(stacks.get(empty).is_empty() && stacks.get(StackId(99)).is_empty());
        assert_eq!(stacks.len(), 3);
    }
}
