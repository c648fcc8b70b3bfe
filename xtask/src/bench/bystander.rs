//! What a process pays that nobody observes, while observer is attached to another one.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::observers::{conditions, detach};
use super::stats::Row;
use super::{Args, worker};
use crate::process::{Process, Stream};
use crate::project::{self, Project};
use crate::ui::{self, Step};

/// Measures every case under every condition, in turn.
pub fn run(project: &Project, args: &Args) -> Result<Vec<Row>> {
    let observer = build_observer(project)?;
    // What is observed meanwhile: a process that sleeps.
    let target = Process::start(Command::new("sleep").arg("36000"), Stream::Stdout, "sleep")?;
    let conditions = conditions(&["sched", "syscalls"], args)?;
    let mut rows: Vec<Row> = worker::CASES
        .iter()
        .flat_map(|(case, unit)| {
            conditions.iter().map(|condition| Row {
                case: (*case).to_owned(),
                condition: condition.name.to_owned(),
                unit,
                values: Vec::new(),
            })
        })
        .collect();
    for round in 1..=args.rounds {
        let step = Step::start(format!("round {round} of {}", args.rounds));
        for condition in &conditions {
            let attached = condition.attach(&observer, target.pid())?;
            for row in rows
                .iter_mut()
                .filter(|row| row.condition == condition.name)
            {
                let value = work(&row.case, args.seconds)?;
                ui::note(format!(
                    "{} {}: {value:.1} {}",
                    row.case, row.condition, row.unit
                ));
                row.values.push(value);
            }
            detach(attached)?;
        }
        step.done();
    }
    Ok(rows)
}

/// Builds `observer` in release form.
pub fn build_observer(project: &Project) -> Result<std::path::PathBuf> {
    let step = Step::start("building observer (release)");
    let mut cargo = project.cargo();
    cargo.args(["build", "--release", "--package", "observer"]);
    project::run(&mut cargo, "building observer")?;
    step.done();
    Ok(project.target.join("release/observer"))
}

/// Has this program do the work in a process of its own.
fn work(case: &str, seconds: u16) -> Result<f64> {
    let mut command = Command::new(env::current_exe().context("xtask does not know its own path")?);
    command
        .env(worker::MARK, format!("{case} {seconds}"))
        .stderr(Stdio::inherit());
    let process = Process::start(&mut command, Stream::Stdout, "the bystander")?;
    let line = process.line("", Duration::from_secs(u64::from(seconds) + 30))?;
    line.text
        .trim()
        .parse()
        .with_context(|| format!("the bystander printed {:?}", line.text))
}
