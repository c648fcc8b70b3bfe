//! `cargo xtask bench`: what observing costs, measured in interleaved rounds.
//!
//! Machines are shared and noisy: the conditions alternate within every round, and what is compared
//! is CPU time per unit of work, as medians and as the ratio of each round with its spread.

mod attach;
mod bystander;
mod census;
mod observers;
mod polls;
mod stats;
mod target;
mod worker;

use anyhow::Result;

use crate::failure;
use crate::process;
use crate::project::Project;
use crate::service::Language;
use crate::ui;
use stats::Outcome;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    name: Name,
    /// Rounds; in each one every condition is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds per condition and round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Also measure the tools that a user would take instead, where they are installed.
    #[arg(long)]
    alternatives: bool,
    /// Measure only these conditions beside `none`, separated by commas: more rounds in the same time.
    #[arg(long, value_name = "CONDITION", value_delimiter = ',')]
    only: Vec<String>,
    /// target-*: this many requests per second, instead of the two loads that are usual.
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Cost for a process that is not observed.
    Bystander,
    /// CPU time per request of the Go service.
    TargetGo,
    /// CPU time per request of the tokio service.
    TargetTokio,
    /// CPU time per poll of a tokio task that only yields.
    Polls,
    /// Time from exec to observing, and peak memory.
    Attach,
    /// Cost of reading the list of goroutines, for observer and for the program that is read.
    Census,
}

impl Name {
    /// As the command line has it.
    fn text(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs the task.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if let Some(missing) = process::lacks_privilege() {
        return Err(failure::no_permission(format!(
            "observer loads kernel programs, and {missing}: run it as `sudo -E env \"PATH=$PATH\" cargo xtask bench`"
        )));
    }
    process::catch_stop();
    let rows = match args.name {
        Name::Bystander => bystander::run(project, args)?,
        Name::TargetGo => target::run(project, args, Language::Go)?,
        Name::TargetTokio => target::run(project, args, Language::Rust)?,
        Name::Polls => polls::run(project, args)?,
        Name::Attach => attach::run(project, args)?,
        Name::Census => census::run(project, args)?,
    };
    let outcome = Outcome::new(args.name.text(), args.rounds, rows);
    ui::print(if args.json {
        outcome.json()
    } else {
        outcome.table()
    });
    Ok(())
}

/// Becomes a worker when a benchmark started this process as one.
pub fn work() -> Option<std::process::ExitCode> {
    worker::work()
}
