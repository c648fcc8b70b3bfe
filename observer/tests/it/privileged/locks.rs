//! A lock that many wait for: the report says who may hold it and what that one does meanwhile.

use std::process::Command;
use std::time::Duration;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::check_completeness;
use crate::support::require::{Need, fixture, require};

const START: Duration = Duration::from_secs(20);

#[test]
fn a_convoy_names_what_its_holder_waits_for() {
    require!(Need::Privilege, Need::Fixture("go/locks"));
    let program = Running::start(Command::new(fixture("go/locks")).args(["-handlers", "40"]));
    let ready = program.event("ready", START);
    let report = observer::report(program.pid(), 4.0, &[]);
    let point = &report["meeting_points"][0];
    assert_eq!(
        (&point["kind"], &point["address"]),
        (&"mutex".into(), &ready["a"])
    );
    let verdict = report["verdict"].as_str().unwrap_or_default();
    for text in [
        "wait for mutex",
        "main.(*store).update",
        "nanosleep at main.(*store).save",
        "Go does not record who holds a lock",
    ] {
        assert!(verdict.contains(text), "{text:?} is not in: {verdict}");
    }
    check_completeness(&report);
}

#[test]
fn a_deadlock_is_the_headline() {
    require!(Need::Privilege, Need::Fixture("go/locks"));
    let program = Running::start(Command::new(fixture("go/locks")).args(["-mode", "crossed"]));
    program.event("ready", START);
    let report = observer::report(program.pid(), 3.0, &[]);
    let verdict = report["verdict"].as_str().unwrap_or_default();
    assert!(
        verdict.starts_with("Deadlock candidate: goroutine "),
        "{verdict}"
    );
}
