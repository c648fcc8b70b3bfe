//! Programs with ground truth: they say `ready`, block in known ways, and at their end print what
//! they measured, one `truth` line per task.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::Running;
use super::report::{Share, functions, number, shares};
use super::require::fixture;

/// How much a total may differ from the truth.
const TOLERANCE: f64 = 0.05;
/// Seconds for which a program runs.
const LIFE: u32 = 8;
/// Seconds for which it is observed: nearly all of its life, so that it does not matter when in its
/// life it blocked more than at other times; not to its end, when its files can no longer be asked.
pub const WATCHED: f64 = 7.5;
const START: Duration = Duration::from_secs(20);

/// A fixture that has said `ready`.
#[derive(Debug)]
pub struct Program {
    /// The process.
    pub process: Running,
    started: Instant,
}

/// What a task says of itself.
#[derive(Debug)]
pub struct Truth {
    /// Goid, tokio task id or tid.
    pub id: u64,
    /// What may be said of it: `in_poll`, `may_block`, `idle`, ...; empty when there is no rule.
    pub kind: String,
    /// What the program calls it; may be empty.
    pub name: String,
    /// The syscall in which it blocks.
    pub syscall: String,
    /// The function in which it does so; empty when the program does not say.
    pub function: String,
    /// Time blocked there during the program's life: the time around the calls, less the thread's
    /// CPU time within them where the program measures that (`fsync` works as well as waits).
    pub total_ns: u64,
}

impl Program {
    /// Starts a fixture.
    pub fn start(name: &str, args: &[&str]) -> Self {
        let mut command = Command::new(fixture(name));
        // Go's flag package wants a unit.
        let unit = if name.starts_with("go/") { "s" } else { "" };
        command
            .args(["--duration", &format!("{LIFE}{unit}")])
            .args(args);
        let process = Running::start(&mut command);
        process.event("ready", START);
        Self {
            process,
            started: Instant::now(),
        }
    }

    /// Waits for its end and gives what it measured, and for how long it ran.
    pub fn finish(mut self) -> (Vec<Truth>, Duration) {
        let lines = self.process.rest(Duration::from_secs(LIFE.into()) + START);
        let ran = self.started.elapsed();
        assert!(
            self.process.exit(START).success(),
            "the fixture failed: {lines:#?}"
        );
        let truths: Vec<Truth> = lines.iter().filter_map(|line| truth(line)).collect();
        assert!(
            !truths.is_empty(),
            "the fixture printed no truth: {lines:#?}"
        );
        (truths, ran)
    }
}

fn truth(line: &str) -> Option<Truth> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["event"] != "truth" {
        return None;
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let id = ["task", "goid", "tid"]
        .iter()
        .find_map(|key| line[key].as_u64());
    Some(Truth {
        id: id.unwrap_or_else(|| panic!("no id in {line}")),
        kind: text("kind"),
        name: text("name"),
        syscall: text("syscall"),
        function: text("function"),
        total_ns: line["blocked_ns"]
            .as_u64()
            .unwrap_or_else(|| number(&line, "total_ns")),
    })
}

/// Checks that the report names the task in its syscall, for its time. The window is nearly
/// the whole run; what is missing of it counts with its share. Time for which the task was ready but had no CPU is
/// within the program's measure, while the report may list it apart, as `run_queue`: on a busy machine
/// that much may be missing. Gives the entry that names the task.
#[track_caller]
pub fn check_time<'a>(
    report: &'a Value,
    task_kind: &str,
    truth: &Truth,
    ran: Duration,
) -> &'a Value {
    let mine = shares(report, task_kind, truth.id);
    let time = |chosen: &dyn Fn(&Share<'_>) -> bool| {
        let times = mine
            .iter()
            .filter(|share| chosen(share))
            .map(Share::total_ns);
        times.sum::<u64>() as f64
    };
    let found = time(&|share| share.syscall() == truth.syscall);
    let no_cpu = time(&|share| share.entry["cause"] == "run_queue");
    let window = number(&report["window"], "duration_ns") as f64 / ran.as_nanos() as f64;
    let expected = truth.total_ns as f64 * window;
    let tolerance = expected * TOLERANCE;
    assert!(
        found <= expected + tolerance && found >= expected - no_cpu - tolerance,
        "{task_kind} {} in {}: {found} ns (and {no_cpu} ns without a CPU) instead of {expected} ns; {truth:?}; {mine:#?}",
        truth.id,
        truth.syscall
    );
    let entry = mine.iter().find(|share| share.syscall() == truth.syscall);
    entry
        .unwrap_or_else(|| panic!("{truth:?} is not among blocking: {mine:#?}"))
        .entry
}

/// Checks that the entry's stack holds the function in which the task blocks.
#[track_caller]
pub fn check_function(entry: &Value, function: &str) {
    let functions = functions(entry);
    assert!(
        functions.iter().any(|frame| frame.contains(function)),
        "the stack does not name {function}: {functions:#?}"
    );
}
