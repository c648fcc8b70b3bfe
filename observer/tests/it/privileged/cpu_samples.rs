//! Who computes, by samples, in programs without polls: goroutines by id, at their place.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, functions, list, number};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::unix_ns;

const START: Duration = Duration::from_secs(20);

/// CPU time at each of the times that the program named.
fn progress(lines: &[String]) -> Vec<(u64, u64, u64)> {
    let lines = lines.iter().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["event"] == "progress").then(|| {
            let field = |key| number(&line, key);
            (field("at"), field("cpu_ns"), field("goid"))
        })
    });
    lines.collect()
}

fn check(name: &str) {
    let mut command = Command::new(fixture(name));
    command.args(["-duration", "8s"]);
    let mut program = Running::start(&mut command);
    program.event("ready", START);
    let report = observer::report(program.pid(), 4.0, &[]);
    let lines = program.rest(START);
    assert!(program.exit(START).success(), "{lines:#?}");
    let from = unix_ns(&report["window"]["start"]);
    let to = from + number(&report["window"], "duration_ns");
    let said = progress(&lines);
    let within: Vec<_> = said.iter().filter(|p| (from..=to).contains(&p.0)).collect();
    let (first, last) = (within[0], within[within.len() - 1]);
    // The program speaks ten times a second; what it got at the ends of the window is not known.
    let truth = (last.1 - first.1) as f64 / (last.0 - first.0) as f64 * (to - from) as f64;

    let sites = list(&report["cpu"], "sites");
    let site = sites
        .iter()
        .find(|site| functions(site).first() == Some(&"main.crunch"))
        .unwrap_or_else(|| panic!("crunch is not among {sites:#?}"));
    let task = &list(site, "tasks")[0];
    assert_eq!(task["kind"], "goroutine", "{site:#}");
    assert_eq!(task["id"], first.2, "{site:#}");
    let hz = number(&report["cpu"], "hz") as f64;
    let found = number(task, "samples") as f64 / hz * 1e9;
    println!(
        "{:.0} ms by samples, {:.0} ms by its own clock",
        found / 1e6,
        truth / 1e6
    );
    // The error of n samples is about their square root; three of them, and the ends.
    let slack = 3.0 * (truth / 1e9 * hz).sqrt() / hz * 1e9 + 100e6;
    assert!((found - truth).abs() <= slack, "{found} instead of {truth}");
    let cores = site["cores"].as_f64().unwrap_or_default();
    let share = number(site, "samples") as f64 / hz * 1e9 / (to - from) as f64;
    assert!((cores - share).abs() < 0.01, "{cores} instead of {share}");
    // A goroutine that computes is no fault by itself: there is no rule about it.
    let long = list(&report, "blocking").iter();
    assert_eq!(long.filter(|e| e["cause"] == "long_poll").count(), 0);
    check_completeness(&report);
}

#[test]
fn goroutines_that_compute_are_named() {
    require!(Need::Privilege, Need::Fixture("go/compute"));
    check("go/compute");
}

#[test]
fn goroutines_that_compute_are_named_in_stripped_programs() {
    require!(Need::Privilege, Need::Fixture("go/compute-stripped"));
    check("go/compute-stripped");
}
