//! What a test needs and a machine may lack: then the test is skipped, and says so.

use std::env;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{elf32, tracefs};

/// Something that a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// Loading kernel programs.
    Privilege,
    /// Being root, to become somebody else or to mount.
    Root,
    /// A program that `cargo xtask test` builds, by its path below the fixtures' directory.
    Fixture(&'static str),
    /// Python 3, with ctypes.
    Python,
    /// objcopy and readelf (binutils).
    Objcopy,
    /// Running 32-bit programs.
    Elf32,
    /// Mounting tracefs, where it is not mounted.
    Tracefs,
}

impl Need {
    /// Why the need is not met here; `None` when it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Privilege => unprivileged(),
            // SAFETY: geteuid has no preconditions.
            Self::Root => (unsafe { libc::geteuid() } != 0).then(|| "not run as root".to_owned()),
            Self::Fixture(name) => (!fixture(name).is_file()).then(|| {
                format!("the program {name} was not built: run it by `cargo xtask test`, with the tools that it names")
            }),
            Self::Python => python(),
            Self::Objcopy => {
                let works = |tool: &str| {
                    Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success())
                };
                (!works("objcopy") || !works("readelf"))
                    .then(|| "objcopy and readelf (binutils) are not installed".to_owned())
            }
            Self::Elf32 => elf32::refused(),
            Self::Tracefs => (!tracefs::mounted())
                .then(|| Self::Root.missing().or_else(tracefs::unknown))
                .flatten(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Why there is no Python.
fn python() -> Option<String> {
    let answer = Command::new("python3")
        .args(["-c", "import ctypes"])
        .output();
    let works = answer.is_ok_and(|output| output.status.success());
    (!works).then(|| "python3 with ctypes is not installed".to_owned())
}

/// Where a fixture lies.
pub fn fixture(name: &str) -> PathBuf {
    let dir = env::var_os("OBSERVER_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../fixtures"),
        PathBuf::from,
    );
    dir.join(name)
}

/// Returns from the test when a need is not met: `require!(Need::Privilege, Need::Fixture("go/x"));`
macro_rules! require {
    ($($need:expr),+ $(,)?) => {{
        if let Some(reason) = $crate::support::require::missing(&[$($need),+]) {
            $crate::skips::skip!(&reason);
        }
    }};
}
pub(crate) use require;

/// Why the first need that is not met is not; `None` when all are.
pub fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| need.missing())
}

/// Why kernel programs can not be loaded here; `None` when they can.
fn unprivileged() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let (sys_admin, perfmon, bpf) = (has(21), has(38), has(39));
    if !(sys_admin || perfmon && bpf) {
        return Some("no CAP_BPF and CAP_PERFMON (run as root)".to_owned());
    }
    match aya::programs::loaded_programs().next() {
        Some(Err(error)) => Some(format!(
            "the kernel does not let BPF programs be listed: {error}"
        )),
        Some(Ok(_)) | None => None,
    }
}
