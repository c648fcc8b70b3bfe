//! The command line.

use crate::duration;
use crate::scenarios;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A short-link service with planted faults that print their ground truth.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until SIGINT, SIGTERM or `--duration`
    Serve(ServeArgs),
    /// Send requests to a running service (this one or its Go twin) and print a summary
    Load(LoadArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes a free one and the ready line names it
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// The planted fault; its name is the name of the rule that should find it
    #[arg(long, default_value = scenarios::DEFAULT, value_parser = scenario_names())]
    pub scenario: String,
    /// Directory for the scenario's files [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Kafka bootstrap servers [default: a broker embedded in this process]
    #[arg(long, value_name = "HOST:PORT[,...]")]
    pub brokers: Option<String>,
    /// Topic of the click events; created if it is missing
    #[arg(long, default_value = "clicks")]
    pub topic: String,
    /// Partitions of the topic when it has to be created
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub partitions: u16,
    /// Worker threads of the tokio runtime [default: one per CPU]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub workers: Option<u16>,
    /// Stop after this long (500ms, 10s, 5m; a bare number is seconds)
    #[arg(long, value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Print a truth line this often, besides the one at the end
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub truth_every: Option<Duration>,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What to GET, for example http://127.0.0.1:8080/resolve/abc123; redirects are not followed
    #[arg(long)]
    pub url: String,
    /// Connections kept open, each with one request under way at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,
    /// How long to send
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    pub duration: Duration,
    /// Requests per second over all connections [default: as many as are answered]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Give up on a connect or a request after this long
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Send the running summary to the service every second, which shows it under /metrics
    #[arg(long)]
    pub push: bool,
}

fn scenario_names() -> PossibleValuesParser {
    PossibleValuesParser::new(
        scenarios::REGISTRY
            .iter()
            .map(|entry| clap::builder::PossibleValue::new(entry.name).help(entry.summary)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_scenario_is_a_usage_error() {
        let parsed = Cli::try_parse_from(["demo-app", "serve", "--scenario", "nonsense"]);
        let error = parsed.expect_err("must not parse");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("blocking-io-in-task"), "{error}");
    }
}
