//! What is needed to compile for the kernel: `rust-src` of the pinned toolchain and `bpf-linker`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::project::{self, Project};
use crate::ui::Step;

const SCRIPT: &str = "OBSERVER_EBPF_TOOLCHAIN_SCRIPT";
const INSTALL_LINKER: &str =
    "cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22";

/// The tools, found.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler's own directory.
    pub sysroot: PathBuf,
    /// What `bpf-linker --version` says.
    pub linker_version: String,
}

/// Finds the tools; the error says what is missing and how to install it.
pub fn find(project: &Project) -> Result<Toolchain> {
    let rustc = || {
        let mut command = Command::new("rustc");
        command.current_dir(&project.root);
        command
    };
    let sysroot = project::output(
        rustc().args(["--print", "sysroot"]),
        "asking rustc for its directory",
    )?;
    let sysroot = PathBuf::from(sysroot.trim());
    if !sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
    {
        bail!(
            "the standard library's sources are not installed: run `rustup component add rust-src`, \
             or name a script that installs it in {SCRIPT}"
        );
    }
    if project::find_program("bpf-linker").is_none() {
        bail!(
            "bpf-linker is not in PATH: run `{INSTALL_LINKER}`, or name a script that installs it in {SCRIPT}"
        );
    }
    let linker = project::output(
        Command::new("bpf-linker").arg("--version"),
        "bpf-linker --version",
    )?;
    Ok(Toolchain {
        sysroot,
        linker_version: linker.trim().to_owned(),
    })
}

/// Finds the tools, or has the user's script install them.
pub fn require(project: &Project) -> Result<Toolchain> {
    let missing = match find(project) {
        Ok(tools) => return Ok(tools),
        Err(missing) => missing,
    };
    let Some(script) = env::var_os(SCRIPT) else {
        return Err(missing);
    };
    let step = Step::start(format!(
        "installing the kernel-side toolchain by {}",
        script.display()
    ));
    let mut command = Command::new("bash");
    command.arg(&script).current_dir(&project.root);
    project::run(&mut command, "the toolchain script")?;
    step.done();
    find(project)
}
