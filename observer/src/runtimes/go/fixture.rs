//! Test programs: built with a Go toolchain, started, and ended by their pid.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{GoCensus, GoImage};
use crate::model::{Known, Pid};
use crate::runtimes::{RuntimeImage, TaskReader};
use crate::sys::elf::ElfImage;
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

/// A running fixture, ended by its pid.
pub(super) struct Fixture {
    pub(super) child: Child,
    pub(super) lines: Vec<Value>,
    _dir: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(super) fn go() -> Option<PathBuf> {
    let go = std::env::var_os("OBSERVER_GO").map_or_else(|| PathBuf::from("go"), PathBuf::from);
    let works = Command::new(&go)
        .arg("version")
        .stdout(Stdio::null())
        .status();
    works.is_ok_and(|s| s.success()).then_some(go)
}

pub(super) fn build(go: &Path, name: &str, arguments: &[&str], cgo: bool, out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/go")
        .join(name);
    let status = Command::new(go)
        .current_dir(source)
        .args(["build", "-p", "2", "-o"])
        .arg(out)
        .args(arguments)
        .arg(".")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .status()
        .unwrap();
    assert!(status.success(), "go build {arguments:?}");
}

pub(super) fn start(
    go: &Path,
    name: &str,
    arguments: &[&str],
    cgo: bool,
    flags: &[&str],
) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join(name);
    build(go, name, arguments, cgo, &exe);
    let mut child = Command::new(&exe)
        .args(flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        lines.push(line);
        if lines.last().unwrap()["event"] == "ready" {
            break;
        }
    }
    // Its main goroutine still returns from printing that line.
    std::thread::sleep(Duration::from_millis(100));
    Fixture {
        child,
        lines,
        _dir: dir,
    }
}

impl Fixture {
    pub(super) fn census(&self) -> (GoCensus, ProcessMemory) {
        let process = Process::open(Pid(self.child.id())).unwrap();
        let image = ElfImage::open(&process.exe_handle()).unwrap();
        let go = GoImage::detect(&image).expect("a Go program");
        let memory = ProcessMemory::new(process.id.pid);
        let reader = go.task_reader(&process, &memory);
        assert!(
            matches!(reader, Known::Known(TaskReader::Go(_))),
            "{reader:?}"
        );
        let attached = go.attach(&process, &memory).unwrap();
        println!(
            "{} tls {:?}",
            attached.evidence.join("; "),
            attached.tls_offset
        );
        (GoCensus::new(attached), memory)
    }

    pub(super) fn event<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |l| l["event"] == name)
    }
}
