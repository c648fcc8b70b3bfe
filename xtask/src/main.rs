//! `cargo xtask`: what is done with this repository besides compiling it.

mod bench;
mod build_ebpf;
mod demo;
mod failure;
mod go_matrix;
mod process;
mod project;
mod service;
mod test;
mod tidy;
mod tokio_matrix;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests, measures and shows `observer`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the kernel programs and store them under observer-ebpf/bytecode.
    BuildEbpf(build_ebpf::Args),
    /// Run every test: tidy, unit, integration and those that load kernel programs.
    Test(test::Args),
    /// Start the demo service with its planted fault, observe it, and print report and truth.
    Demo(demo::Args),
    /// Measure what observing costs.
    Bench(bench::Args),
    /// Check the Go readers against Go versions and ways to build.
    GoMatrix {
        /// Versions (1.21, 1.26.6) to narrow it to.
        narrow: Vec<String>,
    },
    /// Check the tokio reader against tokio versions, build profiles and runtime flavours.
    TokioMatrix {
        /// Versions (1.40) and profiles (release, fat, ...) to narrow it.
        narrow: Vec<String>,
    },
    /// Check the architecture's invariants and the house rules.
    Tidy,
}

fn main() -> ExitCode {
    if let Some(code) = build_ebpf::stand_in().or_else(bench::work) {
        return code;
    }
    let project = match project::Project::find() {
        Ok(project) => project,
        Err(error) => return failure::report(&error),
    };
    let result = match Cli::parse().task {
        Task::BuildEbpf(args) => build_ebpf::run(&project, &args),
        Task::Test(args) => test::run(&project, &args),
        Task::Demo(args) => demo::run(&project, &args),
        Task::Bench(args) => bench::run(&project, &args),
        Task::GoMatrix { narrow } => go_matrix::run(&project, &narrow),
        Task::TokioMatrix { narrow } => tokio_matrix::run(&narrow),
        Task::Tidy => tidy::run(&project),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
