//! Tokio tasks that block their worker are named by id; legal blocking is told apart.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::observer;
use crate::support::report::{Share, check_completeness, list, number, shares};
use crate::support::require::{Need, require};
use crate::support::truth::{Program, Truth, WATCHED, check_function, check_time};

/// Whether the binary has function names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Kept,
    Stripped,
}

fn check(fixture: &str, names: Names) {
    check_flavor(fixture, names, "multi_thread");
}

/// Observes a fixture with one kind of runtime and compares with what it says of itself.
pub fn check_flavor(fixture: &str, names: Names, flavor: &str) {
    let program = Program::start(fixture, &["--flavor", flavor]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();

    assert_eq!(
        report["targets"][0]["runtime"]["kind"], "tokio",
        "{}",
        report["targets"]
    );
    // Each task of the fixture has a future of its own.
    let mut types = BTreeSet::new();
    let of_kind = |kind: &'static str| truths.iter().filter(move |truth| truth.kind == kind);
    assert!(
        of_kind("in_poll").count() >= 3,
        "too few blockers: {truths:#?}"
    );
    for truth in of_kind("in_poll").filter(|truth| truth.syscall != "none") {
        let entry = check_time(&report, "tokio_task", truth);
        assert_eq!(entry["legality"], "in_poll", "{truth:?}: {entry:#}");
        if names == Names::Kept {
            check_function(entry, function_of(&truth.function));
        }
        let type_name = check_type(&report, truth, names, flavor);
        assert!(types.insert(type_name), "{truth:?} shares another's type");
    }
    of_kind("may_block").for_each(|truth| {
        check_type(&report, truth, names, flavor);
    });
    of_kind("may_block").for_each(|truth| check_legal(&report, truth));
    of_kind("idle").for_each(|truth| check_absent(&report, truth));
    check_listed(&report, &truths, names);
    for entry in list(&report, "blocking") {
        assert_ne!(
            entry["cause"], "idle",
            "idle worker among blocking: {entry:#}"
        );
        // A worker that starts, ends or hands its core over is outside of the runtime for a moment,
        // as its thread-local context says too; a parked driver would be there all the time.
        let moment = entry["legality"] == "may_block"
            && entry["total_ns"].as_u64().is_some_and(|ns| ns < 20_000_000);
        assert!(
            entry["cause"] != "epoll" || moment,
            "parked driver among blocking: {entry:#}"
        );
    }
    check_completeness(&report);
}

/// The runtime's list has every task but those of the blocking pool, each with its type.
fn check_listed(report: &Value, truths: &[Truth], names: Names) {
    let groups: Vec<&Value> = list(report, "census")
        .iter()
        .flat_map(|target| list(target, "groups"))
        .collect();
    let expected: BTreeSet<u64> = truths
        .iter()
        .filter(|truth| {
            matches!(&*truth.kind, "in_poll" | "idle") || truth.function == "in_place_task"
        })
        .map(|truth| truth.id)
        .collect();
    let ids = |group: &Value| -> Vec<u64> {
        list(group, "sample_ids")
            .iter()
            .filter_map(Value::as_u64)
            .collect()
    };
    let listed: BTreeSet<u64> = groups.iter().flat_map(|group| ids(group)).collect();
    assert_eq!(listed, expected, "{groups:#?}");
    let tasks = &report["targets"][0]["tasks"];
    assert!(number(tasks, "seen") >= expected.len() as u64, "{tasks}");
    // All of them in every sample.
    let mean: f64 = groups.iter().filter_map(|g| g["mean"].as_f64()).sum();
    let difference = (mean - expected.len() as f64).abs();
    assert!(difference < 0.3, "{mean} of {expected:?}: {groups:#?}");
    for truth in truths.iter().filter(|truth| expected.contains(&truth.id)) {
        for group in groups.iter().filter(|group| ids(group).contains(&truth.id)) {
            let text = group.to_string();
            let name = match names {
                Names::Kept => format!("tokio_fixture::{}::", truth.function),
                Names::Stripped => "tokio task type 0x".to_owned(),
            };
            assert!(text.contains(&name), "{truth:?}: {group:#}");
            // It is woken now and then, and may have to wait for its turn behind those that block.
            if truth.kind == "idle" && group["state"] == "waiting" {
                assert_eq!(group["nature"], "blocked", "{group:#}");
            }
        }
    }
}

/// The task's type is named wherever it blocks, or has a label of its own and a reason. Gives it.
fn check_type(report: &Value, truth: &Truth, names: Names, flavor: &str) -> String {
    let mine = shares(report, "tokio_task", truth.id);
    let name = |share: &Share<'_>| {
        let name = share.task["name"].as_str();
        name.unwrap_or_else(|| panic!("{truth:?} has no type: {:#}", share.task))
            .to_owned()
    };
    let own: Vec<String> = mine.iter().map(name).collect();
    let first = own.first().unwrap_or_else(|| panic!("no share: {truth:?}"));
    assert!(own.iter().all(|other| other == first), "{truth:?}: {own:?}");
    let pool = truth.function == "blocking_pool_task";
    for share in &mine {
        let scheduler = share.task["scheduler"].as_str();
        let reason = share.task["name_unknown_reason"].as_str();
        match names {
            Names::Kept => {
                let function = if pool { "start_tasks" } else { &truth.function };
                let future = format!("tokio_fixture::{function}::");
                assert!(first.starts_with(&future), "{truth:?}: {first}");
                let expected = if pool { "blocking_pool" } else { flavor };
                assert_eq!(scheduler, Some(expected), "{truth:?}");
                assert_eq!(reason, None, "{truth:?}");
            }
            Names::Stripped => {
                assert!(
                    first.starts_with("tokio task type 0x"),
                    "{truth:?}: {first}"
                );
                assert!(reason.is_some_and(|r| r.contains("stripped")), "{reason:?}");
                assert_eq!(scheduler == Some("blocking_pool"), pool, "{truth:?}");
            }
        }
    }
    first.clone()
}

/// The function in which each task of the fixture blocks; the task's own body may be inlined.
fn function_of(task: &str) -> &'static str {
    match task {
        "sleepy_task" => "blocking_sleep",
        "fsync_task" => "blocking_fsync",
        "lock_task" => "blocking_lock",
        "pipe_task" => "blocking_read",
        other => panic!("the fixture has a task that this test does not know: {other}"),
    }
}

/// Blocking that tokio allows is listed as such, and never as blocking inside a poll. (The task is
/// polled between its calls, where it may wait for a lock of tokio's or for a CPU.)
fn check_legal(report: &Value, truth: &Truth) {
    let all = shares(report, "tokio_task", truth.id);
    let calls: Vec<&Share<'_>> = all
        .iter()
        .filter(|share| share.syscall() == truth.syscall)
        .collect();
    assert!(!calls.is_empty(), "{truth:?} is not listed: {all:#?}");
    for share in calls {
        assert_eq!(
            share.entry["legality"], "may_block",
            "{truth:?} is legal: {:#}",
            share.entry
        );
    }
}

/// What only waits to be polled is not blocked. While it is polled it may wait for a lock of tokio's
/// or for a CPU: a hundredth of the time at most.
fn check_absent(report: &Value, truth: &Truth) {
    let found = shares(report, "tokio_task", truth.id);
    let total: u64 = found
        .iter()
        .filter(|share| share.entry["cause"] != "run_queue")
        .map(Share::total_ns)
        .sum();
    assert!(
        total <= number(&report["window"], "duration_ns") / 100,
        "{truth:?} waits without blocking: {found:#?}"
    );
}

#[test]
fn release() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/release/tokio-fixture")
    );
    check("tokio/release/tokio-fixture", Names::Kept);
}

#[test]
fn fat_lto() {
    require!(Need::Privilege, Need::Fixture("tokio/fat/tokio-fixture"));
    check("tokio/fat/tokio-fixture", Names::Kept);
}

/// Not optimized: the fields of the thread-local context come from debug information.
#[test]
fn debug_build() {
    require!(Need::Privilege, Need::Fixture("tokio/debug/tokio-fixture"));
    check("tokio/debug/tokio-fixture", Names::Kept);
}

/// Nor with debug information: from the table of layouts and the thread-locals' initial values.
#[test]
fn debug_build_without_debug_information() {
    require!(Need::Privilege, Need::Fixture("tokio/plain/tokio-fixture"));
    check("tokio/plain/tokio-fixture", Names::Kept);
}

#[test]
fn stripped() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/stripped/tokio-fixture")
    );
    check("tokio/stripped/tokio-fixture", Names::Stripped);
}

/// Built for size: polls name no thread-local themselves.
#[test]
fn small() {
    require!(Need::Privilege, Need::Fixture("tokio/small/tokio-fixture"));
    check("tokio/small/tokio-fixture", Names::Stripped);
}

/// Another C library: thread-locals lie elsewhere, and its functions have no unwind tables.
#[test]
fn static_with_musl() {
    const FIXTURE: &str = "tokio-musl/x86_64-unknown-linux-musl/release/tokio-fixture";
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    check(FIXTURE, Names::Kept);
}

#[test]
fn static_with_musl_stripped() {
    const FIXTURE: &str = "tokio-musl/x86_64-unknown-linux-musl/stripped/tokio-fixture";
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    check(FIXTURE, Names::Stripped);
}

/// The oldest version whose tasks are read: another form of the id, other offsets.
#[test]
fn oldest_version_stripped() {
    const FIXTURE: &str = "tokio-versions/1.23/stripped/tokio-fixture";
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    check(FIXTURE, Names::Stripped);
}

#[test]
fn spawn_locations_are_those_of_the_program() {
    const FIXTURE: &str = "tokio-unstable/stripped/tokio-fixture";
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    let program = Program::start(FIXTURE, &[]);
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truths = program.finish();
    let blocking: Vec<&Truth> = truths
        .iter()
        .filter(|truth| !truth.spawned_at.is_empty() && truth.kind != "idle")
        .collect();
    assert!(blocking.len() >= 6, "{truths:#?}");
    for truth in blocking {
        for share in shares(&report, "tokio_task", truth.id) {
            assert_eq!(share.task["created_by"], truth.spawned_at, "{truth:?}");
        }
        check_legal_or_not(&report, truth);
    }
}

/// A task that was told by its header has its time, too.
fn check_legal_or_not(report: &Value, truth: &Truth) {
    if truth.kind == "in_poll" {
        check_time(report, "tokio_task", truth);
    } else {
        check_legal(report, truth);
    }
}

/// Futures that opted out of the budget block in the very system calls in which the runtime parks. Where
/// the runtime's own loop is in no task they are told from it.
fn check_unconstrained(flavor: &str) {
    let program = Program::start(
        "tokio/release/tokio-fixture",
        &["--flavor", flavor, "--unconstrained"],
    );
    let report = observer::report(program.process.pid(), WATCHED, &["--tier", "syscalls"]);
    let truths = program.finish();
    let free: Vec<&Truth> = truths.iter().filter(|t| t.kind == "free").collect();
    assert_eq!(free.len(), 2, "{truths:?}");
    for truth in &free {
        let entry = check_time(&report, "tokio_task", truth);
        let function = match &*truth.syscall {
            "futex" => "blocking_condition",
            _ => "blocking_epoll",
        };
        check_function(entry, function);
        // The tier `syscalls` names who called as well.
        let rows = list(&report["syscalls"], "calls").iter();
        let calls: u64 = rows
            .filter(|row| row["syscall"] == *truth.syscall)
            .flat_map(|row| list(row, "tasks"))
            .filter(|task| task["kind"] == "tokio_task" && task["id"] == truth.id)
            .map(|task| number(task, "count"))
            .sum();
        assert!(calls > 20, "{truth:?}: {:#}", report["syscalls"]);
    }
    // The loop itself is idle as ever.
    for entry in list(&report, "blocking") {
        let own = list(entry, "tasks").iter().all(|task| {
            let id = task["id"].as_u64();
            free.iter().any(|truth| Some(truth.id) == id)
        });
        assert!(
            entry["cause"] != "epoll" || own,
            "parked driver among blocking: {entry:#}"
        );
    }
    check_completeness(&report);
}

#[test]
fn unconstrained_futures_of_a_current_thread_runtime_are_not_taken_for_idle() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/release/tokio-fixture")
    );
    check_unconstrained("current_thread");
}

#[test]
fn unconstrained_futures_of_a_local_set_are_not_taken_for_idle() {
    require!(
        Need::Privilege,
        Need::Fixture("tokio/release/tokio-fixture")
    );
    check_unconstrained("local_set");
}
