//! `cargo xtask go-matrix`: the Go tests with every known Go and every way to build. `cargo xtask test`
//! runs a part of it: the oldest and the newest version.

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::{self, Project};
use crate::ui::{self, Step};

/// One patch release of each minor version: those that the offsets were measured with.
const VERSIONS: &[&str] = &[
    "1.18.10", "1.19.13", "1.20.14", "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6",
    "1.27.3",
];

/// Those that `cargo xtask test` runs besides the machine's own.
pub const ENDS: [&str; 2] = ["1.18.10", "1.27.3"];

/// A way to build.
#[derive(Debug, Clone, Copy)]
struct Form {
    name: &'static str,
    arguments: &'static [&'static str],
    cgo: bool,
}

const FORMS: &[Form] = &[
    Form {
        name: "plain",
        arguments: &[],
        cgo: false,
    },
    Form {
        name: "stripped",
        arguments: &["-ldflags=-s -w"],
        cgo: false,
    },
    Form {
        name: "pie",
        arguments: &["-buildmode=pie"],
        cgo: false,
    },
    Form {
        name: "cgo",
        arguments: &["-ldflags=-linkmode=external"],
        cgo: true,
    },
];

/// The form and the tests of the part that `cargo xtask test` runs: what differs most from the
/// machine's own programs, in as few builds as possible.
const FEW_FORMS: &[&str] = &["cgo"];
const FEW_VARIANT: &str = "stripped";
const FEW_LIVE: &[&str] = &["live_census_agrees", "live_scheduler", "live_table"];

/// The programs that the tests of the census observe.
const PROGRAMS: &[&str] = &["crowd", "known_waits", "locks"];

/// A test that loads kernel programs.
struct Privileged {
    what: &'static str,
    program: &'static str,
    name: &'static str,
    /// Only for programs with C code.
    cgo: bool,
    /// The first minor version that can do it.
    since: u32,
}

const PRIVILEGED: &[Privileged] = &[
    Privileged {
        what: "goroutines blocked in system calls",
        program: "blocking",
        name: "privileged::go_blocking::every_blocked_goroutine_is_named",
        cgo: false,
        since: 18,
    },
    Privileged {
        what: "goroutines that lead to those of another process",
        program: "pile_up",
        name: "privileged::pile_up::the_chain_goes_on_into_the_server_when_it_is_a_target_too",
        cgo: false,
        since: 18,
    },
    Privileged {
        what: "goroutines followed exactly",
        program: "transitions",
        name: "privileged::go_transitions::every_wait_creation_and_end_is_counted",
        cgo: false,
        since: 21,
    },
    Privileged {
        what: "calls of C",
        program: "cgo_blocking",
        name: "privileged::cgo_blocking::goroutines_in_c_are_named_with_both_their_stacks",
        cgo: true,
        since: 18,
    },
];

/// Tests that need no privileges and build their programs themselves, in every form.
const LIVE: &str = "runtimes::go::live_";

/// Runs the Go tests of `observer` with each toolchain. Arguments are versions (`1.21.13`) or minor
/// versions (`1.21`); none means all of them.
///
/// # Errors
/// When a toolchain can not be had, or when the tests failed with any of them.
pub fn run(project: &Project, args: &[String]) -> Result<()> {
    let versions = select(args)?;
    let mut failed = Vec::new();
    for version in &versions {
        let toolchain = toolchain(project, version)?;
        for mut part in parts(project, version, &toolchain, Extent::All)? {
            let mut cargo = project.cargo();
            cargo.arg("test").env("OBSERVER_REQUIRE", "all");
            let step = Step::start(&part.name);
            let status = part
                .fill(&mut cargo)
                .status()
                .context("cargo test could not be started")?;
            step.done();
            if !status.success() {
                failed.push(std::mem::take(&mut part.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    ui::note(format!(
        "the Go tests passed with Go {}",
        versions.join(", ")
    ));
    Ok(())
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every form; with privileges also what loads kernel programs.
    All,
    /// What differs most from the machine's own programs.
    Few,
}

/// One run of `cargo test`.
#[derive(Debug)]
pub struct Part {
    /// What it is, for people.
    pub name: String,
    arguments: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Part {
    /// Adds what the run needs to `cargo test`.
    pub fn fill<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        cargo
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(key, value)| (key, value)))
    }
}

/// The runs for one version; their programs are built here.
///
/// # Errors
/// When a program can not be built.
pub fn parts(
    project: &Project,
    version: &str,
    toolchain: &Path,
    extent: Extent,
) -> Result<Vec<Part>> {
    let text = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let few = extent == Extent::Few;
    let mut live: Vec<String> = text(&["--package", "observer", "--lib", "--", "--show-output"]);
    live.extend(text(if few { FEW_LIVE } else { &[LIVE] }));
    let mut variables = vec![
        ("OBSERVER_GO", toolchain.join("bin/go")),
        ("GOROOT", toolchain.to_owned()),
    ];
    if few {
        variables.push(("OBSERVER_GO_VARIANT", FEW_VARIANT.into()));
    }
    let mut parts = vec![Part {
        name: format!("Go {version}: programs read while they run"),
        arguments: live,
        variables,
    }];
    for form in FORMS {
        if few && !FEW_FORMS.contains(&form.name) {
            continue;
        }
        let out = project
            .target
            .join("go-matrix")
            .join(version)
            .join(form.name);
        for program in PROGRAMS {
            build(project, toolchain, program, *form, &out)?;
        }
        let it = [
            "--package",
            "observer",
            "--test",
            "it",
            "--",
            "--show-output",
        ];
        let mut arguments: Vec<String> = text(&it);
        // Privileged tests run alone; those of stripped programs are a form here.
        arguments.extend(text(&[
            "census::",
            "--skip",
            "privileged::",
            "--skip",
            "stripped",
        ]));
        parts.push(Part {
            name: format!("Go {version}, {}: the census", form.name),
            arguments,
            variables: vec![("OBSERVER_FIXTURES", out.clone())],
        });
        let privileged = PRIVILEGED.iter().filter(|test| {
            !few && (form.cgo || !test.cgo) && minor_of(version) >= Some(test.since)
        });
        for test in privileged {
            build(project, toolchain, test.program, *form, &out)?;
            let mut arguments: Vec<String> = text(&it);
            arguments.extend(text(&["--exact", test.name]));
            parts.push(Part {
                name: format!("Go {version}, {}: {}", form.name, test.what),
                arguments,
                variables: vec![("OBSERVER_FIXTURES", out.clone())],
            });
        }
    }
    Ok(parts)
}

/// GOROOT of a version: downloaded on first use.
///
/// # Errors
/// When it can not be had.
pub fn toolchain(project: &Project, version: &str) -> Result<PathBuf> {
    toolchain::get(&project.target.join("go-roots"), version)
}

fn build(project: &Project, toolchain: &Path, name: &str, form: Form, out: &Path) -> Result<()> {
    let mut go = Command::new(toolchain.join("bin/go"));
    go.current_dir(project.path("observer/tests/fixtures/go").join(name))
        .args(["build", "-o"])
        .arg(out.join("go").join(name))
        .args(form.arguments)
        // C in programs that are built with and without.
        .args(form.cgo.then_some("-tags=withc"))
        .arg(".")
        .env("GOROOT", toolchain)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", if form.cgo { "1" } else { "0" });
    project::run(&mut go, &format!("go build of {name}, {}", form.name))
}

/// The 26 of `1.26.6`.
fn minor_of(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// The versions that the arguments name.
fn select(args: &[String]) -> Result<Vec<String>> {
    if args.is_empty() {
        return Ok(VERSIONS.iter().map(ToString::to_string).collect());
    }
    args.iter()
        .map(|wanted| {
            let dots = wanted.matches('.').count();
            ensure!(
                wanted.chars().all(|c| c.is_ascii_digit() || c == '.') && dots >= 1,
                "{wanted:?} is no Go version: give 1.26 or 1.26.6"
            );
            if dots >= 2 {
                return Ok(wanted.clone());
            }
            VERSIONS
                .iter()
                .find(|v| {
                    v.strip_prefix(wanted.as_str())
                        .is_some_and(|r| r.starts_with('.'))
                })
                .map(ToString::to_string)
                .with_context(|| format!("no patch release of Go {wanted} is listed; give one"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_chosen_by_patch_or_minor() {
        let choose =
            |args: &[&str]| select(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(choose(&[]).unwrap().len(), VERSIONS.len());
        assert_eq!(choose(&["1.21", "1.26.1"]).unwrap(), ["1.21.13", "1.26.1"]);
        assert!(choose(&["latest"]).is_err());
        assert!(choose(&["1.2"]).is_err());
    }
}
