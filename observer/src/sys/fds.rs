//! A process's file descriptors: what /proc/PID/fd and /proc/PID/fdinfo say of them.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};

use crate::model::Pid;

/// Descriptors listed per process at most (`fs.nr_open` is 1 Mi by default).
pub const MAX_FDS: usize = 1 << 18;
/// An epoll descriptor's fdinfo has a line per watched descriptor; this much is read of it.
const MAX_FDINFO: u64 = 4 << 20;

/// Why a descriptor can not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FdError {
    /// The process has exited.
    #[error("the process has exited")]
    Exited,
    /// The process has no such descriptor (any more).
    #[error("the descriptor is closed")]
    Closed,
    /// The observer may not look.
    #[error("no permission to look at the process's descriptors: needs CAP_SYS_PTRACE")]
    Denied,
    /// /proc answered something unexpected.
    #[error("/proc could not be read (error {0})")]
    Other(i32),
}

/// What a descriptor stands for, from the text of its link (Linux `fs/d_path.c`, `dynamic_dname`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FdLink {
    /// `socket:[INODE]`.
    Socket(u64),
    /// `pipe:[INODE]`.
    Pipe(u64),
    /// `anon_inode:[eventpoll]`, `anon_inode:inotify`: the name without brackets.
    Anonymous(String),
    /// A path in the target's mount namespace.
    Path {
        /// The path, ` (deleted)` cut off.
        path: String,
        /// The name is gone.
        deleted: bool,
    },
}

impl FdLink {
    fn parse(text: &str) -> Self {
        let inode = |prefix: &str| -> Option<u64> {
            text.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok()
        };
        if let Some(inode) = inode("socket:[") {
            return Self::Socket(inode);
        }
        if let Some(inode) = inode("pipe:[") {
            return Self::Pipe(inode);
        }
        if let Some(name) = text.strip_prefix("anon_inode:") {
            return Self::Anonymous(name.trim_matches(['[', ']']).to_owned());
        }
        Self::Path {
            path: text.strip_suffix(" (deleted)").unwrap_or(text).to_owned(),
            deleted: text.ends_with(" (deleted)"),
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character or block device.
    Device,
    /// A named pipe.
    Fifo,
    /// Something else.
    Other,
}

/// What fdinfo says (Linux `Documentation/filesystems/proc.rst`, 3.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FdInfo {
    /// Open flags (O_WRONLY...).
    pub flags: u32,
    /// Descriptors that an epoll descriptor watches.
    pub watched: Vec<i32>,
    /// Counter of an eventfd.
    pub eventfd_count: Option<u64>,
}

impl FdInfo {
    /// Whether it was opened for writing only: the write end of a pipe.
    pub fn writes_only(&self) -> bool {
        self.flags & libc::O_ACCMODE as u32 == libc::O_WRONLY as u32
    }

    fn parse(reader: impl Read) -> io::Result<Self> {
        let mut info = Self::default();
        let mut reader = BufReader::new(reader.take(MAX_FDINFO));
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(info);
            }
            let Ok(text) = std::str::from_utf8(&line) else {
                continue;
            };
            let mut words = text.split_whitespace();
            match (words.next(), words.next()) {
                (Some("flags:"), Some(value)) => {
                    info.flags = u32::from_str_radix(value, 8).unwrap_or(0);
                }
                (Some("tfd:"), Some(value)) => info.watched.extend(value.parse::<i32>()),
                // The kernel prints the counter in hexadecimal (`fs/eventfd.c`).
                (Some("eventfd-count:"), Some(value)) => {
                    info.eventfd_count = u64::from_str_radix(value, 16).ok();
                }
                _ => {}
            }
        }
    }
}

/// What a descriptor stands for.
///
/// # Errors
/// When the process is gone, the descriptor is closed, or looking is not permitted.
pub fn link(pid: Pid, fd: i32) -> Result<FdLink, FdError> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).map_err(|e| error(pid, &e))?;
    Ok(FdLink::parse(&target.to_string_lossy()))
}

/// What fdinfo says of a descriptor.
///
/// # Errors
/// As [`link`].
pub fn info(pid: Pid, fd: i32) -> Result<FdInfo, FdError> {
    File::open(format!("/proc/{pid}/fdinfo/{fd}"))
        .and_then(FdInfo::parse)
        .map_err(|e| error(pid, &e))
}

/// What kind of file a descriptor with a path leads to. Never asks a network file system's server,
/// which may be what hangs the target.
///
/// # Errors
/// As [`link`].
pub fn file_kind(pid: Pid, fd: i32) -> Result<FileKind, FdError> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/fd/{fd}"))
        .map_err(|_| FdError::Other(libc::EINVAL))?;
    let mut buffer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` is a NUL-terminated string and `buffer` has room for one statx.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE,
            buffer.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(error(pid, &io::Error::last_os_error()));
    }
    // SAFETY: all bytes were zeroed, which is a valid statx, and the kernel filled it.
    let mode = unsafe { buffer.assume_init() }.stx_mode;
    Ok(match u32::from(mode) & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFCHR | libc::S_IFBLK => FileKind::Device,
        libc::S_IFIFO => FileKind::Fifo,
        _ => FileKind::Other,
    })
}

/// The descriptors of a process now, at most [`MAX_FDS`].
///
/// # Errors
/// As [`link`].
pub fn list(pid: Pid) -> Result<Vec<i32>, FdError> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(|e| error(pid, &e))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX_FDS)
        .collect())
}

fn error(pid: Pid, error: &io::Error) -> FdError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => {
            // A zombie still has its directory, and no descriptors.
            let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
                stat.rsplit_once(") ")
                    .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
            });
            if zombie {
                FdError::Exited
            } else {
                FdError::Closed
            }
        }
        Some(libc::EACCES | libc::EPERM) => FdError::Denied,
        other => FdError::Other(other.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_apart() {
        assert_eq!(FdLink::parse("socket:[12]"), FdLink::Socket(12));
        assert_eq!(FdLink::parse("pipe:[7]"), FdLink::Pipe(7));
        assert_eq!(
            FdLink::parse("anon_inode:[eventpoll]"),
            FdLink::Anonymous("eventpoll".into())
        );
        assert_eq!(
            FdLink::parse("anon_inode:inotify"),
            FdLink::Anonymous("inotify".into())
        );
        let path = |path: &str, deleted| FdLink::Path {
            path: path.into(),
            deleted,
        };
        assert_eq!(FdLink::parse("/a b (deleted)"), path("/a b", true));
        assert_eq!(FdLink::parse("socket:[x]"), path("socket:[x]", false));
        assert_eq!(FdLink::parse(""), path("", false));
    }

    #[test]
    fn fdinfo_is_parsed_and_rubbish_ignored() {
        let text = b"pos:\t0\nflags:\t02000001\ntfd:   5 events: 1f\ntfd: x\n\xff\ntfd: 9\n\
                    eventfd-count:               1f\n";
        let info = FdInfo::parse(&text[..]).unwrap();
        assert_eq!(info.watched, [5, 9]);
        assert!(info.writes_only());
        assert_eq!(info.eventfd_count, Some(31));
    }

    #[test]
    fn a_closed_descriptor_and_an_exited_process_are_told_apart() {
        let own = Pid(std::process::id());
        assert_eq!(link(own, 1 << 20), Err(FdError::Closed));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid(child.id());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(link(pid, 0), Err(FdError::Exited), "a zombie");
        child.wait().unwrap();
        assert_eq!(link(pid, 0), Err(FdError::Exited));
    }
}
