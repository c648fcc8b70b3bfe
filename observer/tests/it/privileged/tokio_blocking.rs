//! Tokio tasks that block their worker are named by id; legal blocking is told apart.

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{Share, check_completeness, list, number, shares};
use crate::support::require::{Need, require};
use crate::support::truth::{Program, Truth, WATCHED, check_function, check_time};

/// Whether the binary has function names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Kept,
    Stripped,
}

fn check(fixture: &str, names: Names) {
    let program = Program::start(fixture, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();

    assert_eq!(
        report["targets"][0]["runtime"]["kind"], "tokio",
        "{}",
        report["targets"]
    );
    let of_kind = |kind: &'static str| truths.iter().filter(move |truth| truth.kind == kind);
    assert!(
        of_kind("in_poll").count() >= 3,
        "too few blockers: {truths:#?}"
    );
    for truth in of_kind("in_poll").filter(|truth| truth.syscall != "none") {
        let entry = check_time(&report, "tokio_task", truth);
        assert_eq!(entry["legality"], "in_poll", "{truth:?}: {entry:#}");
        if names == Names::Kept {
            check_function(entry, function_of(&truth.function));
        }
    }
    of_kind("may_block").for_each(|truth| check_legal(&report, truth));
    of_kind("idle").for_each(|truth| check_absent(&report, truth));
    for entry in list(&report, "blocking") {
        assert_ne!(
            entry["cause"], "idle",
            "idle worker among blocking: {entry:#}"
        );
        // A worker that starts, ends or hands its core over is outside of the runtime for a moment,
        // as its thread-local context says too; a parked driver would be there all the time.
        let moment = entry["legality"] == "may_block"
            && entry["total_ns"].as_u64().is_some_and(|ns| ns < 20_000_000);
        assert!(
            entry["cause"] != "epoll" || moment,
            "parked driver among blocking: {entry:#}"
        );
    }
    check_completeness(&report);
}

/// The function in which each task of the fixture blocks; the task's own body may be inlined.
fn function_of(task: &str) -> &'static str {
    match task {
        "sleepy_task" => "blocking_sleep",
        "fsync_task" => "blocking_fsync",
        "lock_task" => "blocking_lock",
        "pipe_task" => "blocking_read",
        other => panic!("the fixture has a task that this test does not know: {other}"),
    }
}

/// Blocking that tokio allows is listed as such, and never as blocking inside a poll. (The task is
/// polled between its calls, where it may wait for a lock of tokio's or for a CPU.)
fn check_legal(report: &Value, truth: &Truth) {
    let all = shares(report, "tokio_task", truth.id);
    let calls: Vec<&Share<'_>> = all
        .iter()
        .filter(|share| share.syscall() == truth.syscall)
        .collect();
    assert!(!calls.is_empty(), "{truth:?} is not listed: {all:#?}");
    for share in calls {
        assert_eq!(
            share.entry["legality"], "may_block",
            "{truth:?} is legal: {:#}",
            share.entry
        );
    }
}

/// What only waits to be polled is not blocked. While it is polled it may wait for a lock of tokio's
/// or for a CPU: a hundredth of the time at most.
fn check_absent(report: &Value, truth: &Truth) {
    let found = shares(report, "tokio_task", truth.id);
    let total: u64 = found
        .iter()
        .filter(|share| share.entry["cause"] != "run_queue")
        .map(Share::total_ns)
        .sum();
    assert!(
        total <= number(&report["window"], "duration_ns") / 100,
        "{truth:?} waits without blocking: {found:#?}"
    );
}

#[test]
fn release() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/release/tokio-fixture")
    );
    check("tokio/release/tokio-fixture", Names::Kept);
}

#[test]
fn fat_lto() {
    require!(Need::Privilege, Need::Fixture("tokio/fat/tokio-fixture"));
    check("tokio/fat/tokio-fixture", Names::Kept);
}

#[test]
fn stripped() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/stripped/tokio-fixture")
    );
    check("tokio/stripped/tokio-fixture", Names::Stripped);
}
