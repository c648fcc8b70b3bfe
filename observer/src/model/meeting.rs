//! Meeting points: channels, mutexes and the like, who waits there from which side, and what those
//! do who should end these waits.

use super::census::{Direction, WaitKind};
use super::known::Known;
use super::resource::Resource;
use super::stack::Frame;

/// A channel, mutex, wait group... at which tasks of one target waited during the session.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// Index into `View::targets`.
    pub target: usize,
    /// What it is.
    pub kind: WaitKind,
    /// Its address in the process.
    pub address: u64,
    /// Elements that a channel held at the last sample in which somebody waited.
    pub len: Option<u64>,
    /// Elements that a channel can hold; 0 is unbuffered.
    pub capacity: Option<u64>,
    /// Samples of the session.
    pub samples: u64,
    /// Those who wait there, most first: one side or two.
    pub sides: Vec<Side>,
    /// Those who use it otherwise, as far as that is known.
    pub users: Vec<User>,
    /// Some users were not followed, because there were too many.
    pub users_cut: bool,
    /// Who is not among the users, and not in doubt, has no reference to it on its stack.
    pub conclusive: bool,
    /// Tasks that may have to do with a lock although they do not refer to it itself.
    pub doubts: Vec<u64>,
}

/// Those who wait there in one direction.
#[derive(Debug, Clone)]
pub struct Side {
    /// Sending or receiving, writing or reading; `None` when the kind has one side only, or when it
    /// could not be told (a select).
    pub direction: Option<Direction>,
    /// At the last sample.
    pub last: u64,
    /// Mean over all samples of the session.
    pub mean: f64,
    /// In the sample with most.
    pub max: u64,
    /// Longest wait by our own samples (ns): a lower bound.
    pub oldest_ns: Option<u64>,
    /// Where they wait, most first; bounded.
    pub sites: Vec<SideSite>,
    /// Ids of a few of them.
    pub sample_ids: Vec<u64>,
    /// Ids of those that were there in every sample in one and the same wait, and wait for nothing
    /// else; bounded, and empty for a single sample.
    pub stuck: Vec<u64>,
}

/// A place at which some of one side wait.
#[derive(Debug, Clone)]
pub struct SideSite {
    /// The place.
    pub site: Known<Frame>,
    /// Where they were created.
    pub created_by: Option<String>,
    /// Mean number over all samples of the session.
    pub mean: f64,
}

/// How it is known that a task uses a meeting point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UserEvidence {
    /// Seen waiting there itself.
    SeenWaiting,
    /// It is the task whose end is waited for.
    IsTask,
    /// Its future has a guard of it: it holds the lock, or gave it back and has not reused the place.
    HasGuard,
    /// Its future has the other end of the channel, or the connection, or gave it away and has not reused the
    /// place.
    Owns,
    /// A frame of its stack holds the address, and that function's code does such things.
    StackRefers,
    /// The same with an object that holds the address.
    ObjectRefers,
}

impl UserEvidence {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::SeenWaiting,
        Self::IsTask,
        Self::HasGuard,
        Self::Owns,
        Self::StackRefers,
        Self::ObjectRefers,
    ];

    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SeenWaiting => "seen_waiting",
            Self::IsTask => "is_task",
            Self::HasGuard => "has_guard",
            Self::Owns => "owns",
            Self::StackRefers => "stack_refers",
            Self::ObjectRefers => "object_refers",
        }
    }
}

/// Tasks that use a meeting point in the same way from the same function.
#[derive(Debug, Clone)]
pub struct User {
    /// What they do there; `None`: could not be told. For a mutex always `None`: they may hold it.
    pub direction: Option<Direction>,
    /// Their ids; bounded.
    pub ids: Vec<u64>,
    /// How many there are.
    pub count: u64,
    /// The function that uses it: of the frame that refers to it, or where they waited.
    pub function: Known<Frame>,
    /// How it is known.
    pub evidence: UserEvidence,
    /// Samples in which this was seen (sum over the tasks), of so many in which they were listed.
    pub seen: (u64, u64),
    /// What they did, most time first; bounded.
    pub doing: Vec<Doing>,
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Measured by the kernel side.
    Kernel,
    /// Estimated from samples.
    Census,
}

impl Source {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::Census];

    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Census => "census",
        }
    }
}

/// What users of a meeting point did.
#[derive(Debug, Clone)]
pub struct Doing {
    /// A system call, a wait reason, or a state (`running`, `runnable`, `syscall`).
    pub what: String,
    /// Where.
    pub site: Known<Frame>,
    /// On what.
    pub resource: Option<Resource>,
    /// Part of the time, 0 to 1: mean over these tasks. For users of a lock: part of the samples in
    /// which they may have held it.
    pub share: f64,
    /// Time, summed over these tasks (ns), when it was measured.
    pub total_ns: Option<u64>,
    /// Where the figures come from.
    pub source: Source,
    /// It is on the CPU or ready, and not waiting.
    pub active: bool,
    /// The process at the other end of a socket, when it is on this host and a target too: index
    /// into `View::targets`.
    pub peer_target: Option<usize>,
    /// Descriptors that they waited on there; bounded.
    pub fds: Vec<i32>,
    /// How many others there were.
    pub fds_left_out: u64,
    /// Those of them whose other end is held by a target: indices into `View::connections`.
    pub connections: Vec<usize>,
}

impl Meeting {
    /// Whether many wait there for nearly nobody on the other side. Those who wait to receive are
    /// left out: a pool of workers without work looks just like that.
    pub fn pile(&self) -> Option<&Side> {
        const MANY: f64 = 8.0;
        let side = self.sides.first()?;
        let opposite: f64 = self.sides.iter().skip(1).map(|s| s.mean).sum();
        let lock = matches!(
            self.kind,
            WaitKind::Mutex | WaitKind::RwMutex | WaitKind::Semaphore
        );
        let sends = self.kind == WaitKind::Channel && side.direction == Some(Direction::Send);
        (side.mean >= MANY && (lock || (sends && opposite * 10.0 <= side.mean))).then_some(side)
    }

    /// The users that could end the waits of a side.
    pub fn other_side(&self, side: &Side) -> impl Iterator<Item = &User> {
        let direction = side.direction;
        self.users
            .iter()
            .filter(move |user| user.direction.is_none() || user.direction != direction)
    }
}
