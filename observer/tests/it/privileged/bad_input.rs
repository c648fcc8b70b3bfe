//! Bad input: each case has its one line and its exit code, and what was seen is still reported.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::child::Running;
use crate::support::elf32;
use crate::support::observer::{self, Finished, command, finish, run};
use crate::support::report::{remarks, shares};
use crate::support::require::{Need, require};

const SECOND: Duration = Duration::from_secs(1);
const NOBODY: u32 = 65534;

fn sleeper() -> Running {
    Running::start(Command::new("sleep").arg("300"))
}

#[test]
fn no_such_process() {
    require!(Need::Privilege);
    // The largest pid there can be; nobody has it.
    run(&["report", "-d", "1", "-p", "4194303"], SECOND).refused(1, &["4194303", "no process"]);
}

#[test]
fn a_pid_that_is_no_number() {
    let finished = run(&["report", "-d", "1", "-p", "init"], SECOND);
    assert_eq!(finished.code, 2, "{finished:?}");
}

#[test]
fn no_permission() {
    require!(Need::Root);
    let target = sleeper();
    let dir = tempfile::tempdir().expect("tempdir");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
    let exe = dir.path().join("observer");
    fs::copy(env!("CARGO_BIN_EXE_observer"), &exe).expect("copy");
    let mut command = Command::new(exe);
    command
        .args(["report", "-d", "1", "-p", &target.pid().to_string()])
        .uid(NOBODY)
        .gid(NOBODY);
    command
        .current_dir("/")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(&mut command, SECOND).refused(77, &["CAP_"]);
}

#[test]
fn a_pid_namespace_of_its_own() {
    require!(Need::Root);
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(env!("CARGO_BIN_EXE_observer"))
        .args(["report", "-d", "1", "-p", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(&mut command, SECOND).refused(1, &["pid namespace", "hostPID"]);
}

#[test]
fn a_truncated_executable() {
    require!(Need::Privilege);
    let dir = tempfile::tempdir().expect("tempdir");
    let exe = dir.path().join("cut");
    let whole = fs::read(fs::canonicalize("/bin/sleep").expect("sleep")).expect("read");
    fs::write(&exe, without_sections(&whole)).expect("write");
    fs::set_permissions(&exe, Permissions::from_mode(0o755)).expect("chmod");
    let target = Running::start(Command::new(&exe).arg("300"));
    let report = observer::report(target.pid(), 1.0, &[]);
    let found = shares(&report, "thread", target.pid().into());
    assert!(
        !found.is_empty(),
        "its sleep is still seen: {:#}",
        report["blocking"]
    );
}

/// The file up to where its loaded segments end: it runs, but its section table is beyond its end.
fn without_sections(elf: &[u8]) -> &[u8] {
    let word = |at: usize, size: usize| {
        elf[at..at + size]
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | usize::from(byte))
    };
    let (headers, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    let ends = (0..count)
        .map(|index| headers + index * size)
        .map(|at| word(at + 8, 8) + word(at + 32, 8));
    &elf[..ends.max().expect("program headers")]
}

#[test]
fn a_32_bit_process() {
    require!(Need::Privilege, Need::Elf32);
    let dir = tempfile::tempdir().expect("tempdir");
    let target = Running::start(&mut Command::new(elf32::pauses_in(dir.path())));
    let pid = target.pid().to_string();
    let finished = run(&["report", "-d", "1", "-f", "json", "-p", &pid], SECOND);
    if finished.code == 0 {
        let remarks = remarks(&finished.report());
        assert!(
            remarks.contains("32-bit"),
            "the degradation is not stated: {remarks}"
        );
    } else {
        finished.refused(1, &["32-bit"]);
    }
}

#[test]
fn a_full_disk() {
    require!(Need::Privilege);
    let target = sleeper();
    let pid = target.pid().to_string();
    run(
        &["report", "-d", "1", "-p", &pid, "-o", "/dev/full"],
        SECOND,
    )
    .refused(1, &["/dev/full", "space"]);
}

#[test]
fn a_directory_that_is_not_there() {
    require!(Need::Privilege);
    let target = sleeper();
    let pid = target.pid().to_string();
    let finished = run(
        &[
            "report",
            "-d",
            "1",
            "-p",
            &pid,
            "-o",
            "/nonexistent/report.json",
        ],
        SECOND,
    );
    finished.refused(1, &["/nonexistent/report.json"]);
}

#[test]
fn a_closed_stdout() {
    require!(Need::Privilege);
    let target = sleeper();
    let (reader, writer) = io::pipe().expect("pipe");
    drop(reader);
    let mut observer = command(&["report", "-d", "1", "-p", &target.pid().to_string()]);
    let child = observer
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("observer");
    let output = child.wait_with_output().expect("observer ends");
    let finished = Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    finished.refused(1, &["stdout"]);
}
