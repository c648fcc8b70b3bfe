//! How soon observer observes after it was started, and how much memory it takes at most.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Args;
use super::stats::Row;
use crate::process::{Process, Stream};
use crate::project::Project;
use crate::service::{self, Language, Service};
use crate::ui::Step;

const LIMIT: Duration = Duration::from_mins(1);

/// Measures on a small program and on both services.
pub fn run(project: &Project, args: &Args) -> Result<Vec<Row>> {
    let programs = service::build(project, Language::Rust)?;
    let small = Process::start(Command::new("sleep").arg("36000"), Stream::Stdout, "sleep")?;
    let tokio = Service::start(&programs, &["--scenario", "none"])?;
    let mut targets = vec![
        ("sleep", small.pid()),
        ("tokio service", tokio.process.pid()),
    ];
    let go = match service::build(project, Language::Go) {
        Ok(programs) => Some(Service::start(&programs, &["--scenario", "none"])?),
        Err(error) => {
            crate::ui::note(format!("Go service left out: {error:#}"));
            None
        }
    };
    targets.extend(go.as_ref().map(|go| ("go service", go.process.pid())));

    let scratch =
        tempfile::tempdir().context("no temporary directory can be made: look at TMPDIR")?;
    let report = scratch.path().join("report.json");
    let row = |case: &str, condition: &str, unit| Row {
        case: case.to_owned(),
        condition: condition.to_owned(),
        unit,
        values: Vec::new(),
    };
    let mut times: Vec<Row> = targets
        .iter()
        .map(|(name, _)| row(&format!("{name}, start"), "sched", "ms"))
        .collect();
    let mut sizes: Vec<Row> = targets
        .iter()
        .map(|(name, _)| row(&format!("{name}, memory"), "sched", "MB peak"))
        .collect();
    for round in 1..=args.rounds {
        let step = Step::start(format!("round {round} of {}", args.rounds));
        for (at, (_, pid)) in targets.iter().enumerate() {
            let mut command = Command::new(&programs.observer);
            command
                .args([
                    "report",
                    "-v",
                    "-d",
                    "0.1",
                    "-f",
                    "json",
                    "-p",
                    &pid.to_string(),
                    "-o",
                ])
                .arg(&report);
            command.stdout(Stdio::null());
            let start = Instant::now();
            let mut observer = Process::start(&mut command, Stream::Stderr, "observer")?;
            let observing = observer.line("observing", LIMIT)?;
            times[at]
                .values
                .push((observing.at - start).as_secs_f64() * 1e3);
            ensure!(
                observer.wait(LIMIT)?.success(),
                "observer failed: {:?}",
                observer.lines()
            );
            sizes[at].values.push(peak_memory(&report)?);
        }
        step.done();
    }
    times.append(&mut sizes);
    Ok(times)
}

/// What observer says of itself in its report.
fn peak_memory(report: &std::path::Path) -> Result<f64> {
    let text = fs::read_to_string(report).context("observer wrote no report")?;
    let report: Value = serde_json::from_str(&text).context("the report is no JSON")?;
    let bytes = report["overhead"]["rss_bytes"]
        .as_u64()
        .context("the report has no overhead.rss_bytes")?;
    Ok(bytes as f64 / 1e6)
}
