//! tokio in libraries: thread-locals are dynamic there, and a process may hold several copies.

use std::process::Command;

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{Share, check_completeness, list, remarks, shares};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::{Program, Truth, WATCHED, check_time};

const HOST: &str = "native/load_library";
const LIBRARY: &str = "tokio/release/libtokio_fixture_library.so";
const STRIPPED: &str = "tokio/stripped/libtokio_fixture_library.so";

/// Runs a host until its end, observes it, and checks what is said of each copy.
fn check(command: &mut Command, copies: &[bool]) {
    let program = Program::run(command);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    assert_eq!(report["targets"][0]["runtime"]["kind"], "tokio");
    for (number, library) in (1_u64..).zip(copies) {
        let report = of_copy(&report, number);
        let mine: Vec<&Truth> = truths.iter().filter(|t| t.library == *library).collect();
        let of_kind = |kind: &'static str| mine.iter().filter(move |truth| truth.kind == kind);
        assert!(of_kind("in_poll").count() >= 4, "{mine:#?}");
        for truth in of_kind("in_poll") {
            let entry = check_time(&report, "tokio_task", truth);
            assert_eq!(entry["legality"], "in_poll", "{truth:?}: {entry:#}");
        }
        for truth in of_kind("may_block") {
            let legal = shares(&report, "tokio_task", truth.id)
                .into_iter()
                .filter(|share| share.syscall() == truth.syscall)
                .inspect(|share| assert_eq!(share.entry["legality"], "may_block", "{truth:?}"))
                .count();
            assert!(legal > 0, "{truth:?} is not listed");
        }
        for truth in of_kind("in_poll") {
            check_type(&report, truth, *library);
        }
    }
    check_completeness(&report);
}

/// The type's name, from that copy's file, or a label and why.
fn check_type(report: &Value, truth: &Truth, library: bool) {
    let root = if library {
        "tokio_fixture_library::program"
    } else {
        "tokio_fixture"
    };
    let named = format!("{root}::{}::", truth.function);
    for share in shares(report, "tokio_task", truth.id) {
        let name = share.task["name"].as_str().unwrap_or_default();
        let label = name.starts_with("tokio task type 0x")
            && share.task["name_unknown_reason"] == "the file is stripped";
        assert!(
            name.starts_with(&named) || label,
            "{truth:?}: {:#}",
            share.task
        );
    }
}

/// The report with one copy's tasks only.
fn of_copy(report: &Value, number: u64) -> Value {
    let mut report = report.clone();
    let count = list(&report, "blocking").len();
    for index in 0..count {
        if let Some(tasks) = report["blocking"][index]["tasks"].as_array_mut() {
            tasks.retain(|task| task["copy"].as_u64().unwrap_or(1) == number);
        }
    }
    report
}

#[test]
fn in_a_native_host() {
    require!(Need::Privilege, Need::Fixture(HOST), Need::Fixture(LIBRARY));
    let life = Program::life();
    check(
        Command::new(fixture(HOST)).arg(fixture(LIBRARY)).arg(life),
        &[true],
    );
}

#[test]
fn stripped_in_a_native_host() {
    require!(
        Need::Privilege,
        Need::Fixture(HOST),
        Need::Fixture(STRIPPED)
    );
    let arguments = format!("{} --flavor local_set", Program::life());
    let mut host = Command::new(fixture(HOST));
    check(host.arg(fixture(STRIPPED)).arg(arguments), &[true]);
}

#[test]
fn in_python() {
    require!(Need::Privilege, Need::Python, Need::Fixture(LIBRARY));
    let life = Program::life();
    let code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).tokio_fixture(sys.argv[2].encode())";
    let mut python = Command::new("python3");
    check(
        python.args(["-c", code]).arg(fixture(LIBRARY)).arg(life),
        &[true],
    );
}

/// An extension that is loaded while the observation goes on is noticed at the next sweep.
#[test]
fn loaded_during_the_observation() {
    require!(Need::Privilege, Need::Python, Need::Fixture(LIBRARY));
    let code = "import ctypes, sys, time; print('{\"event\":\"begun\"}', flush=True); time.sleep(1); ctypes.CDLL(sys.argv[1]).tokio_fixture(sys.argv[2].encode())";
    let mut command = Command::new("python3");
    command
        .args(["-c", code])
        .arg(fixture(LIBRARY))
        .arg(Program::life());
    let program = Program::run_to(&mut command, "begun");
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    let target = &report["targets"][0];
    assert_eq!(target["runtime"]["kind"], "tokio", "{target:#}");
    assert!(
        remarks(&report).contains("loaded a library with tokio"),
        "{report:#}"
    );
    let blocker = truths.iter().find(|truth| truth.function == "pipe_task");
    let blocker = blocker.expect("the fixture's task");
    let mine = shares(&report, "tokio_task", blocker.id);
    let read: u64 = mine
        .iter()
        .filter(|s| s.syscall() == "read")
        .map(Share::total_ns)
        .sum();
    // It reads for most of the time; the first second is Python's own, the next may pass unseen.
    assert!(read > 1_000_000_000, "{mine:#?}");
    check_type(&report, blocker, true);
    check_completeness(&report);
}

#[test]
fn two_copies_are_told_apart() {
    const FIXTURE: &str = "tokio/release/tokio-fixture";
    require!(
        Need::Privilege,
        Need::Fixture(FIXTURE),
        Need::Fixture(LIBRARY)
    );
    let life = Program::life();
    let mut program = Command::new(fixture(FIXTURE));
    program
        .args(life.split(' '))
        .arg("--library")
        .arg(fixture(LIBRARY));
    check(&mut program, &[false, true]);
}
