//! The Go scheduler, read from outside: too few Ps are told from enough, in stripped programs too.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::number;
use crate::support::require::{Need, fixture, require};

/// Observes the fixture with two Ps and so many goroutines that compute; gives its scheduler.
fn scheduler(name: &str, busy: &str) -> Value {
    let program = Running::start(Command::new(fixture(name)).args(["-busy", busy]));
    program.event("ready", Duration::from_secs(20));
    let report = observer::report(program.pid(), 3.0, &[]);
    let scheduler = report["targets"][0]["scheduler"].clone();
    println!("{busy}: {scheduler:#}");
    assert_eq!(scheduler["slots"], 2, "{scheduler:#}");
    assert!(number(&scheduler["inside"], "samples") >= 4);
    scheduler
}

fn check(name: &str) {
    let share = |scheduler: &Value| scheduler["inside"]["starved_share"].as_f64();
    // Eight share two Ps and are moved on after 10 ms: each waits for some tens of milliseconds.
    let starved = scheduler(name, "8");
    assert!(share(&starved).is_some_and(|s| s > 0.9), "{starved:#}");
    let ready = starved["runnable_mean"].as_f64().unwrap_or_default();
    assert!((5.0..=7.0).contains(&ready), "{starved:#}");
    let delay = &starved["delay"];
    assert!(number(delay, "p50_ns") >= 5_000_000, "{starved:#}");
    assert!(delay["long_share"].as_f64() > Some(0.5), "{starved:#}");
    assert!(
        number(&starved, "oldest_ready_ns") >= 5_000_000,
        "{starved:#}"
    );

    let rested = scheduler(name, "0");
    assert_eq!(share(&rested), Some(0.0), "{rested:#}");
    let idle = rested["inside"]["idle_mean"].as_f64().unwrap_or_default();
    assert!(idle > 1.8, "{rested:#}");
    let waiting = rested["netpoll"]["waiting_share"].as_f64();
    assert!(waiting > Some(0.9), "{rested:#}");
}

#[test]
fn goroutines_without_a_p_are_told_from_goroutines_at_rest() {
    require!(Need::Privilege, Need::Fixture("go/schedule"));
    check("go/schedule");
}

#[test]
fn a_stripped_program_tells_its_scheduler_too() {
    require!(Need::Privilege, Need::Fixture("go/schedule-stripped"));
    check("go/schedule-stripped");
}
