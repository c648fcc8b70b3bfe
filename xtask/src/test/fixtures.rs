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

/// Linked statically with musl: another C library, whose functions have no unwind tables.
const MUSL: (&str, &str) = ("tokio-musl", "x86_64-unknown-linux-musl");
const MUSL_PROFILES: &[&str] = &["release", "stripped"];

/// How each Go program is built: suffix of its name and what is added to the command.
const GO_FORMS: &[(&str, &[&str])] = &[
    ("", &[]),
    ("-stripped", &["-ldflags=-s -w"]),
    ("-pie", &["-buildmode=pie"]),
];

/// Builds what can be built and gives the directory that holds it:
/// `go/NAME[-stripped|-pie]`, `tokio/PROFILE/tokio-fixture` and beside it the same as a library
/// (the profile dev's directory is called debug), `tokio-unstable/stripped/tokio-fixture`,
/// `tokio-versions/1.23/stripped/tokio-fixture`, `tokio-musl/x86_64-unknown-linux-musl/PROFILE/tokio-fixture`,
/// `http/dwarf/http-fixture`, `native/NAME`.
pub fn prepare(project: &Project) -> Result<PathBuf> {
    let out = project.target.join("fixtures");
    for dir in ["go", "native"] {
        fs::create_dir_all(out.join(dir))
            .with_context(|| format!("{} can not be made", out.display()))?;
    }
    let step = Step::start("preparing the programs that the tests observe");
    go(project, &out)?;
    tokio(project, &out)?;
    http(project, &out)?;
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
    tokio_musl(project, &sources, out)
}

fn http(project: &Project, out: &Path) -> Result<()> {
    let mut cargo = project.cargo();
    cargo.current_dir(project.path(SOURCES).join("http")).args([
        "build",
        "--quiet",
        "--locked",
        "--profile",
        "dwarf",
    ]);
    cargo.arg("--target-dir").arg(out.join("http"));
    project::run(&mut cargo, "building the http fixture")
}

fn tokio_musl(project: &Project, sources: &Path, out: &Path) -> Result<()> {
    let (name, target) = MUSL;
    if let Err(error) = add_target(project, target) {
        ui::note(format!("programs with musl left out: {error:#}"));
        return Ok(());
    }
    for profile in MUSL_PROFILES {
        let mut cargo = project.cargo();
        cargo
            .current_dir(sources)
            .args(["build", "--quiet", "--locked", "--profile", profile])
            .args(["--bin", "tokio-fixture", "--target", target]);
        cargo.arg("--target-dir").arg(out.join(name));
        project::run(
            &mut cargo,
            &format!("building the tokio fixture for {target}, profile {profile}"),
        )?;
    }
    Ok(())
}

/// Has rustup install the standard library for another target, if it is not there.
fn add_target(project: &Project, target: &str) -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(&project.root)
        .args(["--print", "target-libdir", "--target", target]);
    let lib = project::output(&mut rustc, "asking rustc for its directory")?;
    if Path::new(lib.trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup
        .current_dir(&project.root)
        .args(["target", "add", target]);
    let what = format!("rustup target add {target}");
    project::run(&mut rustup, &what)
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
