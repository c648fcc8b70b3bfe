//! What works on this machine: the seam between the checks and `export::doctor`.

use super::known::Reason;
use super::view::Host;

/// The result of all checks.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// The machine.
    pub host: Host,
    /// Version of the observer.
    pub version: String,
    /// The process that was asked about.
    pub pid: Option<u32>,
    /// The checks, in the order in which they are shown; checks of a group are together.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Whether `observer report` can work at all: nothing that is needed is missing.
    pub fn usable(&self) -> bool {
        !self
            .checks
            .iter()
            .any(|check| check.needed && check.status == Status::Missing)
    }
}

/// One check.
#[derive(Debug, Clone)]
pub struct Check {
    /// `kernel`, `permission`, `probe`, `tier`, `target`.
    pub group: &'static str,
    /// What was checked: `BTF`, `CAP_BPF`, `sched_switch`.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// Without it the default tier does not work.
    pub needed: bool,
    /// What was found ("tp_btf", "6.18.5").
    pub found: Option<String>,
    /// Why it is not ok.
    pub why: Option<Reason>,
    /// What to do about it.
    pub cure: Option<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Works.
    Ok,
    /// Works in part, or by a fallback.
    Degraded,
    /// Does not work.
    Missing,
}

impl Status {
    /// The name used in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}
