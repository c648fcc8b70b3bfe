//! Compiling the kernel programs: one object per way of sending records to user space.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};

use super::rustc;
use super::toolchain::Toolchain;
use crate::project::Project;
use crate::ui::{self, Step};

/// The transports, each a cargo feature of `observer-ebpf`.
pub const VARIANTS: &[&str] = &["ring", "perf"];

/// What every build is given, besides the path prefixes that are taken out of the object.
pub const FLAGS: &[&str] = &["-Cdebuginfo=2", "-Clinker=bpf-linker", "-Clink-arg=--btf"];

const TARGET: &str = "bpfel-unknown-none";

/// A built object.
#[derive(Debug)]
pub struct Object {
    /// File name, such as `observer.ring.o`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Builds every variant.
pub fn all(project: &Project, tools: &Toolchain) -> Result<Vec<Object>> {
    ui::note(format!("with {}", tools.linker_version));
    let mut objects = Vec::new();
    for variant in VARIANTS {
        let step = Step::start(format!(
            "compiling the kernel programs, transport {variant}"
        ));
        objects.append(&mut one(project, tools, variant)?);
        step.done();
    }
    Ok(objects)
}

fn one(project: &Project, tools: &Toolchain, variant: &str) -> Result<Vec<Object>> {
    let prefixes = prefixes(project, tools)?;
    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.extend(
        prefixes
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={from}={to}")),
    );

    let mut cargo = project.cargo();
    cargo
        .current_dir(project.path("observer-ebpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env(rustc::MARK, "1")
        .env(
            "RUSTC_WRAPPER",
            env::current_exe().context("xtask does not know its own path")?,
        )
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            TARGET,
        ])
        .args(["--no-default-features", "--features", variant])
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(project.target.join("ebpf"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = cargo.output().context("cargo can not be started")?;
    ensure!(
        output.status.success(),
        "the kernel programs did not compile (transport {variant}): the compiler's messages are above"
    );
    let built = executables(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        !built.is_empty(),
        "observer-ebpf has no binary target: it needs one to be linked for the kernel"
    );
    built
        .iter()
        .map(|path| object(path, variant, &prefixes))
        .collect()
}

/// The executables that cargo says it made.
fn executables(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect()
}

fn object(path: &Path, variant: &str, prefixes: &[(String, &'static str)]) -> Result<Object> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix("-ebpf").unwrap_or(&stem);
    let bytes = fs::read(path).with_context(|| format!("{} can not be read", path.display()))?;
    for (prefix, _) in prefixes {
        if bytes
            .windows(prefix.len())
            .any(|window| window == prefix.as_bytes())
        {
            bail!(
                "{stem}.{variant}.o names this machine's path {prefix}: it would differ elsewhere; extend the path prefixes in xtask/src/build_ebpf/compile.rs"
            );
        }
    }
    Ok(Object {
        name: format!("{stem}.{variant}.o"),
        bytes,
    })
}

/// This machine's paths and what stands for them in the object, the more special ones last
/// (rustc takes the last that fits).
fn prefixes(project: &Project, tools: &Toolchain) -> Result<Vec<(String, &'static str)>> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(home.clone()?.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set: set one of them")?;
    let mut prefixes = Vec::new();
    let mut add = |path: &Path, stands_for| prefixes.push((path.display().to_string(), stands_for));
    add(&project.target, "target");
    add(&cargo_home, "cargo");
    for registry in fs::read_dir(cargo_home.join("registry/src"))
        .into_iter()
        .flatten()
        .flatten()
    {
        add(&registry.path(), "registry");
    }
    add(&tools.sysroot, "rust");
    add(&tools.sysroot.join("lib/rustlib/src/rust"), "rustc");
    add(&project.root, "observer");
    Ok(prefixes)
}
