//! Goroutines that block in system calls are named; idle threads of the Go runtime are not.

use std::time::Duration;

use serde_json::Value;

use crate::support::observer::{command, finish};
use crate::support::report::{check_completeness, functions, list, remarks};
use crate::support::require::{Need, require};
use crate::support::tracefs;
use crate::support::truth::{Program, WATCHED, check_function, check_time};

/// Functions of the Go runtime in which its threads wait for work.
const IDLE: &[&str] = &[
    "runtime.sysmon",
    "runtime.stopm",
    "runtime.netpoll",
    "runtime.findRunnable",
    "runtime.mPark",
];

/// The function in which each goroutine of the fixture blocks.
fn function_of(name: &str) -> &'static str {
    match name {
        "read_pipe" => "main.readPipe",
        "nanosleep" => "main.sleepInKernel",
        "fsync" => "main.syncClickLog",
        "flock" => "main.lockFile",
        other => panic!("the fixture has a goroutine that this test does not know: {other}"),
    }
}

/// Observes the fixture, with settings from the environment, and compares.
fn check(fixture: &str, settings: &[(&str, &str)]) -> Value {
    let program = Program::start(fixture, &[]);
    let mut observer = command(&[
        "report",
        "-d",
        &WATCHED.to_string(),
        "-f",
        "json",
        "-p",
        &program.process.pid().to_string(),
    ]);
    observer.envs(settings.iter().copied());
    tracefs::mount_for(&mut observer);
    let report = finish(&mut observer, Duration::from_secs_f64(WATCHED)).report();
    let truths = program.finish();

    assert_eq!(
        report["targets"][0]["runtime"]["kind"], "go",
        "{}",
        report["targets"]
    );
    let blocking: Vec<_> = truths
        .iter()
        .filter(|truth| !matches!(&*truth.syscall, "" | "none"))
        .collect();
    assert!(
        !blocking.is_empty(),
        "the fixture has no blocker: {truths:#?}"
    );
    for truth in blocking {
        let entry = check_time(&report, "goroutine", truth);
        check_function(entry, function_of(&truth.name));
    }
    for entry in list(&report, "blocking") {
        check_not_idle(entry);
    }
    check_completeness(&report);
    report
}

/// Fails when the entry is a thread of the runtime that waits for work.
fn check_not_idle(entry: &Value) {
    let functions = functions(entry);
    let idle = functions
        .iter()
        .find(|function| IDLE.iter().any(|idle| function.starts_with(idle)));
    assert!(
        idle.is_none(),
        "idle thread among blocking ({idle:?}): {entry:#}"
    );
    let cause = entry["cause"].as_str().unwrap_or_default();
    assert!(
        !["epoll", "idle"].contains(&cause),
        "{cause} among blocking: {entry:#}"
    );
}

#[test]
fn every_blocked_goroutine_is_named() {
    require!(Need::Privilege, Need::Fixture("go/blocking"));
    check("go/blocking", &[]);
}

#[test]
fn a_stripped_static_binary_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("go/blocking-stripped"));
    check("go/blocking-stripped", &[]);
}

#[test]
fn a_position_independent_binary_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("go/blocking-pie"));
    check("go/blocking-pie", &[]);
}

#[test]
fn the_perf_event_array_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("go/blocking"));
    check("go/blocking", &[("OBSERVER_TRANSPORT", "perf")]);
}

const EXCLUDED: &str = "OBSERVER_EXCLUDE_MECHANISMS";

#[test]
fn raw_tracepoints_tell_the_same() {
    require!(Need::Privilege, Need::Fixture("go/blocking"));
    check("go/blocking", &[(EXCLUDED, "tp_btf")]);
}

#[test]
fn classic_tracepoints_tell_the_same_and_what_is_off_is_said() {
    require!(Need::Privilege, Need::Tracefs, Need::Fixture("go/blocking"));
    let report = check("go/blocking", &[(EXCLUDED, "tp_btf,raw_tracepoint")]);
    let remarks = remarks(&report);
    assert!(
        remarks.contains("raw_tracepoint: excluded by the user"),
        "{remarks}"
    );
}
