//! What was running on a thread when it blocked: a goroutine, a tokio task, or just the thread.

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// A goroutine; its id is the goid.
    Goroutine,
    /// A tokio task; its id is `tokio::task::Id`, unique per linked tokio copy.
    TokioTask,
    /// A thread that runs no task we can see; its id is the tid.
    Thread,
}

impl TaskKind {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Goroutine => "goroutine",
            Self::TokioTask => "tokio_task",
            Self::Thread => "thread",
        }
    }
}

/// One task of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskRef {
    /// What it is.
    pub kind: TaskKind,
    /// Its id within the process.
    pub id: u64,
}

/// Whether the runtime expects a task to block there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Legality {
    /// A blocking call inside an async poll: it holds up the worker and every task behind it.
    InPoll,
    /// `spawn_blocking` or `block_in_place`: made for blocking.
    MayBlock,
    /// The runtime has no such rule (goroutines, native threads).
    NoRule,
    /// Could not be told.
    Unknown,
}

impl Legality {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InPoll => "in_poll",
            Self::MayBlock => "may_block",
            Self::NoRule => "no_rule",
            Self::Unknown => "unknown",
        }
    }
}
