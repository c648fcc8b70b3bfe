//! The programs with ground truth that the tests observe: built once, kept under the target directory.
//!
//! What can not be built here is left out; the tests that need it skip themselves and say so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::project::{self, Project};
use crate::tokio_matrix;
use crate::ui::{self, Step};

const SOURCES: &str = "observer/tests/fixtures";

/// How the tokio fixture is built: cargo profiles of its own manifest.
const TOKIO_PROFILES: &[&str] = &[
    "dev", "plain", "release", "fat", "stripped", "small", "dwarf",
];
/// What is added for unstable interfaces of tokio, which keep where a task was spawned: another
/// directory, because other flags make other dependencies.
const TOKIO_UNSTABLE: (&str, &str, &str) = ("tokio-unstable", "stripped", "--cfg tokio_unstable");

/// How each Go program is built: suffix of its name and what is added to the command.
const GO_FORMS: &[(&str, &[&str])] = &[
    ("", &[]),
    ("-stripped", &["-ldflags=-s -w"]),
    ("-pie", &["-buildmode=pie"]),
];

/// Builds what can be built and gives the directory that holds it:
/// `go/NAME[-stripped|-pie]`, `tokio/PROFILE/tokio-fixture` and beside it the same as a library
/// (the profile dev's directory is called debug), `tokio-unstable/stripped/tokio-fixture`,
/// `tokio-versions/1.23/stripped/tokio-fixture`, `native/NAME`.
pub fn prepare(project: &Project) -> Result<PathBuf> {
    let out = project.target.join("fixtures");
    for dir in ["go", "native"] {
        fs::create_dir_all(out.join(dir))
            .with_context(|| format!("{} can not be made", out.display()))?;
    }
    let step = Step::start("preparing the programs that the tests observe");
    go(project, &out)?;
    tokio(project, &out)?;
    native(project, &out)?;
    step.done();
    Ok(out)
}

fn go(project: &Project, out: &Path) -> Result<()> {
    let sources = project.path(SOURCES).join("go");
    let programs = go_programs(&sources);
    if programs.is_empty() {
        return Ok(());
    }
    if project::find_program("go").is_none() {
        ui::note("Go programs left out: go is not in PATH");
        return Ok(());
    }
    for program in programs {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for (suffix, more) in GO_FORMS {
            let mut command = Command::new("go");
            command.current_dir(&program).arg("build").args(*more);
            command
                .arg("-o")
                .arg(out.join("go").join(format!("{name}{suffix}")))
                .arg(".");
            project::run(
                &mut command,
                &format!("go build of the fixture {name}{suffix}"),
            )?;
        }
    }
    Ok(())
}

/// Directories with a Go program of their own, in order.
fn go_programs(sources: &Path) -> Vec<PathBuf> {
    let mut programs: Vec<PathBuf> = entries(sources)
        .filter(|dir| dir.join("main.go").is_file())
        .collect();
    programs.sort();
    programs
}

fn tokio(project: &Project, out: &Path) -> Result<()> {
    let sources = project.path(SOURCES).join("tokio");
    if !sources.join("Cargo.toml").is_file() {
        return Ok(());
    }
    for profile in TOKIO_PROFILES {
        let mut cargo = project.cargo();
        cargo
            .current_dir(&sources)
            .args(["build", "--quiet", "--locked", "--profile", profile]);
        cargo.arg("--target-dir").arg(out.join("tokio"));
        project::run(
            &mut cargo,
            &format!("building the tokio fixture, profile {profile}"),
        )?;
    }
    let (name, profile, flags) = TOKIO_UNSTABLE;
    let mut cargo = project.cargo();
    cargo
        .current_dir(&sources)
        .args(["build", "--quiet", "--locked", "--profile", profile])
        .env("RUSTFLAGS", flags);
    cargo.arg("--target-dir").arg(out.join(name));
    project::run(&mut cargo, &format!("building the tokio fixture, {flags}"))?;
    tokio_matrix::build_oldest(project, out)?;
    Ok(())
}

fn native(project: &Project, out: &Path) -> Result<()> {
    let sources = project.path(SOURCES).join("native");
    for source in entries(&sources) {
        let Some(name) = source.file_stem().map(|stem| out.join("native").join(stem)) else {
            continue;
        };
        let mut compiler = if source.extension().is_some_and(|extension| extension == "c") {
            let mut compiler = Command::new("cc");
            compiler.args(["-O2", "-g", "-fno-omit-frame-pointer", "-pthread"]);
            compiler
        } else if source
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let mut compiler = Command::new("rustc");
            compiler.args(["--edition=2021", "-O", "-g", "-Cforce-frame-pointers=yes"]);
            compiler
        } else {
            continue;
        };
        compiler
            .current_dir(&project.root)
            .arg("-o")
            .arg(&name)
            .arg(&source);
        if project::find_program(&compiler.get_program().to_string_lossy()).is_none() {
            ui::note(format!(
                "{} left out: there is no compiler for it",
                source.display()
            ));
            continue;
        }
        project::run(&mut compiler, &format!("compiling {}", source.display()))?;
    }
    Ok(())
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}
