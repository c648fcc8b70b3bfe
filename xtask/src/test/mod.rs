//! `cargo xtask test`: every test there is, in one command, and one honest line at the end.
//!
//! What can not run here (no root, no Go, ...) is skipped and listed with its reason; with
//! `OBSERVER_REQUIRE=all` (or `--require-all`) a skip is a failure.

mod fixtures;
mod results;

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::go_matrix::{self, Extent};
use crate::project::{self, Project};
use crate::tidy;
use crate::ui::{self, Step};
use results::Results;

/// The module of the tests that load kernel programs. They run one at a time: a second observer
/// would be seen by the first one's checks.
const PRIVILEGED: &str = "privileged::";

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Let nothing be skipped (as with OBSERVER_REQUIRE=all in the environment).
    #[arg(long)]
    require_all: bool,
    /// Only the tests whose name contains this.
    filter: Option<String>,
}

/// Runs the task.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let scratch =
        tempfile::tempdir().context("no temporary directory can be made: look at TMPDIR")?;
    let session = Session {
        project,
        fixtures: fixtures::prepare(project)?,
        skip_log: scratch.path().join("skipped"),
        require_all: args.require_all
            || env::var("OBSERVER_REQUIRE").is_ok_and(|value| value == "all"),
    };
    let mut results = Results::default();
    if args.filter.is_none() {
        let step = Step::start("tidy");
        results.check("tidy", tidy::run(project));
        step.done();
    }

    let step = Step::start("unit and integration tests");
    let mut ordinary = session.cargo_test();
    ordinary.arg("--workspace").args(args.filter.as_deref());
    follow(
        ordinary.args(["--", "--show-output", "--skip", PRIVILEGED]),
        &mut results,
    )?;
    step.done();

    if args.filter.as_deref().is_none_or(|f| f == "go_matrix") {
        session.go_versions(&mut results)?;
    }

    let names = session.privileged(args.filter.as_deref().unwrap_or_default())?;
    if !names.is_empty() {
        let step = Step::start("tests that load kernel programs, one at a time");
        let mut alone = session.cargo_test();
        alone.args(["--package", "observer", "--test", "it", "--"]);
        follow(
            alone
                .args(["--show-output", "--test-threads=1", "--exact"])
                .args(&names),
            &mut results,
        )?;
        step.done();
        session.repeat_few(&mut results)?;
    }
    // Without a log nothing was skipped.
    results.add_skip_log(&fs::read_to_string(&session.skip_log).unwrap_or_default());
    conclude(&results, session.require_all)
}

/// The modules of the tests that read real processes without loading kernel programs.
const LIVE: &str = "live_tests::";

/// Failures that are worth another try: more of them are no accident.
const FEW: usize = 3;

/// What all `cargo test` runs have in common.
struct Session<'a> {
    project: &'a Project,
    fixtures: PathBuf,
    skip_log: PathBuf,
    require_all: bool,
}

impl Session<'_> {
    fn cargo_test(&self) -> Command {
        let mut cargo = self.project.cargo();
        cargo
            .args(["test", "--no-fail-fast"])
            .env("OBSERVER_FIXTURES", &self.fixtures)
            .env("OBSERVER_SKIP_LOG", &self.skip_log);
        if self.require_all {
            cargo.env("OBSERVER_REQUIRE", "all");
        }
        cargo
    }

    /// Runs a few failed tests of real processes again, each once: they compare times with what the
    /// processes measured themselves, and another load of the machine can come between. What passes
    /// only then is listed.
    fn repeat_few(&self, results: &mut Results) -> Result<()> {
        let failed = |of_processes: fn(&str) -> bool| -> Vec<String> {
            let names = results.failures().filter(|name| of_processes(name));
            names.map(str::to_owned).collect()
        };
        let parts = [
            (
                ["--test", "it"].as_slice(),
                failed(|name| name.starts_with(PRIVILEGED)),
            ),
            (&["--lib"], failed(|name| name.contains(LIVE))),
        ];
        let all: usize = parts.iter().map(|(_, names)| names.len()).sum();
        if all == 0 || all > FEW {
            return Ok(());
        }
        let step = Step::start("tests that failed, once more");
        for (program, names) in parts.iter().filter(|(_, names)| !names.is_empty()) {
            let mut again = self.cargo_test();
            again.args(["--package", "observer"]).args(*program);
            results.repeat(names);
            follow(
                again
                    .args(["--", "--show-output", "--test-threads=1", "--exact"])
                    .args(names),
                results,
            )?;
        }
        step.done();
        Ok(())
    }

    /// The tests of the Go census with the oldest and the newest version; the machine's own has been
    /// among the others.
    fn go_versions(&self, results: &mut Results) -> Result<()> {
        for version in go_matrix::ENDS {
            let toolchain = match go_matrix::toolchain(self.project, version) {
                Ok(toolchain) => toolchain,
                Err(error) => {
                    let reason = format!("no toolchain of Go {version}: {error:#}");
                    results.skip_check(&format!("go_matrix::{version}"), &reason);
                    continue;
                }
            };
            for part in go_matrix::parts(self.project, version, &toolchain, Extent::Few)? {
                let step = Step::start(&part.name);
                follow(part.fill(&mut self.cargo_test()), results)?;
                step.done();
            }
        }
        Ok(())
    }

    /// The names of the privileged tests that contain the filter.
    fn privileged(&self, filter: &str) -> Result<Vec<String>> {
        if !self.project.path("observer/tests/it/main.rs").is_file() {
            return Ok(Vec::new());
        }
        let mut list = self.cargo_test();
        list.args([
            "--quiet",
            "--package",
            "observer",
            "--test",
            "it",
            "--",
            "--list",
            PRIVILEGED,
        ]);
        let list = project::output(&mut list, "listing the privileged tests")?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names
            .filter(|name| name.contains(filter))
            .map(str::to_owned)
            .collect())
    }
}

/// Prints the summary; its last line is the count.
fn conclude(results: &Results, require_all: bool) -> Result<()> {
    for (tool, reason) in results.tools() {
        ui::print(format!("no test, run by hand: {tool}: {reason}"));
    }
    for (test, reason) in results.skipped() {
        ui::print(format!("skipped: {test}: {reason}"));
    }
    for test in results.passed_when_repeated() {
        ui::print(format!("passed only when repeated: {test}"));
    }
    for test in results.failures() {
        ui::print(format!("failed: {test}"));
    }
    let refused = require_all && results.skipped().count() > 0;
    if refused {
        eprintln!(
            "xtask: nothing may be skipped with OBSERVER_REQUIRE=all: install what the reasons above name"
        );
    }
    ui::print(results.line());
    if results.failed() > 0 || refused {
        return Err(crate::failure::silent());
    }
    Ok(())
}

/// Runs `cargo test`, showing its output and counting its results.
fn follow(command: &mut Command, results: &mut Results) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo can not be started")?;
    let stdout = child.stdout.take().context("cargo test has no stdout")?;
    let (runs, failed) = (results.runs(), results.failed());
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cargo test's output can not be read")?;
        let line = String::from_utf8_lossy(&line);
        results.add_line(&line);
        ui::print(&line);
    }
    let status = child.wait().context("cargo test can not be waited for")?;
    if !status.success() && results.failed() == failed {
        if results.runs() == runs {
            bail!("the tests did not compile: the compiler's messages are above");
        }
        results.check(
            "a test program ended before its summary (see its output)",
            Err(anyhow::anyhow!("{status}")),
        );
    }
    Ok(())
}
