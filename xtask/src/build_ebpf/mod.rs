//! `cargo xtask build-ebpf`: the kernel programs, from source to the committed objects.
//!
//! The objects are committed so that `cargo build` needs neither LLVM nor unstable Rust. The digest
//! file beside them says from which inputs they were made; `--check` fails when that is no longer so.

mod compile;
mod digest;
mod rustc;
mod toolchain;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::project::Project;
use crate::ui::{self, Step};
use digest::Digest;
pub use rustc::stand_in;

const BYTECODE: &str = "observer-ebpf/bytecode";

/// Options of `build-ebpf`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Change nothing: fail when the committed objects were not built from these sources, and, where
    /// the toolchain is present, say whether a fresh build gives the same bytes.
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if !project.path("observer-ebpf/Cargo.toml").is_file() {
        bail!(
            "observer-ebpf/Cargo.toml is missing: nothing to build; check out the whole repository"
        );
    }
    if args.check {
        check(project)
    } else {
        build(project)
    }
}

fn build(project: &Project) -> Result<()> {
    let tools = toolchain::require(project)?;
    let bytecode = project.path(BYTECODE);
    fs::create_dir_all(&bytecode).with_context(|| format!("{BYTECODE} can not be created"))?;
    for object in compile::all(project, &tools)? {
        let to = bytecode.join(&object.name);
        fs::write(&to, &object.bytes)
            .with_context(|| format!("{} can not be written", to.display()))?;
        ui::note(format!(
            "{BYTECODE}/{}: {} bytes",
            object.name,
            object.bytes.len()
        ));
    }
    let digest = Digest::of(project)?;
    fs::write(project.path(digest::FILE), digest.text())
        .with_context(|| format!("{} can not be written", digest::FILE))?;
    ui::note(format!("{}: total {}", digest::FILE, digest.total()));
    Ok(())
}

fn check(project: &Project) -> Result<()> {
    let step = Step::start("comparing the kernel programs' sources with the committed objects");
    let stored = fs::read_to_string(project.path(digest::FILE)).with_context(|| {
        format!(
            "{} can not be read: run `cargo xtask build-ebpf` and commit what it writes",
            digest::FILE
        )
    })?;
    let differences = Digest::of(project)?.differences(&stored);
    if !differences.is_empty() {
        bail!(
            "{BYTECODE} was not built from these sources ({}): run `cargo xtask build-ebpf` and commit what it writes",
            differences.join(", ")
        );
    }
    step.done();
    match toolchain::find(project) {
        Ok(tools) => compare(project, &tools),
        Err(missing) => {
            ui::note(format!("not rebuilt for comparison: {missing}"));
            Ok(())
        }
    }
}

/// Rebuilds elsewhere and says whether the bytes are those that are committed.
fn compare(project: &Project, tools: &toolchain::Toolchain) -> Result<()> {
    for object in compile::all(project, tools)? {
        let relative = Path::new(BYTECODE).join(&object.name);
        let committed = fs::read(project.path(&relative)).with_context(|| {
            format!(
                "{} can not be read: run `cargo xtask build-ebpf`",
                relative.display()
            )
        })?;
        if committed == object.bytes {
            ui::note(format!(
                "{}: a fresh build is byte-identical",
                relative.display()
            ));
        } else {
            ui::warn(format!(
                "{}: a fresh build differs in its bytes ({} committed, {} fresh) although the inputs are the same",
                relative.display(),
                committed.len(),
                object.bytes.len()
            ));
        }
    }
    Ok(())
}
