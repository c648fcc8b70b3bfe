//! `demo-app`: a short-link service that publishes click events to Kafka, with planted faults.
//!
//! It is the service `observer` is shown on. Each fault is a *scenario* which measures itself and
//! prints the ground truth, so that what the observer says can be checked against it.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

mod app;
mod broker;
mod cli;
mod click;
mod duration;
mod links;
mod load;
mod metrics;
mod output;
mod publisher;
mod scenarios;
mod serve;
mod service;
mod signals;
mod truth;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Usage errors end in clap with exit code 2.
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => load::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-app: {error:#}");
            ExitCode::from(1)
        }
    }
}
