//! The syscalls that can block, as x86-64 numbers them, and what a wait in each one means.
//!
//! Source: Linux `arch/x86/entry/syscalls/syscall_64.tbl`.

use super::cause::Cause;

/// Where a syscall's subject is found in its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Argument n is a file descriptor.
    Fd(u8),
    /// Argument n is a futex address.
    Futex(u8),
    /// Argument n is a path.
    Path(u8),
    /// The register of argument 0 holds where it was called: `vfork`, whose return address may not stay on
    /// the stack, which the child uses (glibc 2.36 `sysdeps/unix/sysv/linux/x86_64/vfork.S`).
    Caller,
    /// Nothing to resolve.
    None,
}

/// One syscall that can block.
#[derive(Debug, Clone, Copy)]
pub struct Syscall {
    /// x86-64 number.
    pub nr: u32,
    /// Name without prefix.
    pub name: &'static str,
    /// The cause when the subject does not say better (a read on a socket is `recv`).
    pub cause: Cause,
    /// Where its subject is.
    pub subject: Subject,
}

const fn row(nr: u32, name: &'static str, cause: Cause, subject: Subject) -> Syscall {
    Syscall {
        nr,
        name,
        cause,
        subject,
    }
}

use Cause::{Accept, Connect, Epoll, FileIo, Fsync, Futex, Other, Recv, Send, Sleep};
use Subject::{Fd, None as Nothing, Path};

/// Sorted by number.
pub const SYSCALLS: &[Syscall] = &[
    row(0, "read", FileIo, Fd(0)),
    row(1, "write", FileIo, Fd(0)),
    row(2, "open", FileIo, Path(0)),
    row(3, "close", FileIo, Fd(0)),
    row(4, "stat", FileIo, Path(0)),
    row(5, "fstat", FileIo, Fd(0)),
    row(6, "lstat", FileIo, Path(0)),
    row(7, "poll", Epoll, Nothing),
    row(9, "mmap", Other, Nothing),
    row(10, "mprotect", Other, Nothing),
    row(11, "munmap", Other, Nothing),
    row(16, "ioctl", Other, Fd(0)),
    row(17, "pread64", FileIo, Fd(0)),
    row(18, "pwrite64", FileIo, Fd(0)),
    row(19, "readv", FileIo, Fd(0)),
    row(20, "writev", FileIo, Fd(0)),
    row(23, "select", Epoll, Nothing),
    row(24, "sched_yield", Other, Nothing),
    row(26, "msync", Fsync, Nothing),
    row(28, "madvise", Other, Nothing),
    row(34, "pause", Sleep, Nothing),
    row(35, "nanosleep", Sleep, Nothing),
    row(40, "sendfile", FileIo, Fd(0)),
    row(42, "connect", Connect, Fd(0)),
    row(43, "accept", Accept, Fd(0)),
    row(44, "sendto", Send, Fd(0)),
    row(45, "recvfrom", Recv, Fd(0)),
    row(46, "sendmsg", Send, Fd(0)),
    row(47, "recvmsg", Recv, Fd(0)),
    row(58, "vfork", Other, Subject::Caller),
    row(61, "wait4", Other, Nothing),
    row(65, "semop", Futex, Nothing),
    row(69, "msgsnd", Send, Nothing),
    row(70, "msgrcv", Recv, Nothing),
    row(72, "fcntl", FileIo, Fd(0)),
    row(73, "flock", FileIo, Fd(0)),
    row(74, "fsync", Fsync, Fd(0)),
    row(75, "fdatasync", Fsync, Fd(0)),
    row(76, "truncate", FileIo, Path(0)),
    row(77, "ftruncate", FileIo, Fd(0)),
    row(78, "getdents", FileIo, Fd(0)),
    row(82, "rename", FileIo, Path(0)),
    row(83, "mkdir", FileIo, Path(0)),
    row(87, "unlink", FileIo, Path(0)),
    row(128, "rt_sigtimedwait", Sleep, Nothing),
    row(130, "rt_sigsuspend", Sleep, Nothing),
    row(162, "sync", Fsync, Nothing),
    row(202, "futex", Futex, Subject::Futex(0)),
    row(208, "io_getevents", FileIo, Nothing),
    row(217, "getdents64", FileIo, Fd(0)),
    row(219, "restart_syscall", Other, Nothing),
    row(220, "semtimedop", Futex, Nothing),
    row(230, "clock_nanosleep", Sleep, Nothing),
    row(232, "epoll_wait", Epoll, Fd(0)),
    row(247, "waitid", Other, Nothing),
    row(257, "openat", FileIo, Path(1)),
    row(262, "newfstatat", FileIo, Path(1)),
    row(263, "unlinkat", FileIo, Path(1)),
    row(264, "renameat", FileIo, Path(1)),
    row(270, "pselect6", Epoll, Nothing),
    row(271, "ppoll", Epoll, Nothing),
    row(275, "splice", FileIo, Fd(0)),
    row(277, "sync_file_range", Fsync, Fd(0)),
    row(281, "epoll_pwait", Epoll, Fd(0)),
    row(285, "fallocate", FileIo, Fd(0)),
    row(288, "accept4", Accept, Fd(0)),
    row(295, "preadv", FileIo, Fd(0)),
    row(296, "pwritev", FileIo, Fd(0)),
    row(299, "recvmmsg", Recv, Fd(0)),
    row(306, "syncfs", Fsync, Fd(0)),
    row(307, "sendmmsg", Send, Fd(0)),
    row(316, "renameat2", FileIo, Path(1)),
    row(326, "copy_file_range", FileIo, Fd(0)),
    row(327, "preadv2", FileIo, Fd(0)),
    row(328, "pwritev2", FileIo, Fd(0)),
    row(426, "io_uring_enter", FileIo, Nothing),
    row(437, "openat2", FileIo, Path(1)),
    row(441, "epoll_pwait2", Epoll, Fd(0)),
    row(449, "futex_waitv", Futex, Nothing),
    row(455, "futex_wait", Futex, Subject::Futex(0)),
];

/// Looks a syscall up by its number.
pub fn by_number(nr: u32) -> Option<&'static Syscall> {
    SYSCALLS
        .binary_search_by_key(&nr, |row| row.nr)
        .ok()
        .map(|i| &SYSCALLS[i])
}

/// `futex` operations that wait, without the PRIVATE and CLOCK_REALTIME flags
/// (Linux `include/uapi/linux/futex.h`).
pub fn futex_operation(op: u64) -> &'static str {
    match op & 0x7f {
        0 => "wait",
        6 => "lock_pi",
        9 => "wait_bitset",
        11 => "wait_requeue_pi",
        13 => "lock_pi2",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_lookups_find_every_row() {
        for row in SYSCALLS {
            assert_eq!(by_number(row.nr).map(|r| r.name), Some(row.name));
        }
        assert!(by_number(9999).is_none());
    }
}
