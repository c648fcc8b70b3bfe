//! The tier `syscalls`: each call is timed and its result is known; waits for the network are seen.

use std::time::Duration;

use serde_json::Value;

use crate::support::observer::{command, finish};
use crate::support::report::{list, number};
use crate::support::require::{Need, require};
use crate::support::truth::{Program, Truth, WATCHED, window};

/// How much totals may differ, as a part.
const TOLERANCE: f64 = 0.05;
/// Calls at the window's ends of which it can not be told whether they are in it.
const AT_THE_ENDS: f64 = 3.0;

fn observe(settings: &[(&str, &str)]) -> (Value, Vec<Truth>, String) {
    let program = Program::start("go/calls", &[]);
    let mut observer = command(&[
        "report",
        "--tier",
        "syscalls",
        "-d",
        &WATCHED.to_string(),
        "-f",
        "json",
        "-p",
        &program.process.pid().to_string(),
    ]);
    observer.envs(settings.iter().copied());
    let done = finish(&mut observer, Duration::from_secs_f64(WATCHED));
    let said = done.stderr.clone();
    (done.report(), program.finish(), said)
}

fn truth<'a>(truths: &'a [Truth], name: &str) -> &'a Truth {
    let found = truths.iter().find(|truth| truth.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {truths:?}"))
}

fn calls<'a>(report: &'a Value, syscall: &str) -> &'a Value {
    let all = list(&report["syscalls"], "calls");
    let found = all.iter().find(|row| row["syscall"] == syscall);
    found.unwrap_or_else(|| panic!("no {syscall} in {all:#?}"))
}

/// The part of a row that one goroutine has.
fn of(row: &Value, goid: u64) -> &Value {
    let found = list(row, "tasks")
        .iter()
        .find(|task| task["kind"] == "goroutine" && task["id"] == goid);
    found.unwrap_or_else(|| panic!("goroutine {goid} is not in {row:#?}"))
}

fn check(settings: &[(&str, &str)]) {
    let (report, truths, said) = observe(settings);
    let (from, to) = window(&report);
    let seen = &report["syscalls"];

    // Every call is accounted for.
    let lost: u64 = seen["lost"]
        .as_object()
        .map_or(0, |lost| lost.values().filter_map(Value::as_u64).sum());
    let accounted: u64 = ["summed", "unfinished", "ended"]
        .iter()
        .map(|part| number(seen, part))
        .sum();
    assert_eq!(number(seen, "entered"), accounted + lost, "{seen:#}");
    assert_eq!(lost, 0, "{seen:#}");

    // Calls of one goroutine: as many as it made, and their results.
    let parent = truth(&truths, "getppid");
    let made = parent.count_within(from, to) as f64;
    let row = calls(&report, "getppid");
    let found = number(of(row, parent.id), "count") as f64;
    println!("getppid: {found} of {made}");
    assert!(
        made > 100.0 && (found - made).abs() <= AT_THE_ENDS,
        "{row:#}"
    );
    let missing = truth(&truths, "missing");
    let made = missing.count_within(from, to) as f64;
    let row = calls(&report, "openat");
    let failed = row["errors"]["ENOENT"].as_f64().unwrap_or_default();
    println!("openat that fails: {failed} of {made}");
    assert!(
        made > 100.0 && (failed - made).abs() <= AT_THE_ENDS,
        "{row:#}"
    );

    // The wait for the network: the goroutine's own measure, by descriptor, with its place.
    let client = truth(&truths, "client");
    let (waited, _) = client.within(from, to);
    let waits = list(seen, "net_waits");
    let wait = waits
        .iter()
        .find(|wait| {
            wait["syscall"] == "read"
                && list(wait, "tasks")
                    .iter()
                    .any(|task| task["id"] == client.id)
        })
        .unwrap_or_else(|| panic!("goroutine {} is not in {waits:#?}", client.id));
    let found = number(of(wait, client.id), "total_ns") as f64;
    println!(
        "network: {:.1} % of {:.3} s",
        found / waited * 100.0,
        waited / 1e9
    );
    assert!(
        (found - waited).abs() <= waited * TOLERANCE,
        "{found} ns instead of {waited} ns: {wait:#}"
    );
    assert_eq!(wait["site"]["function"], "main.readAnswer", "{wait:#}");
    let peer = wait["resource"]["peer"].as_str().unwrap_or_default();
    assert!(peer.starts_with("127.0.0.1:"), "{wait:#}");

    // What it costs everyone is said at the start and in the report.
    assert!(said.contains("every system call on this host"), "{said}");
    let cost = &seen["cost"];
    let ns = |key: &str| cost[key].as_f64().unwrap_or_default();
    assert!(
        ns("without_ns") > 0.0 && ns("with_ns") > ns("without_ns"),
        "{cost}"
    );
}

#[test]
fn each_call_is_timed_and_waits_for_the_network_are_seen() {
    require!(Need::Privilege, Need::Fixture("go/calls"));
    check(&[]);
}

#[test]
fn raw_tracepoints_tell_the_same() {
    require!(Need::Privilege, Need::Fixture("go/calls"));
    check(&[("OBSERVER_EXCLUDE_MECHANISMS", "tp_btf")]);
}

#[test]
fn without_the_tier_nothing_is_said_of_calls() {
    require!(Need::Privilege, Need::Fixture("go/calls"));
    let program = Program::start("go/calls", &[]);
    let report = crate::support::observer::report(program.process.pid(), 0.5, &[]);
    assert!(report.get("syscalls").is_none(), "{report:#}");
    assert_eq!(report["observer"]["tier"], "sched");
}

#[test]
fn waits_for_the_network_without_a_length_are_counted() {
    require!(Need::Privilege, Need::Fixture("native/handover"));
    let program = Program::start("native/handover", &[]);
    let report =
        crate::support::observer::report(program.process.pid(), WATCHED, &["--tier", "syscalls"]);
    let truths = program.finish();
    let (from, to) = window(&report);
    let mut expected = 0.0;
    for kind in ["taken_over", "closed", "twice"] {
        let made = truth(&truths, kind).count_within(from, to) as f64;
        println!("{kind}: {made}");
        assert!(made > 50.0, "{kind}: {made}");
        expected += made;
    }
    // Those of the other kinds are larger than the tolerance each: none may be missing.
    let seen = &report["syscalls"];
    let found = number(seen, "net_waits_untimed") as f64;
    println!("untimed: {found} of {expected}");
    assert!((found - expected).abs() <= 2.0 * AT_THE_ENDS, "{seen:#}");
    // They are waits, not calls: the account of calls does not hold them.
    let accounted: u64 = ["summed", "unfinished", "ended"]
        .iter()
        .map(|part| number(seen, part))
        .sum();
    assert_eq!(number(seen, "entered"), accounted, "{seen:#}");
}

#[test]
fn a_program_that_hands_nothing_over_has_no_such_waits() {
    require!(Need::Privilege, Need::Fixture("native/ping_pong"));
    let program = Program::start("native/ping_pong", &[]);
    let report =
        crate::support::observer::report(program.process.pid(), 1.0, &["--tier", "syscalls"]);
    assert!(number(&report["syscalls"], "entered") > 100, "{report:#}");
    assert_eq!(number(&report["syscalls"], "net_waits_untimed"), 0);
}
