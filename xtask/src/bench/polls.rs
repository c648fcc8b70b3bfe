//! What a tokio program pays for each poll: a task that only yields, on one worker.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Args;
use super::bystander::build_observer;
use super::observers::{conditions, detach};
use super::stats::Row;
use crate::process::{Process, Stream};
use crate::project::{self, Project};
use crate::ui::{self, Step};

const LIMIT: Duration = Duration::from_mins(1);

/// Measures CPU time per poll under every condition, in turn.
pub fn run(project: &Project, args: &Args) -> Result<Vec<Row>> {
    let observer = build_observer(project)?;
    let fixture = project.target.join("fixtures/tokio");
    let mut cargo = project.cargo();
    cargo
        .current_dir(project.path("observer/tests/fixtures/tokio"))
        .args(["build", "--quiet", "--locked", "--release", "--target-dir"])
        .arg(&fixture);
    project::run(&mut cargo, "building the program that yields")?;
    let mut command = Command::new(fixture.join("release/stalls"));
    command.args([
        "--scenario",
        "flood",
        "--victims",
        "0",
        "--duration",
        "36000",
    ]);
    let target = Process::start(&mut command, Stream::Stdout, "the program that yields")?;
    target.line("ready", LIMIT)?;
    let conditions = conditions(&["no-cpu", "sched", "runtime-polls", "runtime"], args)?;
    let mut rows: Vec<Row> = conditions
        .iter()
        .map(|condition| Row {
            case: "poll".to_owned(),
            condition: condition.name.to_owned(),
            unit: "ns CPU/poll",
            values: Vec::new(),
        })
        .collect();
    let length = Duration::from_secs(args.seconds.into());
    for round in 1..=args.rounds {
        let step = Step::start(format!("round {round} of {}", args.rounds));
        for (condition, row) in conditions.iter().zip(&mut rows) {
            let attached = condition.attach(&observer, target.pid())?;
            let value = measure(&target, length)?;
            detach(attached)?;
            ui::note(format!("{}: {value:.0} {}", row.condition, row.unit));
            row.values.push(value);
        }
        step.done();
    }
    Ok(rows)
}

/// CPU time per poll over some seconds.
fn measure(target: &Process, length: Duration) -> Result<f64> {
    let before = progress(target)?;
    crate::process::sleep("measuring", length)?;
    let after = progress(target)?;
    let polls = after.0 - before.0;
    ensure!(polls > 0.0, "no task was polled");
    Ok((after.1 - before.1) / polls)
}

/// Polls and CPU time so far, in nanoseconds: of a line that the program says from now on.
fn progress(target: &Process) -> Result<(f64, f64)> {
    let _said_before = target.lines();
    let line = target.line("polls", LIMIT)?;
    let line: Value = serde_json::from_str(&line.text).context("a line that is no JSON")?;
    let number = |key: &str| {
        line[key]
            .as_f64()
            .with_context(|| format!("no {key} in {line}"))
    };
    Ok((number("polls")?, number("cpu_ns")?))
}
