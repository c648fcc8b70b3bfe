//! Processes and what can be seen in each: the seam between `runtimes` and `export::ps`.

use super::known::{Known, Reason};

/// One process.
#[derive(Debug, Clone)]
pub struct ProcessRow {
    /// Its pid.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// Command name.
    pub comm: String,
    /// Path of the executable.
    pub exe: Known<String>,
    /// `go`, `tokio` or `native`; unknown when the executable can not be read.
    pub runtime: Known<&'static str>,
    /// Runtime version; unknown for native programs, which have none.
    pub version: Known<String>,
    /// Whether the symbol table was removed.
    pub stripped: Known<bool>,
    /// Threads.
    pub threads: u32,
    /// The finest thing that can be told apart.
    pub sees: Sees,
    /// What can not be seen and why, one clause each.
    pub limits: Vec<Reason>,
}

/// The finest thing that can be told apart in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// Goroutines by id.
    Goroutines,
    /// Tokio tasks by id.
    TokioTasks,
    /// Threads.
    Threads,
    /// Nothing: the process may not be observed.
    Nothing,
}

impl Sees {
    /// The name used in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Goroutines => "goroutines",
            Self::TokioTasks => "tokio_tasks",
            Self::Threads => "threads",
            Self::Nothing => "nothing",
        }
    }
}
