//! What was running on a thread when it blocked: a goroutine, a tokio task, or just the thread.

use super::known::Known;

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// A goroutine; its id is the goid.
    Goroutine,
    /// A tokio task; its id is `tokio::task::Id`, unique per linked tokio copy.
    TokioTask,
    /// A task of a further copy of tokio in the same process (1 is the second copy): each copy
    /// counts its ids from 1.
    TokioTaskOf(u8),
    /// A thread that runs no task we can see; its id is the tid.
    Thread,
}

impl TaskKind {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Goroutine => "goroutine",
            Self::TokioTask | Self::TokioTaskOf(_) => "tokio_task",
            Self::Thread => "thread",
        }
    }

    /// A task of a copy of tokio.
    pub fn tokio(copy: u8) -> Self {
        match copy {
            0 => Self::TokioTask,
            copy => Self::TokioTaskOf(copy),
        }
    }

    /// Which copy of tokio a task belongs to (0 is the first); `None` for other tasks.
    pub fn tokio_copy(self) -> Option<u8> {
        match self {
            Self::TokioTask => Some(0),
            Self::TokioTaskOf(copy) => Some(copy),
            Self::Goroutine | Self::Thread => None,
        }
    }
}

/// What is known of a task beyond its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its type's name (a tokio task's future, a blocking task's closure).
    pub name: Known<String>,
    /// Stands for the name when that is not known: the same for the same type in the same file.
    pub label: Option<String>,
    /// Who runs it: `multi_thread`, `current_thread`, `local_set`, `blocking_pool`.
    pub scheduler: Option<&'static str>,
    /// Where it was spawned, `file:line:column`.
    pub spawned_at: Option<String>,
}

impl TaskFacts {
    /// A task of which nothing is known, and why.
    pub fn unknown(reason: &'static str) -> Self {
        Self {
            name: Known::unknown(reason),
            label: None,
            scheduler: None,
            spawned_at: None,
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
