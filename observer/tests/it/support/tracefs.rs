//! tracefs for an observer, also where it is not mounted: then in a mount namespace of its own.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::ptr;

const ROOT: &str = "/sys/kernel/tracing";

/// Whether it is mounted where observer looks for it.
pub fn mounted() -> bool {
    Path::new(ROOT).join("events/sched").is_dir()
}

/// Why it can not be mounted; `None` when the kernel has it.
pub fn unknown() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\ttracefs")))
        .then(|| "this kernel has no tracefs".to_owned())
}

/// Has the command see tracefs if it can.
pub fn mount_for(command: &mut Command) {
    if mounted() {
        return;
    }
    // SAFETY: between fork and exec only unshare and mount are called, plain system calls.
    unsafe {
        command.pre_exec(|| {
            mount();
            Ok(())
        });
    }
}

fn mount() {
    let none = ptr::null();
    // SAFETY: the strings end in NUL; the other pointers may be null for these calls.
    unsafe {
        // Without the right to do so the observer runs as it is.
        if libc::unshare(libc::CLONE_NEWNS) == 0 {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, private, ptr::null());
            let (root, kind) = (c"/sys/kernel/tracing".as_ptr(), c"tracefs".as_ptr());
            libc::mount(c"none".as_ptr(), root, kind, 0, ptr::null());
        }
    }
}
