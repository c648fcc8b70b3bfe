//! The conditions under which is measured: nothing attached, observer, or another tool.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Args;
use crate::process::{Process, Stream};
use crate::project;

const LIMIT: Duration = Duration::from_secs(30);
/// After that long an observation costs what it costs for good: in the first second it takes more
/// stacks, and for two the kernel counts the programs' run time (`observer/src/app/run_cost.rs`).
const SETTLED: Duration = Duration::from_millis(2300);

/// One condition.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Its name in the table.
    pub name: &'static str,
    /// The program; `None` is the base with nothing attached, an empty one is `observer`.
    program: Option<&'static str>,
    /// Its arguments before the pid.
    args: &'static [&'static str],
    /// What it says on stderr once it is at work; empty: it says nothing.
    ready: &'static str,
    /// It is attached to this program instead, which sleeps meanwhile: what is measured is what the calls of
    /// the kernel programs cost that find nothing to do.
    elsewhere: bool,
}

/// What `observer` gets before the arguments of a condition: it says when it is at work, and ends when
/// it is stopped.
const REPORT: [&str; 4] = ["report", "-v", "-d", "3600"];

/// One of our own conditions.
const fn ours(name: &'static str, args: &'static [&'static str]) -> Condition {
    Condition {
        name,
        program: Some(""),
        args,
        ready: "observing",
        elsewhere: false,
    }
}

/// Nothing attached, and each tier. Probes are never taken out: what is measured is what they cost.
const OURS: &[Condition] = &[
    Condition {
        name: "none",
        program: None,
        args: &[],
        ready: "",
        elsewhere: false,
    },
    Condition {
        elsewhere: true,
        ..ours("elsewhere", &["-p"])
    },
    ours("sched", &["-p"]),
    ours("no-cpu", &["--no-cpu", "-p"]),
    ours("syscalls", &["--tier", "syscalls", "-p"]),
    ours(
        "runtime",
        &["--tier", "runtime", "--max-hits", "1000000000", "-p"],
    ),
    ours(
        "runtime-polls",
        &[
            "--tier",
            "runtime",
            "--no-delays",
            "--max-hits",
            "1000000000",
            "-p",
        ],
    ),
];

/// What a user would take instead.
const ALTERNATIVES: &[Condition] = &[
    Condition {
        name: "strace -f -c",
        program: Some("strace"),
        args: &["-f", "-c", "-p"],
        ready: "attached",
        elsewhere: false,
    },
    Condition {
        name: "perf trace -s",
        program: Some("perf"),
        args: &["trace", "-s", "-p"],
        ready: "",
        elsewhere: false,
    },
    Condition {
        name: "bpftrace off-CPU",
        program: Some("bpftrace"),
        args: &[
            "-e",
            "tracepoint:sched:sched_switch { @start[args->prev_pid] = nsecs; if (@start[args->next_pid]) { @[kstack, ustack] = hist(nsecs - @start[args->next_pid]); delete(@start[args->next_pid]); } }",
            "-p",
        ],
        ready: "",
        elsewhere: false,
    },
];

/// The conditions of a benchmark: nothing attached, these tiers, and perhaps other tools; of these,
/// the ones that were asked for.
pub fn conditions(tiers: &[&str], args: &Args) -> Result<Vec<Condition>> {
    let others = ALTERNATIVES
        .iter()
        .filter(|other| other.program.and_then(project::find_program).is_some());
    let mut conditions: Vec<Condition> = OURS
        .iter()
        .filter(|ours| ours.program.is_none() || tiers.contains(&ours.name))
        .chain(others.filter(|_| args.alternatives))
        .copied()
        .collect();
    let known: Vec<&str> = conditions.iter().map(|c| c.name).collect();
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        bail!("--only {unknown}: this benchmark has {}", known.join(", "));
    }
    conditions.retain(|c| {
        let wanted = args.only.iter().any(|name| name == c.name);
        wanted || c.program.is_none() || args.only.is_empty()
    });
    Ok(conditions)
}

impl Condition {
    /// Attaches it to a process; what it gives detaches when it is stopped or dropped.
    pub fn attach(&self, observer: &Path, pid: u32) -> Result<Option<Process>> {
        let Some(program) = self.program else {
            return Ok(None);
        };
        let target = if self.elsewhere {
            std::process::id()
        } else {
            pid
        };
        let mut command = if program.is_empty() {
            let mut command = Command::new(observer);
            command.args(REPORT);
            command
        } else {
            Command::new(program)
        };
        command
            .args(self.args)
            .arg(target.to_string())
            .stdout(Stdio::null());
        let process = Process::start(&mut command, Stream::Stderr, self.name)?;
        if self.ready.is_empty() {
            crate::process::sleep("attaching", Duration::from_secs(1))?;
        } else {
            process.line(self.ready, LIMIT)?;
            if program.is_empty() {
                crate::process::sleep("settling", SETTLED)?;
            }
        }
        Ok(Some(process))
    }
}

/// Detaches as Ctrl-C would.
pub fn detach(attached: Option<Process>) -> Result<()> {
    if let Some(mut process) = attached {
        process.stop(LIMIT)?;
    }
    Ok(())
}
