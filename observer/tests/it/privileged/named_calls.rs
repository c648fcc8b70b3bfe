//! System calls whose subject is no descriptor: what they were given is named, and where they are called.

use std::process::Command;

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{check_completeness, functions, list, number};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::{Program, Truth, WATCHED, check_function, check_time};

/// The fixture, observed: what it says, what was reported, and where its named pipes are.
fn observe() -> (Vec<Truth>, Value, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut command = Command::new(fixture("native/named_calls"));
    command.args(Program::life().split(' '));
    let program = Program::run(command.arg("--dir").arg(dir.path()));
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    check_completeness(&report);
    (truths, report, dir)
}

fn truth<'a>(truths: &'a [Truth], function: &str) -> &'a Truth {
    let found = truths.iter().find(|truth| truth.function == function);
    found.unwrap_or_else(|| panic!("no {function} in {truths:?}"))
}

#[test]
fn what_openat_waits_for_and_who_calls_vfork_are_named() {
    require!(Need::Privilege, Need::Fixture("native/named_calls"));
    let (truths, report, dir) = observe();
    for (function, name) in [("open_often", "often.fifo"), ("open_never", "never.fifo")] {
        let entry = check_time(&report, "thread", truth(&truths, function));
        check_function(entry, function);
        let path = dir.path().join(name).display().to_string();
        assert_eq!(entry["resource"]["path"], *path, "{entry:#}");
        assert_eq!(entry["resource"]["kind"], "path", "{entry:#}");
        assert!(entry["resource"]["state"].is_null(), "{entry:#}");
    }
    // The second began before the observation.
    let stuck = list(&report, "blocking")
        .iter()
        .find(|entry| functions(entry).contains(&"open_never"));
    let stuck = stuck.expect("it was just checked");
    assert_eq!(stuck["unfinished"]["lower_bound"], true, "{stuck:#}");

    let forking = truth(&truths, "make_child");
    let entry = check_time(&report, "thread", forking);
    assert_eq!(entry["syscall"], "vfork");
    assert_eq!(entry["site"]["function"], "make_child", "{entry:#}");
    assert!(
        functions(entry).contains(&"forker"),
        "its caller follows: {entry:#}"
    );
    assert!(number(entry, "count") > 50, "{entry:#}");
}
