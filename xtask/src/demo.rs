//! `cargo xtask demo`: the demo service with its planted fault, observed, with the truth beside it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::failure;
use crate::process::{self, Line, Process, Stream};
use crate::project::Project;
use crate::service::{self, Language, Service};
use crate::ui::{self, Step};

const CONNECTIONS: u16 = 100;
const WARM_UP: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(30);

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which of the twins to observe.
    #[arg(value_enum, default_value = "rust")]
    language: Language,
    /// How long to observe, in seconds.
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=300))]
    duration: u16,
    /// The planted fault [default: the twin's own].
    #[arg(long)]
    scenario: Option<String>,
    /// Arguments for `observer report`, after `--`.
    #[arg(last = true)]
    observer: Vec<String>,
}

/// Runs the task.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if let Some(missing) = process::lacks_privilege() {
        return Err(failure::no_permission(format!(
            "observer loads kernel programs, and {missing}: run it as `sudo -E env \"PATH=$PATH\" cargo xtask demo`"
        )));
    }
    let programs = service::build(project, args.language)?;
    process::catch_stop();

    let scenario = args.scenario.as_deref().unwrap_or(match args.language {
        Language::Rust => "blocking-io-in-task",
        Language::Go => "channel-pileup",
    });
    let length = Duration::from_secs(args.duration.into());
    let step = Step::start(format!(
        "starting the service with the fault {scenario}, {CONNECTIONS} connections"
    ));
    let service = Service::start(
        &programs,
        &["--scenario", scenario, "--truth-every", "250ms"],
    )?;
    let load = service::load(
        &programs,
        &service,
        CONNECTIONS,
        WARM_UP + length + SLACK,
        &[],
    )?;
    process::sleep("warming up", WARM_UP)?;
    step.done();

    let pid = service.process.pid();
    let step = Step::start(format!("observer report -p {pid} -d {}", args.duration));
    let mut command = Command::new(&programs.observer);
    command
        .args([
            "report",
            "-v",
            "-p",
            &pid.to_string(),
            "-d",
            &args.duration.to_string(),
        ])
        .args(&args.observer);
    let mut observer = Process::start(&mut command, Stream::Stderr, "observer")?;
    let start = observer.line("observing", SLACK)?.at;
    process::sleep("observing", length)?;
    let status = observer.wait(SLACK)?;
    if !status.success() {
        for line in observer.lines() {
            ui::note(line.text);
        }
        bail!("observer ended with {status}: its messages are above");
    }
    step.done();

    drop(load);
    let truths = service.finish()?;
    tell(&truths, start, start + length)
}

/// Prints what the service measured of itself in the observed stretch, and its last line as it is.
fn tell(truths: &[Line], start: Instant, end: Instant) -> Result<()> {
    let last = truths
        .last()
        .context("the service printed no truth line: look at its messages above")?;
    let near = |when: Instant| {
        truths
            .iter()
            .min_by_key(|line| line.at.max(when) - line.at.min(when))
            .unwrap_or(last)
    };
    let blocked = |line: &Line| {
        serde_json::from_str::<Value>(&line.text)
            .ok()
            .map(|value| value["blocked"].clone())
    };
    let (before, after) = (
        blocked(near(start)).unwrap_or_default(),
        blocked(near(end)).unwrap_or_default(),
    );
    ui::print("");
    if after.is_object() {
        let grown = |key: &str| {
            after[key]
                .as_u64()
                .unwrap_or(0)
                .saturating_sub(before[key].as_u64().unwrap_or(0))
        };
        ui::print(format!(
            "GROUND TRUTH, measured by the service in about the same {:.0} s: {} in {}: {} times, {:.3} s in all",
            (end - start).as_secs_f64(),
            after["syscall"].as_str().unwrap_or("?"),
            after["function"].as_str().unwrap_or("?"),
            grown("count"),
            grown("total_ns") as f64 / 1e9,
        ));
        ui::print(
            "(whole calls, their work on a CPU included; the report has their waits, of which one call may have several)",
        );
    }
    ui::print(format!("Its last line: {}", last.text));
    Ok(())
}
