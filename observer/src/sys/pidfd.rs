//! A process as a file descriptor: readable when it has exited, and never another process's.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::model::Pid;

/// Opens a process (Linux 5.3).
///
/// # Errors
/// When it does not exist any more.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: plain syscall with two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
