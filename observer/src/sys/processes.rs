//! All processes: who runs, whose child, what a thread is called.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::{Pid, Tid};

/// Processes and children listed at most (`kernel.pid_max` is 4 Mi at most).
const MAX: usize = 1 << 22;

/// The pids of all processes now, in order.
pub fn pids() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut pids: Vec<Pid> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX)
        .map(Pid)
        .collect();
    pids.sort_unstable();
    pids
}

/// A thread's name now. `None`: it has ended.
pub fn thread_name(pid: Pid, tid: Tid) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    Some(name.trim_end_matches('\n').to_owned())
}

/// The children of all threads of a process now. Empty as well when the kernel does not say
/// (no CONFIG_PROC_CHILDREN).
pub fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children: Vec<Pid> = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|word| word.parse().ok().map(Pid))
                .collect::<Vec<_>>()
        })
        .take(MAX)
        .collect();
    children.sort_unstable();
    children
}

/// Whether the executable of a process is the file at `path` (by device and inode, so through
/// links and from inside containers too).
pub fn same_file(pid: Pid, path: &Path) -> bool {
    match (fs::metadata(format!("/proc/{pid}/exe")), fs::metadata(path)) {
        (Ok(exe), Ok(file)) => exe.dev() == file.dev() && exe.ino() == file.ino(),
        _ => false,
    }
}
