//! Locks of tokio: who waits for them, and who keeps them, when nobody is on a thread.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{list, number, remarks};
use crate::support::require::{Need, require};
use crate::support::truth::{Program, Truth, WATCHED};

const FIXTURE: &str = "tokio/dwarf/async_locks";
/// Tasks that wait for each lock.
const CROWD: f64 = 20.0;

fn ids<'a>(truths: &'a [Truth], roles: &'a [&str]) -> BTreeSet<u64> {
    truths
        .iter()
        .filter(|truth| roles.contains(&&*truth.kind))
        .map(|truth| truth.id)
        .collect()
}

/// The lock that a crowd of the fixture waits for.
fn crowded<'a>(report: &'a Value, kind: &str) -> &'a Value {
    let points = list(report, "meeting_points");
    let crowded = points
        .iter()
        .find(|point| point["kind"] == kind && point["piled_up"] == true);
    crowded.unwrap_or_else(|| panic!("no crowd at a {kind}: {points:#?}"))
}

/// Ids of those who may hold a lock. All are known by a guard in their future.
fn holders(point: &Value) -> BTreeSet<u64> {
    let users = list(point, "users");
    for user in users {
        assert_eq!(user["evidence"], "has_guard", "{user:#}");
    }
    users
        .iter()
        .flat_map(|user| list(user, "ids"))
        .filter_map(Value::as_u64)
        .collect()
}

#[test]
fn who_waits_for_a_lock_and_who_keeps_it_is_told() {
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    let program = Program::start(FIXTURE, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    for (kind, waiter, holder) in [
        ("mutex", "lock_and_count", "slow_holder"),
        ("semaphore", "want_permit", "permit_holder"),
        ("rwmutex", "write_value", "long_reader"),
    ] {
        let point = crowded(&report, kind);
        let side = &point["sides"][0];
        assert!(
            side["mean"]
                .as_f64()
                .is_some_and(|mean| (mean - CROWD).abs() < 0.5),
            "{point:#}"
        );
        let site = side["sites"][0]["site"]["function"].as_str();
        assert!(site.is_some_and(|site| site.contains(waiter)), "{point:#}");
        let waiting = ids(&truths, &[waiter]);
        for id in list(side, "sample_ids").iter().filter_map(Value::as_u64) {
            assert!(waiting.contains(&id), "{id}: {point:#}");
        }
        let found = holders(point);
        assert!(found.is_superset(&ids(&truths, &[holder])), "{point:#}");
        // One that was given back leaves its bytes behind: it may be named, and nobody else.
        assert!(
            found.is_subset(&ids(&truths, &[holder, "gave_back"])),
            "{point:#}"
        );
    }
    // Each of two tasks has what the other one wants; one waits for the end of another that wants its lock.
    let candidates: Vec<&str> = list(&report["wait_graph"], "deadlock_candidates")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(candidates.len(), 2, "{candidates:#?}");
    for role in ["cross", "join"] {
        let circle = ids(&truths, &[role]);
        let names = |text: &&&str| {
            let named = |id: &u64| text.contains(&format!("task {id} "));
            circle.iter().all(named)
        };
        let found = candidates.iter().find(names);
        let text = found.unwrap_or_else(|| panic!("{circle:?}: {candidates:#?}"));
        assert_eq!(
            text.contains(" waits for the end of task "),
            role == "join",
            "{text}"
        );
    }
    // Nothing tells whether a task was polled between two samples.
    let groups = list(&report["census"][0], "groups");
    assert!(groups.iter().all(|group| group.get("oldest_ns").is_none()));
    let tasks: u64 = groups.iter().map(|group| number(group, "count")).sum();
    assert_eq!(tasks, truths.len() as u64, "{groups:#?}");
    // Whose end is waited for has an id.
    let group = groups.iter().find(|group| group["wait_reason"] == "join");
    let group = group.unwrap_or_else(|| panic!("nobody joins: {groups:#?}"));
    let mut ended = ids(&truths, &["join"]);
    for id in list(group, "sample_ids").iter().filter_map(Value::as_u64) {
        assert!(ended.remove(&id), "{group:#}");
    }
    let named: BTreeSet<String> = ended.iter().map(|id| format!("id {id}")).collect();
    let state = group["resource"]["state"].as_str().unwrap_or_default();
    assert!(named.len() == 1 && named.contains(state), "{group:#}");
}

/// The places are in the debug information only; the tasks are listed without it, and that is said.
#[test]
fn without_debug_information_the_reason_is_said() {
    const PLAIN: &str = "tokio/release/async_locks";
    require!(Need::Privilege, Need::Fixture(PLAIN));
    let program = Program::start(PLAIN, &[]);
    let report = observer::report(program.process.pid(), 2.0, &[]);
    let truths = program.finish();
    let groups = list(&report["census"][0], "groups");
    let tasks: u64 = groups.iter().map(|group| number(group, "count")).sum();
    assert_eq!(tasks, truths.len() as u64, "{groups:#?}");
    assert!(list(&report, "meeting_points").is_empty());
    assert!(
        remarks(&report).contains("debug = 2"),
        "{}",
        report["notes"]
    );
}
