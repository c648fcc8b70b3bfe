//! A wait that began before we came and does not end is seen all the same.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, number, shares};
use crate::support::require::{Need, require};

#[test]
fn a_wait_older_than_the_session_shows_with_a_lower_bound_of_its_age() {
    require!(Need::Privilege);
    let target = Running::start(Command::new("sleep").arg("300"));
    thread::sleep(Duration::from_millis(500));

    let report = observer::report(target.pid(), 2.0, &[]);

    let window = number(&report["window"], "duration_ns");
    let found = shares(&report, "thread", target.pid().into());
    assert_eq!(found.len(), 1, "one wait: {:#}", report["blocking"]);
    let share = &found[0];
    assert!(
        ["clock_nanosleep", "nanosleep"].contains(&share.syscall()),
        "{:#}",
        share.entry
    );
    assert_eq!(share.entry["cause"], "sleep");
    let unfinished = &share.entry["unfinished"];
    assert_eq!(number(unfinished, "count"), 1);
    assert!(
        number(unfinished, "oldest_ns") >= window * 95 / 100,
        "{unfinished} in a window of {window} ns"
    );
    assert_eq!(
        unfinished["lower_bound"], true,
        "it began before the session: {unfinished}"
    );
    assert!(
        share.total_ns().abs_diff(window) <= window / 20,
        "{} ns of {window} ns",
        share.total_ns()
    );
    check_completeness(&report);
}
