//! Standard streams that are closed, or that nobody can write to. Needs no privileges: where the report
//! can go is looked at before anything else.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::support::child::die_with_the_test;
use crate::support::observer::{Finished, command};

/// Every command that prints to stdout, in both forms where it has two.
const PRINTING: &[&[&str]] = &[
    &["report", "-d", "0.1", "-p", "1"],
    &["report", "-d", "0.1", "-p", "1", "-f", "json"],
    &["report", "-d", "0.1", "-p", "1", "-o", "-"],
    &["ps"],
    &["ps", "-f", "json"],
    &["doctor"],
    &["doctor", "-f", "json"],
];

/// Runs it with these descriptors closed.
fn without(descriptors: &'static [i32], args: &[&str]) -> Finished {
    let mut command = command(args);
    die_with_the_test(&mut command);
    // SAFETY: between fork and exec only close is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for fd in descriptors {
                libc::close(*fd);
            }
            Ok(())
        });
    }
    finish(command.stdout(Stdio::piped()))
}

fn finish(command: &mut Command) -> Finished {
    let child = command.stderr(Stdio::piped()).spawn().expect("observer");
    let output = child.wait_with_output().expect("observer ends");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_closed_stdout_is_a_failure() {
    for args in PRINTING {
        for closed in [&[1][..], &[0, 1]] {
            println!("{args:?} without {closed:?}");
            without(closed, args).refused(1, &["can not write to stdout", "closed"]);
        }
    }
}

#[test]
fn a_stdout_for_reading_only_is_a_failure() {
    for args in PRINTING {
        let null = std::fs::File::open("/dev/null").expect("/dev/null");
        let finished = finish(command(args).stdin(Stdio::null()).stdout(null));
        finished.refused(1, &["can not write to stdout"]);
    }
}

#[test]
fn what_a_wrapper_opens_for_both_takes_the_output() {
    // As Python's subprocess.DEVNULL and daemon(3) do.
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("/dev/null");
    let finished = finish(command(&["ps"]).stdin(Stdio::null()).stdout(null));
    assert_eq!(finished.code, 0, "{finished:?}");
}

#[test]
fn help_and_version_fail_without_stdout() {
    for args in [["--help"], ["--version"]] {
        let finished = without(&[1], &args);
        finished.refused(1, &["can not write to stdout", "closed"]);
    }
}

#[test]
fn a_closed_stderr_leaves_the_exit_code() {
    assert_eq!(without(&[1, 2], &["ps"]).code, 1);
    let finished = without(&[0, 2], &["ps"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.stdout.contains("pid"), "{finished:?}");
}
