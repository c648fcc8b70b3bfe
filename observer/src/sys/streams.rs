//! The standard streams as whoever started the process left them.

use std::os::fd::RawFd;

/// Puts `/dev/null` where standard input, output or error is closed, so that nothing that is opened
/// later takes their numbers. Input and output become read-only: each write to such an output fails,
/// where one to what Rust's own start-up would put there (open for both) vanishes without a trace.
pub fn fill_closed() {
    for (fd, flags) in [
        (libc::STDIN_FILENO, libc::O_RDONLY),
        (libc::STDOUT_FILENO, libc::O_RDONLY),
        (libc::STDERR_FILENO, libc::O_RDWR),
    ] {
        // The lowest free number is taken, which is this one: those below are open by now.
        if is_closed(fd) {
            // SAFETY: the path ends in NUL.
            unsafe { libc::open(c"/dev/null".as_ptr(), flags) };
        }
    }
}

fn is_closed(fd: RawFd) -> bool {
    // SAFETY: plain call with two integers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == -1 }
}
