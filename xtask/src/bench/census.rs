//! What reading the list of goroutines costs: CPU time and bytes of a snapshot, and what the program
//! that is read feels of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Row;
use super::{Args, bystander};
use crate::process::{Process, Stream};
use crate::project::{self, Project};
use crate::ui::Step;

/// Goroutines of the programs that are read.
const COUNTS: &[&str] = &["100", "10000", "100000"];
const LIMIT: Duration = Duration::from_mins(2);

/// Figures of one snapshot, in the order of the rows of one program.
const FIGURES: [(&str, &str); 4] = [
    ("snapshot", "ms CPU"),
    ("longest", "ms"),
    ("read", "MB"),
    ("torn", "per snapshot"),
];

/// Measures each program, at rest but for two goroutines that ask each other.
pub fn run(project: &Project, args: &Args) -> Result<Vec<Row>> {
    let observer = bystander::build_observer(project)?;
    let crowd = build_crowd(project)?;
    let scratch =
        tempfile::tempdir().context("no temporary directory can be made: look at TMPDIR")?;
    let report = scratch.path().join("report.json");
    let mut rows = Vec::new();
    for count in COUNTS {
        let step = Step::start(format!("{count} goroutines"));
        let mut command = Command::new(&crowd);
        command.args(["-ask", "-duration", "10h", "-count", count]);
        let program = Process::start(&mut command, Stream::Stdout, "crowd")?;
        program.line("ready", LIMIT)?;
        let row = |case: &str, condition: &str, unit| Row {
            case: format!("{count} {case}"),
            condition: condition.to_owned(),
            unit,
            values: Vec::new(),
        };
        let mut figures = FIGURES.map(|(case, unit)| row(case, "sched", unit));
        let mut quiet = row("answer p99", "none", "us");
        let mut read = row("answer p99", "sched", "us");
        for _ in 0..args.rounds {
            quiet.values.push(answers(&program, args.seconds)?);
            let observed = observe(&observer, &program, args.seconds, &report, &mut figures)?;
            read.values.push(observed);
        }
        rows.extend(figures);
        rows.extend([quiet, read]);
        step.done();
    }
    Ok(rows)
}

/// Median over some seconds of what the program says of each (us).
fn answers(program: &Process, seconds: u16) -> Result<f64> {
    drop(program.lines());
    // The second that has begun belongs to what was before.
    program.line("answers", LIMIT)?;
    let mut values = Vec::new();
    for _ in 0..seconds.max(1) {
        let line = program.line("answers", LIMIT)?;
        let line: Value =
            serde_json::from_str(&line.text).context("the program printed no JSON")?;
        let ns = line["p99_ns"].as_f64().context("a line without p99_ns")?;
        values.push(ns / 1e3);
    }
    Ok(super::stats::median(&values))
}

/// The same while observer is attached; what observer says of its snapshots goes to `figures`.
fn observe(
    observer: &Path,
    program: &Process,
    seconds: u16,
    report: &Path,
    figures: &mut [Row; 4],
) -> Result<f64> {
    // One second more on each side than is measured.
    let length = u64::from(seconds) + 3;
    let mut command = Command::new(observer);
    command
        .args(["report", "-v", "-f", "json", "-d", &length.to_string()])
        .args(["-p", &program.pid().to_string(), "-o"])
        .arg(report)
        .stdout(Stdio::null());
    let mut running = Process::start(&mut command, Stream::Stderr, "observer")?;
    running.line("observing", LIMIT)?;
    let p99 = answers(program, seconds)?;
    ensure!(
        running.wait(LIMIT)?.success(),
        "observer failed: {:?}",
        running.lines()
    );
    let text = fs::read_to_string(report).context("observer wrote no report")?;
    let parsed: Value = serde_json::from_str(&text).context("the report is no JSON")?;
    let cost = &parsed["completeness"]["census"];
    let number = |key: &str| {
        cost[key]
            .as_f64()
            .with_context(|| format!("the report has no completeness.census.{key}"))
    };
    let samples = number("samples")?;
    let values = [
        number("cpu_ns")? / samples / 1e6,
        number("max_ns")? / 1e6,
        number("bytes_read")? / samples / 1e6,
        number("torn")? / samples,
    ];
    for (row, value) in figures.iter_mut().zip(values) {
        row.values.push(value);
    }
    Ok(p99)
}

fn build_crowd(project: &Project) -> Result<PathBuf> {
    let out = project.target.join("bench/crowd");
    let mut go = Command::new("go");
    go.current_dir(project.path("observer/tests/fixtures/go/crowd"))
        .args(["build", "-ldflags=-s -w", "-o"])
        .arg(&out)
        .arg(".");
    project::run(&mut go, "building crowd")?;
    Ok(out)
}
