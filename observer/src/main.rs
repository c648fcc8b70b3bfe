//! The `observer` command.
//!
//! It begins in a `main` of C. Before the one of Rust the standard library opens `/dev/null`, for reading
//! and writing, in place of each standard stream that is closed (`sanitize_standard_fds`, Rust 1.95
//! `library/std/src/sys/pal/unix/mod.rs`). Afterwards nobody can tell a closed standard output, where a
//! report would be lost, from a `/dev/null` that the caller wants: Python and daemons open theirs for
//! both too.
#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::catch_unwind;

use observer::sys::streams;

/// The exit code of a Rust program that panics.
const PANICKED: i32 = 101;

/// Where the C library starts the program.
// SAFETY: the one `main` of this program, with the signature that the C library calls.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    streams::fill_closed();
    // As in any Rust program: a reader that left is an error of `write`, and not the end.
    // SAFETY: no handler is installed, and no other thread runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let arguments: Vec<OsString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: the C library gives `argc` strings that live as long as the process.
            let argument = unsafe { CStr::from_ptr(*argv.add(index)) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        })
        .collect();
    let code = catch_unwind(|| observer::app::main(arguments).code().into()).unwrap_or(PANICKED);
    // Not a return: this also flushes what Rust buffers for standard output.
    std::process::exit(code)
}
