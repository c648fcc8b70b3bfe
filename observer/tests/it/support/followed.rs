//! Tier `runtime` on Go: observing the fixture `transitions`, and reading what was followed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child::Running;
use super::observer::observing;
use super::report::{check_completeness, list, number};

/// How long anything may take.
pub const LONG: Duration = Duration::from_mins(1);

/// A fixture that has said `ready`.
pub fn start(program: &Path, args: &[&str]) -> Running {
    let target = Running::start(Command::new(program).args(args));
    target.event("ready", LONG);
    target
}

/// An observer of some processes, whose report goes to a file.
pub struct Observer {
    /// The observer.
    pub process: Running,
    report: PathBuf,
    _dir: tempfile::TempDir,
}

impl Observer {
    /// Starts it with the tier `runtime` and waits until it observes.
    pub fn of(targets: &[&Running], more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let report = dir.path().join("report.json");
        let pids: Vec<String> = targets.iter().map(|t| t.pid().to_string()).collect();
        let file = report.display().to_string();
        let pids = pids.join(",");
        let args = [
            "report", "-p", &pids, "-d", "120", "-f", "json", "-o", &file,
        ];
        let tier = ["--tier", "runtime"];
        Self {
            process: observing(&[&args[..], &tier[..], more].concat()),
            report,
            _dir: dir,
        }
    }

    /// Ends it and gives its report.
    pub fn finish(self) -> Value {
        self.process.signal(libc::SIGINT);
        self.ended()
    }

    /// The report of one that ends by itself.
    pub fn ended(mut self) -> Value {
        assert!(self.process.exit(LONG).success());
        let text = fs::read_to_string(&self.report).expect("the report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        check_completeness(&report);
        report
    }
}

/// What was followed of the only target.
#[track_caller]
pub fn only(report: &Value) -> &Value {
    let [one] = list(report, "transitions") else {
        panic!("not one stretch: {:#}", report["transitions"]);
    };
    one
}

/// The rows of a wait reason at a function, counts and times added up.
pub fn waits(followed: &Value, reason: &str, function: &str) -> (u64, u64) {
    list(followed, "states")
        .iter()
        .filter(|row| row["wait_reason"] == reason && row["site"]["function"] == function)
        .fold((0, 0), |(count, total), row| {
            (
                count + number(row, "count"),
                total + number(row, "total_ns"),
            )
        })
}

/// Time of all rows of a state.
pub fn total(followed: &Value, state: &str) -> u64 {
    list(followed, "states")
        .iter()
        .filter(|row| row["state"] == state)
        .map(|row| number(row, "total_ns"))
        .sum()
}

/// A text; empty when there is none.
pub fn text<'a>(truth: &'a Value, key: &str) -> &'a str {
    truth[key].as_str().unwrap_or_default()
}
