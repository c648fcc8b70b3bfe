//! Where things lie in the repository, and how its programs are run.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// The repository that is worked on.
#[derive(Debug, Clone)]
pub struct Project {
    /// The directory that holds the workspace's Cargo.toml.
    pub root: PathBuf,
    /// Where cargo puts what it builds.
    pub target: PathBuf,
}

impl Project {
    /// Finds the repository: above this crate's manifest, as cargo tells it.
    pub fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("the xtask crate has no parent directory: run it as `cargo xtask`")?
            .canonicalize()
            .context("the repository's directory can not be opened: run `cargo xtask` inside it")?;
        ensure!(
            root.join("observer-common").is_dir(),
            "{} does not look like the observer repository: run `cargo xtask` inside it",
            root.display()
        );
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    /// A path inside the repository.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// `cargo`, run in the repository's root.
    pub fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        command
    }
}

/// Runs a command that shows its own progress; its failure is the error.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| cannot_start(command, what))?;
    if !status.success() {
        bail!("{what} failed ({status}): its own messages are above");
    }
    Ok(())
}

/// Runs a command and gives what it printed on stdout.
pub fn output(command: &mut Command, what: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command, what))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
        bail!(
            "{what} failed ({}): {}",
            output.status,
            last.unwrap_or("no message")
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program of that name in `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

fn cannot_start(command: &Command, what: &str) -> String {
    let program = command.get_program().to_string_lossy();
    format!("{what}: `{program}` can not be started")
}
