//! The registry of probes: one row each, with its hooks in the order in which they are tried.

use crate::model::Known;
use crate::sys::code::CodeSite;

/// What users choose with `--tier`: groups of probes, told apart by who pays for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Scheduler tracepoints: threads of the target pay when they block, other switches next to nothing.
    Sched,
    /// Tracepoints at each system call: every process of the host pays a little.
    Syscalls,
    /// Probes in the runtime's own code: the target pays per transition.
    Runtime,
}

impl Tier {
    /// All tiers, in the order in which they are named.
    pub const ALL: [Self; 3] = [Self::Sched, Self::Syscalls, Self::Runtime];

    /// The name used on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sched => "sched",
            Self::Syscalls => "syscalls",
            Self::Runtime => "runtime",
        }
    }
}

/// The tiers that run together. `sched` always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers {
    /// [`Tier::Syscalls`] runs.
    pub syscalls: bool,
    /// [`Tier::Runtime`] runs.
    pub runtime: bool,
}

impl Tiers {
    /// The default: the scheduler only.
    pub const SCHED: Self = Self {
        syscalls: false,
        runtime: false,
    };

    /// Whether probes of a tier run.
    pub fn has(self, tier: Tier) -> bool {
        match tier {
            Tier::Sched => true,
            Tier::Syscalls => self.syscalls,
            Tier::Runtime => self.runtime,
        }
    }
}

impl std::fmt::Display for Tiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = Tier::ALL
            .into_iter()
            .filter(|tier| self.has(*tier))
            .map(Tier::as_str)
            .collect();
        f.write_str(&names.join("+"))
    }
}

/// One way to attach a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// BTF-typed tracepoint (Linux 5.5).
    Btf {
        /// Program in the object.
        program: &'static str,
        /// Tracepoint.
        event: &'static str,
    },
    /// Raw tracepoint (4.17): needs no tracefs and no BTF.
    Raw {
        /// Program in the object.
        program: &'static str,
        /// Tracepoint.
        event: &'static str,
    },
    /// Classic tracepoint (4.7): needs tracefs.
    Tracepoint {
        /// Program in the object.
        program: &'static str,
        /// Its group.
        category: &'static str,
        /// Tracepoint.
        event: &'static str,
    },
    /// The software CPU clock of each CPU, as a perf event (4.9).
    CpuClock {
        /// Program in the object.
        program: &'static str,
    },
    /// BPF iterator (5.8), read once.
    Iterator {
        /// Program in the object.
        program: &'static str,
        /// What it walks.
        over: &'static str,
    },
}

impl Hook {
    /// The program's name in the object.
    pub fn program(self) -> &'static str {
        match self {
            Self::Btf { program, .. }
            | Self::Raw { program, .. }
            | Self::Tracepoint { program, .. }
            | Self::CpuClock { program }
            | Self::Iterator { program, .. } => program,
        }
    }

    /// The mechanism, as shown to users and as a metric label.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Btf { .. } => "tp_btf",
            Self::Raw { .. } => "raw_tracepoint",
            Self::Tracepoint { .. } => "tracepoint",
            Self::CpuClock { .. } => "perf_event",
            Self::Iterator { .. } => "iterator",
        }
    }
}

/// What is lost without a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing works.
    Required,
    /// One feature is off: this one.
    Optional(&'static str),
}

/// One probe.
#[derive(Debug, Clone, Copy)]
pub struct ProbeSpec {
    /// Its name.
    pub name: &'static str,
    /// Ways to attach it, best first.
    pub hooks: &'static [Hook],
    /// What is lost without it.
    pub need: Need,
    /// The tier that it belongs to.
    pub tier: Tier,
}

/// A probe that a runtime wants in its own code, in one executable.
#[derive(Debug, Clone)]
pub struct CodeProbe {
    /// The function it is in.
    pub name: String,
    /// Program in the object.
    pub program: &'static str,
    /// What is lost without it.
    pub need: Need,
    /// Its verified place, or why there is none.
    pub site: Known<CodeSite>,
    /// The runtime's own part of what the program is given at each hit.
    pub data: u32,
    /// What it tells comes on top of what the others tell: when all are hit too often it goes first.
    pub first_out: bool,
}

/// A tracepoint of the scheduler with all three mechanisms.
macro_rules! sched {
    ($event:literal, $need:expr) => {
        ProbeSpec {
            name: $event,
            hooks: &[
                Hook::Btf {
                    program: concat!($event, "_btf"),
                    event: $event,
                },
                Hook::Raw {
                    program: concat!($event, "_raw"),
                    event: $event,
                },
                Hook::Tracepoint {
                    program: concat!($event, "_tp"),
                    category: "sched",
                    event: $event,
                },
            ],
            need: $need,
            tier: Tier::Sched,
        }
    };
}

/// A tracepoint whose classic form does not carry what we need, or is many (one for each system call).
macro_rules! typed {
    ($event:literal, $tier:expr, $lost:literal) => {
        ProbeSpec {
            name: $event,
            hooks: &[
                Hook::Btf {
                    program: concat!($event, "_btf"),
                    event: $event,
                },
                Hook::Raw {
                    program: concat!($event, "_raw"),
                    event: $event,
                },
            ],
            need: Need::Optional($lost),
            tier: $tier,
        }
    };
}

/// The sampling clock: the one probe that users can switch off by itself.
pub const CPU_SAMPLE: &str = "cpu_sample";

/// Every probe. Adding one is one row here and one function in `observer-ebpf/src/probes`.
pub const PROBES: &[ProbeSpec] = &[
    sched!("sched_switch", Need::Required),
    sched!(
        "sched_waking",
        Need::Optional("wakers and run-queue delay are not known")
    ),
    typed!(
        "sched_wakeup_new",
        Tier::Sched,
        "the start-up delay of new threads is not seen"
    ),
    sched!(
        "sched_process_exec",
        Need::Optional("it is not noticed when a target calls exec")
    ),
    sched!(
        "sched_process_exit",
        Need::Optional("the end of a main thread is not logged")
    ),
    typed!(
        "sched_process_fork",
        Tier::Sched,
        "child processes are not noticed"
    ),
    ProbeSpec {
        name: "seed_tasks",
        hooks: &[Hook::Iterator {
            program: "seed_tasks",
            over: "task",
        }],
        need: Need::Optional("waits that began before the observation are not seen"),
        tier: Tier::Sched,
    },
    ProbeSpec {
        name: CPU_SAMPLE,
        hooks: &[Hook::CpuClock {
            program: CPU_SAMPLE,
        }],
        need: Need::Optional("tasks that compute instead of waiting are not seen"),
        tier: Tier::Sched,
    },
    typed!(
        "sys_enter",
        Tier::Syscalls,
        "system calls are not timed one by one"
    ),
    typed!(
        "sys_exit",
        Tier::Syscalls,
        "results of system calls are not seen"
    ),
];
