//! What the kernel side counts adds up, also when waits come by the hundred thousand.

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{check_completeness, list, number};
use crate::support::require::{Need, require};
use crate::support::truth::Program;

const SECONDS: f64 = 3.0;
/// Ends that may not be seen, whatever was seen. Some kernels do not report every switch: on one
/// build for small virtual machines the kernel's own trace of sched_switch lacks the same ones (a
/// system thread leaves, the next thread comes, and no event says so). They are counted, and the
/// next wait of the same thread is whole.
const LOST: u64 = 200;
/// Likewise, as a part of what was seen: one in so many.
const LOST_OF: u64 = 2000;

/// Observes a busy fixture and checks its account.
fn check(fixture: &str, args: &[&str]) -> Value {
    let program = Program::start(fixture, args);
    let report = observer::report(program.process.pid(), SECONDS, &[]);
    check_completeness(&report);
    let completeness = &report["completeness"];
    println!("{fixture}: {completeness}");
    let seen = number(completeness, "seen");
    assert!(seen > 1000, "{fixture} is not busy: {completeness}");
    let lost: u64 = completeness["lost"].as_object().map_or(0, |reasons| {
        reasons.values().filter_map(Value::as_u64).sum()
    });
    assert!(
        lost <= LOST.max(seen / LOST_OF),
        "too much is lost: {completeness}"
    );
    report
}

#[test]
fn a_busy_go_program_adds_up() {
    require!(Need::Privilege, Need::Fixture("go/busy"));
    check("go/busy", &[]);
}

#[test]
fn busy_threads_add_up_and_every_wait_is_listed() {
    require!(Need::Privilege, Need::Fixture("native/ping_pong"));
    // Longer than any start of the observer on a busy machine.
    let report = check("native/ping_pong", &["--duration", "30"]);
    let listed: u64 = list(&report, "blocking")
        .iter()
        .map(|entry| number(entry, "count"))
        .sum();
    let completeness = &report["completeness"];
    let kept: u64 = ["aggregated", "emitted", "unfinished"]
        .iter()
        .map(|part| number(completeness, part))
        .sum();
    // No thread of such a program is idle by our rules, so nothing is left out.
    assert_eq!(listed, kept, "{completeness}");
}
