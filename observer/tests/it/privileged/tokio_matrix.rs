//! Every tokio version, build profile and kind of runtime that docs/tokio.md promises, through the
//! whole command: ids, functions or types, legality, and total times against the program's own.

use std::panic::catch_unwind;

use serde_json::Value;

use super::tokio_blocking::{Names, check_flavor};
use crate::support::observer;
use crate::support::report::{check_completeness, list};
use crate::support::truth::{Program, WATCHED};

/// tokio before this minor version can not be read.
const FIRST: u32 = 23;

/// A version whose tasks can not be read: said with a reason, and threads are named all the same.
fn check_degraded(program: &str) {
    let program = Program::start(program, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    program.finish();
    let target = &report["targets"][0];
    let reason = target["runtime"]["degraded"].as_str().unwrap_or_default();
    assert!(reason.contains("tokio before"), "{target:#}");
    let tasks = list(&report, "blocking")
        .iter()
        .flat_map(|e| list(e, "tasks"));
    let kinds: Vec<&Value> = tasks.map(|task| &task["kind"]).collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|k| *k == "thread"),
        "{kinds:?}"
    );
    check_completeness(&report);
}

/// Each program of the list in `OBSERVER_TOKIO_PROGRAMS` (lines `VERSION PROFILE PATH`).
#[test]
#[ignore = "needs fixtures of many tokio versions: run by `cargo xtask tokio-matrix`"]
fn every_version_and_profile() {
    let list = std::env::var_os("OBSERVER_TOKIO_PROGRAMS").expect("OBSERVER_TOKIO_PROGRAMS");
    let list = std::fs::read_to_string(list).expect("the list of programs");
    let mut failed = Vec::new();
    for line in list.lines() {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        let &[version, profile, program] = words.as_slice() else {
            panic!("{line}");
        };
        let minor = version
            .split_once('.')
            .and_then(|(_, minor)| minor.parse::<u32>().ok());
        let old = minor.expect("a version") < FIRST;
        let names = if matches!(profile, "stripped" | "small") {
            Names::Stripped
        } else {
            Names::Kept
        };
        let flavors: &[&str] = if old {
            &["multi_thread"]
        } else {
            &["multi_thread", "current_thread", "local_set"]
        };
        for flavor in flavors {
            let row = format!("{version:5} {profile:15} {flavor:15}");
            println!("checking {row}");
            let outcome = catch_unwind(|| {
                if old {
                    check_degraded(program);
                } else {
                    check_flavor(program, names, flavor);
                }
            });
            match outcome {
                Ok(()) if old => println!("row {row} ok: threads only, with the reason"),
                Ok(()) => println!("row {row} ok"),
                Err(_) => {
                    println!("row {row} FAILED");
                    failed.push(row);
                }
            }
        }
    }
    assert!(failed.is_empty(), "failing rows:\n{}", failed.join("\n"));
}
