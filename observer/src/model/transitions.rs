//! Tasks as followed by a probe in their runtime's own code: exact, for a stretch of time.
//! Times in nanoseconds.

use std::collections::BTreeMap;

use super::event::Tally;
use super::known::Known;
use super::stack::Frame;
use super::stacks::StackId;
use super::view::{Unfinished, Waker};
use super::{Cause, Mono, Pid, Reason};

/// What was followed of one target, from one attachment of the probe.
#[derive(Debug, Clone)]
pub struct Transitions {
    /// Index into `View::targets`.
    pub target: usize,
    /// From when, since the start of the session.
    pub from_ns: u64,
    /// To when.
    pub to_ns: u64,
    /// Why it ended before the session did.
    pub detached: Option<Reason>,
    /// Hits of the probe.
    pub hits: u64,
    /// Mean run time of the program at a hit.
    pub program_ns: Option<u64>,
    /// Hits per second that were allowed.
    pub budget: u64,
    /// What could not be followed, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// Whether system calls of tasks show as a state of their own.
    pub syscalls_apart: bool,
    /// Time by state, reason and place; most time first, idle ones last.
    pub states: Vec<StateTime>,
    /// From ready to running.
    pub scheduling_delay: Delay,
    /// The same by what made the task ready.
    pub delay_after: Vec<(After, Delay)>,
    /// Where tasks were made and how long they lived; most made first.
    pub births: Vec<Birth>,
}

/// Time in one state for one reason at one place.
#[derive(Debug, Clone)]
pub struct StateTime {
    /// `waiting`, `running`, `syscall`...
    pub state: &'static str,
    /// The runtime's wait reason.
    pub wait_reason: Option<String>,
    /// In the common vocabulary.
    pub cause: Option<Cause>,
    /// Not blocked although waiting: at rest on purpose, or at work for the runtime.
    pub resting: bool,
    /// Where; `None` for states without a place.
    pub site: Option<Known<Frame>>,
    /// A representative stack, nearest frame first.
    pub stack: Vec<Frame>,
    /// Stretches that began and ended in the window.
    pub count: u64,
    /// All time in the window: of these, of those that began before, of those that had not ended.
    pub total_ns: u64,
    /// Median of those that began and ended in the window.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// The task whose that was.
    pub max_task: Option<u64>,
    /// Stretches that began before the window and ended in it.
    pub began_before: u64,
    /// Stretches that had not ended.
    pub unfinished: Unfinished,
    /// Tasks that had not ended waiting, a few: the oldest.
    pub unfinished_ids: Vec<u64>,
    /// Who ended the waits, most often first.
    pub wakers: Vec<Waker>,
}

/// A distribution of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delay {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

/// Tasks of one place of creation.
#[derive(Debug, Clone)]
pub struct Birth {
    /// The place.
    pub site: Known<Frame>,
    /// Made in the window.
    pub created: u64,
    /// Ended in the window.
    pub exited: u64,
    /// Lives that began and ended in the window.
    pub life: Delay,
}

/// What a sum is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Waiting, with the runtime's number of the reason.
    Waiting(u8),
    /// Ready, and what made it so.
    Runnable(After),
    /// In another state, by its name.
    State(&'static str),
    /// In a state that is not known: a change was not seen.
    Unseen,
    /// Made.
    Created,
    /// Ended; the times are lives.
    Ended,
}

/// What made a task ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum After {
    /// The end of a wait.
    Wait,
    /// It was running: preempted, or it yielded.
    Running,
    /// It was made.
    Creation,
    /// A system call.
    Syscall,
    /// Something else, or it was so before the window.
    Other,
}

impl After {
    /// The words used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "woken from a wait",
            Self::Running => "preempted or yielded",
            Self::Creation => "newly created",
            Self::Syscall => "back from a system call",
            Self::Other => "other",
        }
    }
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The state has no place.
    None,
    /// The place was not kept: no room, or it could not be read.
    Lost,
    /// A stack.
    Stack(StackId),
}

/// One sum.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    /// Of what.
    pub what: What,
    /// Where.
    pub place: Place,
    /// These stretches, or lives, began before the window.
    pub before: bool,
    /// The sum.
    pub tally: Tally,
    /// The task whose the longest stretch was.
    pub longest: Option<u64>,
}

/// Stretches that had not ended.
#[derive(Debug, Clone)]
pub struct Open {
    /// Of what.
    pub what: What,
    /// Where.
    pub place: Place,
    /// They began before the window.
    pub before: bool,
    /// How many.
    pub count: u64,
    /// Their time in the window.
    pub total_ns: u64,
    /// The longest.
    pub oldest_ns: u64,
    /// Ids of a few tasks, oldest first.
    pub ids: Vec<u64>,
}

/// Who ended waits.
#[derive(Debug, Clone, Copy)]
pub struct Wake {
    /// The wait's reason.
    pub reason: u8,
    /// Where the wait was.
    pub place: Place,
    /// Where the waker was; `None`: the runtime's scheduler did it.
    pub waker: Option<Place>,
    /// How often.
    pub count: u64,
    /// The task that did it last.
    pub task: u64,
}

/// What a wait reason means.
#[derive(Debug, Clone, Copy)]
pub struct Meaning {
    /// The runtime's words.
    pub text: &'static str,
    /// In the common vocabulary.
    pub cause: Cause,
    /// Waiting for something that must happen.
    pub blocking: bool,
}

/// What one attachment has found, before it is named and rolled up.
#[derive(Debug)]
pub struct Followed {
    /// The process.
    pub pid: Pid,
    /// When the probe was in.
    pub from: Mono,
    /// When it was taken out.
    pub to: Mono,
    /// Why, when that was before the end of the session.
    pub detached: Option<Reason>,
    /// Hits.
    pub hits: u64,
    /// Mean run time of the program at a hit.
    pub program_ns: Option<u64>,
    /// Hits per second that were allowed.
    pub budget: u64,
    /// What could not be followed.
    pub lost: BTreeMap<&'static str, u64>,
    /// System calls show as a state of their own.
    pub syscalls_apart: bool,
    /// Meaning of wait reasons, by number.
    pub meanings: BTreeMap<u8, Meaning>,
    /// Sums.
    pub sums: Vec<Sum>,
    /// Stretches that had not ended.
    pub open: Vec<Open>,
    /// Wakers.
    pub wakes: Vec<Wake>,
}

impl Followed {
    /// The stacks that are to be named, with the time or the number that they stand for.
    pub fn stacks(&self) -> impl Iterator<Item = (StackId, u64)> {
        let sums = self
            .sums
            .iter()
            .map(|sum| (sum.place, sum.tally.total_ns.max(sum.tally.count)));
        let open = self.open.iter().map(|open| (open.place, open.total_ns));
        let wakes = self
            .wakes
            .iter()
            .filter_map(|wake| Some((wake.waker?, wake.count)));
        sums.chain(open)
            .chain(wakes)
            .filter_map(|(place, weight)| match place {
                Place::Stack(stack) => Some((stack, weight)),
                Place::None | Place::Lost => None,
            })
    }
}
