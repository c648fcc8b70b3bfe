//! Programs with ground truth: they say `ready`, block in known ways, and at their end print what
//! they measured, one `truth` line per task.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child::Running;
use super::report::{Share, functions, number, shares};
use super::require::fixture;

/// How much a total may differ from the truth.
const TOLERANCE: f64 = 0.05;
/// Seconds for which a program runs.
const LIFE: u32 = 6;
/// Seconds for which it is observed: not to its end, when its files can no longer be asked.
pub const WATCHED: f64 = 5.0;
const START: Duration = Duration::from_secs(20);

/// A fixture that has said `ready`.
#[derive(Debug)]
pub struct Program {
    /// The process.
    pub process: Running,
}

/// What a task says of itself.
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
    /// It runs in a library's copy of the runtime.
    pub library: bool,
    /// Where the task was spawned; empty when the program does not say.
    pub spawned_at: String,
    /// Each call: when it began (Unix time), how long it took, and how long of that it blocked: the
    /// time around it less the thread's CPU time within it (`fsync` works as well as waits).
    calls: Vec<[u64; 3]>,
}

impl Truth {
    /// Time in calls between two times, and of that blocked. Of a call that reaches over one of them,
    /// its share.
    pub fn within(&self, from: u64, to: u64) -> (f64, f64) {
        let parts = self.calls.iter().map(|&[at, took, blocked]| {
            let part = (at + took).min(to).saturating_sub(at.max(from)) as f64;
            (part, part / took.max(1) as f64 * blocked as f64)
        });
        parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }

    /// Calls that began between two times.
    pub fn count_within(&self, from: u64, to: u64) -> usize {
        self.calls
            .iter()
            .filter(|[at, ..]| (from..to).contains(at))
            .count()
    }
}

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            kind,
            name,
            syscall,
            function,
            library: _,
            spawned_at: _,
            calls,
        } = self;
        write!(
            f,
            "{id} {kind} {name} {syscall} {function}: {} calls",
            calls.len()
        )
    }
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
        Self::run(&mut command)
    }

    /// Starts a prepared command that runs for as long as [`Program::life`] says.
    pub fn run(command: &mut Command) -> Self {
        Self::run_to(command, "ready")
    }

    /// The same, up to another event.
    pub fn run_to(command: &mut Command, event: &str) -> Self {
        let process = Running::start(command);
        process.event(event, START);
        Self { process }
    }

    /// How such a command is told how long to run.
    pub fn life() -> String {
        format!("--duration {LIFE}")
    }

    /// Waits for its end and gives what it measured.
    pub fn finish(self) -> Vec<Truth> {
        let both = self.finish_with_lines().into_iter();
        both.map(|(truth, _)| truth).collect()
    }

    /// The same, each with all that its line says.
    pub fn finish_with_lines(mut self) -> Vec<(Truth, Value)> {
        let lines = self.process.rest(Duration::from_secs(LIFE.into()) + START);
        assert!(
            self.process.exit(START).success(),
            "the fixture failed: {lines:#?}"
        );
        let truths: Vec<(Truth, Value)> = lines
            .iter()
            .filter_map(|line| Some((truth(line)?, serde_json::from_str(line).ok()?)))
            .collect();
        assert!(
            !truths.is_empty(),
            "the fixture printed no truth: {lines:#?}"
        );
        truths
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
        library: line["library"] == true,
        spawned_at: text("spawned_at"),
        calls: serde_json::from_value(line["calls"].clone())
            .unwrap_or_else(|error| panic!("{error}: the calls of {line}")),
    })
}

/// Checks that the report names the task in its syscall, for its time within the report's window.
/// Time for which the task was ready but had no CPU is within the program's measure, while the report
/// lists it apart, as `run_queue`, when the task did not wait before: that much may be missing. The
/// kernel may charge the time between wake-up and switch to the thread as CPU time (a clock that was
/// updated at the wake-up is not updated again at the switch), which the report counts as part of the
/// wait and states as `run_queue_ns`: that much may be more, up to the time in calls. Gives the entry
/// that names the task.
#[track_caller]
pub fn check_time<'a>(report: &'a Value, task_kind: &str, truth: &Truth) -> &'a Value {
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
    let (from, to) = window(report);
    let (in_calls, expected) = truth.within(from, to);
    let woken: u64 = mine
        .iter()
        .filter(|share| share.syscall() == truth.syscall)
        .map(|share| number(share.entry, "run_queue_ns"))
        .sum();
    println!(
        "{task_kind} {} in {}: {:.1} % of {:.3} s, {:.3} s without a CPU, {:.3} s woken",
        truth.id,
        truth.syscall,
        found / expected * 100.0,
        expected / 1e9,
        no_cpu / 1e9,
        woken as f64 / 1e9
    );
    let tolerance = expected * TOLERANCE;
    assert!(
        found <= in_calls.min(expected + woken as f64) + tolerance
            && found >= expected - no_cpu - tolerance,
        "{task_kind} {} in {}: {found} ns (and {no_cpu} ns without a CPU) instead of {expected} ns; {truth:?}; {mine:#?}",
        truth.id,
        truth.syscall
    );
    let entry = mine.iter().find(|share| share.syscall() == truth.syscall);
    entry
        .unwrap_or_else(|| panic!("{truth:?} is not among blocking: {mine:#?}"))
        .entry
}

/// The report's window in Unix time, in nanoseconds.
pub fn window(report: &Value) -> (u64, u64) {
    let from = unix_ns(&report["window"]["start"]);
    (from, from + number(&report["window"], "duration_ns"))
}

/// A time of the report, `2026-11-21T09:54:16.123Z`, in Unix time.
pub fn unix_ns(time: &Value) -> u64 {
    let parts: Vec<i64> = time
        .as_str()
        .unwrap_or_default()
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let &[year, month, day, hour, minute, second, milli] = &*parts else {
        panic!("{time} is no time of the form that the report promises");
    };
    // SAFETY: a struct of numbers and a pointer that may be null.
    let mut date: libc::tm = unsafe { std::mem::zeroed() };
    let small = |value: i64| libc::c_int::try_from(value).expect("a part of a date");
    date.tm_year = small(year - 1900);
    date.tm_mon = small(month - 1);
    date.tm_mday = small(day);
    date.tm_hour = small(hour);
    date.tm_min = small(minute);
    date.tm_sec = small(second);
    // SAFETY: `date` is a valid struct tm.
    let seconds = unsafe { libc::timegm(&raw mut date) };
    u64::try_from(seconds * 1000 + milli).expect("a time after 1970") * 1_000_000
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
