//! `cargo xtask tokio-matrix`: the whole command against every tokio version, build profile and runtime
//! flavour that docs/tokio.md promises. Builds the fixture once per version and profile, then lets the
//! ignored test `privileged::tokio_matrix` observe each program and print one row.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::project::Project;

/// tokio minor versions where something changed, and the newest; the first can not be read.
const VERSIONS: [&str; 7] = ["1.20", "1.23", "1.32", "1.40", "1.45", "1.49", "1.54"];
/// The first one that can be read.
const OLDEST: &str = "1.23";
/// The one that must degrade: one profile of it is enough.
const UNREADABLE: &str = "1.20";
/// Profiles of the fixture's manifest; `frame-pointers` is `release` with frame pointers forced.
const PROFILES: [&str; 5] = ["release", "fat", "stripped", "small", "frame-pointers"];

/// Stands for the service with many dependencies.
const SERVICE: &str = "service";

/// Builds and watches; `args` may name versions (`1.40`) and profiles to narrow the matrix. `service`
/// stands for a service with many dependencies, which is part of a run without arguments.
///
/// # Errors
/// When a fixture does not build or a row fails.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let (service, args): (Vec<&String>, Vec<&String>) =
        args.iter().partition(|arg| *arg == SERVICE);
    let all = service.is_empty() && args.is_empty();
    if all || !service.is_empty() {
        check_service(&root, &target)?;
    }
    if all || !args.is_empty() {
        check_versions(&root, &target.join("tokio-matrix"), &args)?;
    }
    Ok(())
}

/// Builds the service and lets the ignored tests observe it.
fn check_service(root: &Path, target: &Path) -> anyhow::Result<()> {
    let fixtures = target.join("fixtures");
    for profile in ["release", "stripped"] {
        eprintln!("building the service: {profile}");
        let status = Command::new(env!("CARGO"))
            .args(["build", "-q", "-j2", "--locked", "--profile", profile])
            .arg("--target-dir")
            .arg(fixtures.join("service"))
            .current_dir(root.join("observer/tests/fixtures/service"))
            .env_remove("RUSTFLAGS")
            .status()
            .context("cargo build of the service")?;
        if !status.success() {
            bail!("the service does not build: {profile}");
        }
    }
    test(root, "privileged::tokio_service", |command| {
        command.env("OBSERVER_FIXTURES", &fixtures)
    })
}

/// Runs ignored tests, one at a time.
fn test(
    root: &Path,
    name: &str,
    prepare: impl FnOnce(&mut Command) -> &mut Command,
) -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "-q", "-p", "observer", "--test", "it", name, "--"])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .current_dir(root);
    if !prepare(&mut command).status()?.success() {
        bail!("{name}: there are failures, see above");
    }
    Ok(())
}

fn check_versions(root: &Path, target: &Path, args: &[&String]) -> anyhow::Result<()> {
    let chosen = |all: &[&'static str]| -> Vec<&'static str> {
        let named: Vec<_> = all
            .iter()
            .copied()
            .filter(|a| args.iter().any(|x| x.as_str() == *a))
            .collect();
        if named.is_empty() {
            all.to_vec()
        } else {
            named
        }
    };
    if let Some(unknown) = args
        .iter()
        .find(|a| !VERSIONS.contains(&a.as_str()) && !PROFILES.contains(&a.as_str()))
    {
        bail!("unknown version or profile {unknown}: versions {VERSIONS:?}, profiles {PROFILES:?}");
    }
    let mut programs = String::new();
    for version in chosen(&VERSIONS) {
        let manifest = write_manifest(root, target, version)?;
        for profile in chosen(&PROFILES) {
            if version == UNREADABLE && profile != "release" {
                continue;
            }
            eprintln!("building the fixture: tokio {version}, {profile}");
            let program = build(&manifest, target, version, profile)?;
            writeln!(programs, "{version} {profile} {}", program.display())?;
        }
    }
    let list = target.join("programs");
    std::fs::write(&list, programs)?;
    test(root, "privileged::tokio_matrix", |command| {
        command.env("OBSERVER_TOKIO_PROGRAMS", &list)
    })
}

/// A manifest per version: the fixture's own, with another tokio and the sources where they are.
fn write_manifest(root: &Path, target: &Path, version: &str) -> anyhow::Result<PathBuf> {
    let fixture = root.join("observer/tests/fixtures/tokio");
    let text = std::fs::read_to_string(fixture.join("Cargo.toml"))?;
    let text: String = text
        .lines()
        .map(|line| match line.strip_prefix("tokio = { version = \"") {
            Some(rest) => {
                let features = rest.split_once('"').map_or("", |r| r.1);
                format!("tokio = {{ version = \"~{version}.0\"{features}\n")
            }
            None => format!("{line}\n"),
        })
        .collect();
    let main = fixture.join("src/main.rs");
    let directory = target.join("manifests").join(version);
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("Cargo.toml");
    let text = text.replace(
        "path = \"src/lib.rs\"",
        &format!("path = \"{}\"", fixture.join("src/lib.rs").display()),
    );
    let bin = format!(
        "\n[[bin]]\nname = \"tokio-fixture\"\npath = \"{}\"\n",
        main.display()
    );
    std::fs::write(&path, text + &bin)?;
    Ok(path)
}

/// The oldest version that can be read, as people ship it: part of every test run. Gives the program.
pub fn build_oldest(project: &Project, out: &Path) -> anyhow::Result<PathBuf> {
    let target = out.join("tokio-versions");
    let manifest = write_manifest(&project.root, &target, OLDEST)?;
    build(&manifest, &target, OLDEST, "stripped")
}

fn build(manifest: &Path, target: &Path, version: &str, profile: &str) -> anyhow::Result<PathBuf> {
    let frame_pointers = profile == "frame-pointers";
    let name = if frame_pointers { "release" } else { profile };
    // Other flags make other dependencies: a directory of their own keeps both.
    let suffix = if frame_pointers { "-fp" } else { "" };
    let directory = target.join(format!("{version}{suffix}"));
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "-q", "-j2", "--profile", name, "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", &directory)
        .env_remove("RUSTFLAGS");
    if frame_pointers {
        command.env("RUSTFLAGS", "-C force-frame-pointers=yes");
    }
    let status = command.status().context("cargo build of the fixture")?;
    if !status.success() {
        bail!("the fixture does not build: tokio {version}, {profile}");
    }
    Ok(directory.join(name).join("tokio-fixture"))
}
