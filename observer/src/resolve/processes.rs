//! Which processes to observe: by pid, by command name, by executable.

use std::path::Path;

use crate::model::{Pid, Tid};
use crate::sys::process::{Process, ProcessError};
use crate::sys::processes as list;

/// Processes taken by one selection.
pub const MAX_SELECTED: usize = 256;

/// Why nothing can be observed. Each text is one line: what, why, what to do.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A process that was asked for by pid can not be observed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No process has that name.
    #[error("no process is named `{0}`: names have at most 15 bytes; `observer ps` lists them")]
    NoComm(String),
    /// No process runs that executable.
    #[error(
        "no process runs `{0}`: give its whole path or its file name; `observer ps` lists them"
    )]
    NoExe(String),
    /// Too many match.
    #[error("{0} processes match, more than {MAX_SELECTED}: choose fewer with -p")]
    TooMany(usize),
    /// Nothing was asked for.
    #[error("no process was chosen: give -p PID, --comm NAME, --exe PATH or a command after --")]
    Nothing,
}

/// The processes with these pids, and those with one of these command names or executables, each
/// once, in order of pid. The observer itself is never one of them by name.
///
/// # Errors
/// When a pid can not be observed, or a name matches nothing.
pub fn select(
    pids: &[Pid],
    comms: &[String],
    exes: &[String],
) -> Result<Vec<Process>, SelectError> {
    if pids.is_empty() && comms.is_empty() && exes.is_empty() {
        return Err(SelectError::Nothing);
    }
    let mut chosen = Vec::new();
    for pid in pids {
        chosen.push(Process::open(*pid)?);
    }
    if !comms.is_empty() || !exes.is_empty() {
        let all = observable();
        for comm in comms {
            let before = chosen.len();
            chosen.extend(all.iter().filter(|p| has_comm(p, comm)).cloned());
            if chosen.len() == before {
                return Err(SelectError::NoComm(comm.clone()));
            }
        }
        for exe in exes {
            let before = chosen.len();
            chosen.extend(all.iter().filter(|p| runs(p, exe)).cloned());
            if chosen.len() == before {
                return Err(SelectError::NoExe(exe.clone()));
            }
        }
    }
    chosen.sort_by_key(|process| process.id);
    chosen.dedup_by_key(|process| process.id);
    if chosen.len() > MAX_SELECTED {
        return Err(SelectError::TooMany(chosen.len()));
    }
    Ok(chosen)
}

/// All processes that can be looked at, this one left out; kernel threads have no executable and
/// are left out too. In order of pid.
pub fn observable() -> Vec<Process> {
    let own = std::process::id();
    list::pids()
        .into_iter()
        .filter(|pid| pid.0 != own)
        .filter_map(|pid| Process::open(pid).ok())
        .collect()
}

fn has_comm(process: &Process, comm: &str) -> bool {
    // The kernel keeps 15 bytes (TASK_COMM_LEN): a longer name means the program that has them.
    let kept = comm.as_bytes().get(..15).unwrap_or(comm.as_bytes());
    process.comm.as_bytes() == kept
}

fn runs(process: &Process, exe: &str) -> bool {
    // A replaced executable is still the same program to who asks for it.
    let path = process.exe.to_string_lossy();
    let path = Path::new(path.strip_suffix(" (deleted)").unwrap_or(&path));
    if exe.contains('/') {
        path == Path::new(exe) || list::same_file(process.id.pid, Path::new(exe))
    } else {
        path.file_name().is_some_and(|name| name == exe)
    }
}

/// A thread's name now: what the program called it, at most 15 bytes. `None`: it has ended.
pub fn thread_name(pid: Pid, tid: Tid) -> Option<String> {
    list::thread_name(pid, tid)
}

/// The child processes of a process now: those that are not observed unless asked for.
pub fn children(pid: Pid) -> Vec<Pid> {
    list::children(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn processes_are_chosen_by_pid_name_and_executable_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("select-me-by-name");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        // The name changes at exec, which may come after spawn returns on a busy machine.
        for _ in 0..100 {
            if Process::open(pid).is_ok_and(|p| p.comm.starts_with("select-me")) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let ids = |chosen: Result<Vec<Process>, SelectError>| {
            chosen.map(|c| c.into_iter().map(|p| p.id.pid).collect::<Vec<_>>())
        };
        let name = "select-me-by-name".to_owned();
        let path = program.to_string_lossy().into_owned();
        assert_eq!(
            ids(select(&[], std::slice::from_ref(&name), &[])).unwrap(),
            [pid]
        );
        assert_eq!(
            ids(select(&[], &[], std::slice::from_ref(&name))).unwrap(),
            [pid]
        );
        assert_eq!(ids(select(&[pid], &[name], &[path])).unwrap(), [pid]);
        assert!(children(Pid(std::process::id())).contains(&pid));
        assert_eq!(
            thread_name(pid, Tid(pid.0)).as_deref(),
            Some("select-me-by-na")
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(thread_name(pid, Tid(pid.0)), None);
    }

    #[test]
    fn each_failure_is_one_line_that_says_what_to_do() {
        let none = "no-such-program-here".to_owned();
        let errors = [
            select(&[], &[], &[]),
            select(&[Pid(u32::MAX >> 1)], &[], &[]),
            select(&[], std::slice::from_ref(&none), &[]),
            select(&[], &[], &[none]),
        ];
        for error in errors {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(':') && !text.contains('\n'), "{text}");
        }
    }
}
