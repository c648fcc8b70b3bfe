//! What /proc says of a process: identity, executable, threads, mappings.

use std::fs;
use std::path::PathBuf;

use procfs::process::Process as ProcProcess;

use crate::model::{Pid, ProcessId, StartTime, Tid};

/// Why a process can not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such process.
    #[error("no process has pid {0}: it may have exited; `observer ps` lists what runs")]
    NoSuchProcess(Pid),
    /// It ended, and its parent has not asked how.
    #[error("pid {0} has exited: it is a zombie, until its parent asks for its exit status")]
    Zombie(Pid),
    /// It is a thread of the kernel.
    #[error(
        "pid {0} is a kernel thread: it runs no program; `observer ps` lists what can be observed"
    )]
    KernelThread(Pid),
    /// It may not be read.
    #[error(
        "no permission to look at pid {0}: run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    )]
    Denied(Pid),
    /// /proc answered something unexpected.
    #[error("pid {pid}: /proc could not be read: {message}")]
    Proc {
        /// The process.
        pid: Pid,
        /// What went wrong.
        message: String,
    },
}

impl ProcessError {
    fn from_procfs(pid: Pid, error: procfs::ProcError) -> Self {
        match error {
            procfs::ProcError::NotFound(_) => Self::NoSuchProcess(pid),
            procfs::ProcError::PermissionDenied(_) => Self::Denied(pid),
            procfs::ProcError::Io(e, _) if e.raw_os_error() == Some(libc::ESRCH) => {
                Self::NoSuchProcess(pid)
            }
            other => Self::Proc {
                pid,
                message: other.to_string(),
            },
        }
    }
}

/// A mapped range of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Inode of the file, 0 for anonymous memory.
    pub inode: u64,
    /// May be executed.
    pub executable: bool,
    /// May be written.
    pub writable: bool,
    /// The file, when there is one (` (deleted)` is part of the kernel's text for replaced files).
    pub path: Option<PathBuf>,
}

/// A thread that waits in the kernel, as `/proc/PID/task/TID/syscall` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedAt {
    /// The system call's number; -1 when it waits elsewhere (a page fault).
    pub syscall: i64,
    /// User stack pointer.
    pub stack_pointer: u64,
    /// User instruction pointer.
    pub instruction_pointer: u64,
}

/// `nr 0xarg0 .. 0xarg5 0xsp 0xip`, or `-1 0xsp 0xip`, or `running`.
fn parse_syscall(text: &str) -> Option<BlockedAt> {
    let mut words = text.split_ascii_whitespace();
    let syscall = words.next()?.parse().ok()?;
    let mut last_two = words.rev();
    let mut hex = || u64::from_str_radix(last_two.next()?.strip_prefix("0x")?, 16).ok();
    let instruction_pointer = hex()?;
    Some(BlockedAt {
        syscall,
        stack_pointer: hex()?,
        instruction_pointer,
    })
}

/// `start-end perms offset dev inode   path` (proc(5)); `None` for a line of another form.
fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let trimmed = rest.trim_start_matches(' ');
        let (word, after) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        rest = after;
        (!word.is_empty()).then_some(word)
    };
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?;
    let offset = word()?;
    let _device = word()?;
    let inode = word()?.parse().ok()?;
    let path = rest.trim_start_matches(' ');
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        inode,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        writable: permissions.as_bytes().get(1) == Some(&b'w'),
        path: path.starts_with('/').then(|| PathBuf::from(path)),
    })
}

/// A process that can be observed.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who it is.
    pub id: ProcessId,
    /// Command name (at most 15 bytes).
    pub comm: String,
    /// Path of the executable as the kernel tells it.
    pub exe: PathBuf,
}

impl Process {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it does not exist or may not be read.
    pub fn open(pid: Pid) -> Result<Self, ProcessError> {
        let wrap = |e| ProcessError::from_procfs(pid, e);
        let process = ProcProcess::new(pid.0 as i32).map_err(wrap)?;
        let stat = process.stat().map_err(wrap)?;
        // Neither has an executable, which would read as if there were no such process.
        let flags = procfs::process::StatFlags::from_bits_truncate(stat.flags);
        if stat.state == 'Z' {
            return Err(ProcessError::Zombie(pid));
        }
        if flags.contains(procfs::process::StatFlags::PF_KTHREAD) {
            return Err(ProcessError::KernelThread(pid));
        }
        let exe = process.exe().map_err(wrap)?;
        Ok(Self {
            id: ProcessId {
                pid,
                start: StartTime(stat.starttime),
            },
            comm: stat.comm,
            exe,
        })
    }

    /// A path by which the executable can be opened even when it was replaced or lies in another
    /// mount namespace.
    pub fn exe_handle(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/exe", self.id.pid))
    }

    /// Whether the same process still runs (and its pid was not reused). A zombie does not run.
    pub fn is_alive(&self) -> bool {
        ProcProcess::new(self.id.pid.0 as i32)
            .and_then(|p| p.stat())
            .is_ok_and(|s| s.starttime == self.id.start.0 && s.state != 'Z')
    }

    /// What holds it in the state "stopped" now, in which it can not run: a signal or a debugger.
    pub fn stopped_by(&self) -> Option<&'static str> {
        let process = ProcProcess::new(self.id.pid.0 as i32).ok()?;
        let stat = process.stat().ok()?;
        match stat.state {
            _ if stat.starttime != self.id.start.0 => None,
            'T' => Some("a signal (SIGSTOP, SIGTSTP); SIGCONT lets it go on"),
            't' => Some("a debugger"),
            _ => None,
        }
    }

    /// Its threads now.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    pub fn threads(&self) -> Result<Vec<Tid>, ProcessError> {
        let pid = self.id.pid;
        let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ProcessError::NoSuchProcess(pid),
            std::io::ErrorKind::PermissionDenied => ProcessError::Denied(pid),
            _ => ProcessError::Proc {
                pid,
                message: e.to_string(),
            },
        })?;
        Ok(entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
            .map(Tid)
            .collect())
    }

    /// Where a thread waits in the kernel; `None` when it runs, is gone or may not be read.
    pub fn blocked_at(&self, tid: Tid) -> Option<BlockedAt> {
        let path = format!("/proc/{}/task/{tid}/syscall", self.id.pid);
        parse_syscall(&fs::read_to_string(path).ok()?)
    }

    /// Its threads now, by the ids that the process itself sees: in a container these differ.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    pub fn namespace_threads(&self) -> Result<Vec<Tid>, ProcessError> {
        let pid = self.id.pid;
        let wrap = |e| ProcessError::from_procfs(pid, e);
        let process = ProcProcess::new(pid.0 as i32).map_err(wrap)?;
        let inner = process.status().map_err(wrap)?.nstgid;
        if inner.is_none_or(|ids| ids.last() == Some(&(pid.0 as i32))) {
            return self.threads();
        }
        // A thread that ends meanwhile is left out.
        Ok(process
            .tasks()
            .map_err(wrap)?
            .filter_map(|task| task.ok()?.status().ok()?.nspid?.last().copied())
            .map(|id| Tid(id as u32))
            .collect())
    }

    /// Its root directory, by which this process reaches files as the target sees them.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.id.pid))
    }

    /// Its mappings now, in address order.
    ///
    /// # Errors
    /// When it is gone or may not be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>, ProcessError> {
        let pid = self.id.pid;
        // Not by crate `procfs`: its parser panics on a mapped file called `/SYSV`, which any target
        // can arrange.
        let text = fs::read(format!("/proc/{pid}/maps")).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ProcessError::NoSuchProcess(pid),
            std::io::ErrorKind::PermissionDenied => ProcessError::Denied(pid),
            _ if e.raw_os_error() == Some(libc::ESRCH) => ProcessError::NoSuchProcess(pid),
            _ => ProcessError::Proc {
                pid,
                message: e.to_string(),
            },
        })?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .filter_map(parse_mapping)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_and_kernel_threads_are_told_from_no_process() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid(child.id());
        let looked = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Process::open(pid)
        });
        let zombie = looked.take(500).find(Result::is_err).unwrap();
        assert!(matches!(zombie, Err(ProcessError::Zombie(_))), "{zombie:?}");
        child.wait().unwrap();
        let gone = Process::open(pid);
        assert!(
            matches!(gone, Err(ProcessError::NoSuchProcess(_))),
            "{gone:?}"
        );
        // Not in a pid namespace of its own.
        if fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm == "kthreadd\n") {
            let kernel = Process::open(Pid(2));
            assert!(
                matches!(kernel, Err(ProcessError::KernelThread(_))),
                "{kernel:?}"
            );
        }
    }

    #[test]
    fn a_stopped_process_is_told_from_one_that_waits() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let process = Process::open(Pid(pid)).unwrap();
        assert_eq!(process.stopped_by(), None);
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGSTOP) }, 0);
        let mut looks = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            process.stopped_by()
        });
        let by = looks.by_ref().take(500).find_map(|by| by);
        assert!(by.is_some_and(|by| by.contains("SIGSTOP")), "{by:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn mappings_are_read_whatever_the_file_is_called() {
        let line = "7f00-7f10 r-xp 00002000 fd:00 42                         /SYSV x (deleted)";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset),
            (0x7f00, 0x7f10, 0x2000)
        );
        assert!(mapping.executable && !mapping.writable && mapping.inode == 42);
        assert_eq!(
            mapping.path.as_deref(),
            Some(std::path::Path::new("/SYSV x (deleted)"))
        );
        assert_eq!(
            parse_mapping("1-2 rw-p 0 00:00 0 [heap]").unwrap().path,
            None
        );
        assert_eq!(parse_mapping("rubbish"), None);
        let own = Process::open(Pid(std::process::id()))
            .unwrap()
            .mappings()
            .unwrap();
        assert!(own.iter().any(|m| m.executable && m.path.is_some()));
    }
}
