//! A tokio worker's own loop is no task of the program. The program says which tasks it has.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, list, number};
use crate::support::require::{Need, fixture, require};

const LIFE: &str = "6";
const START: Duration = Duration::from_secs(20);

fn start(profile: &str, scenario: &str, workers: &str, victims: &str) -> Running {
    let mut command = Command::new(fixture(&format!("tokio/{profile}/stalls")));
    command.args(["--duration", LIFE, "--scenario", scenario]);
    command.args(["--workers", workers, "--victims", victims]);
    let program = Running::start(&mut command);
    program.event("ready", START);
    program
}

/// Waits and their number, of tasks for which `wanted` holds.
fn waits(report: &Value, wanted: impl Fn(&Value, &Value) -> bool) -> u64 {
    let mut sum = 0;
    for entry in list(report, "blocking") {
        for task in list(entry, "tasks")
            .iter()
            .filter(|task| wanted(entry, task))
        {
            sum += number(task, "count");
        }
    }
    sum
}

fn check(profile: &str) {
    // They want each CPU all the time, so that workers lose theirs anywhere.
    let _rivals: Vec<Running> = (0..3)
        .map(|_| start(profile, "endless", "1", "0"))
        .collect();
    let program = start(profile, "hog", "2", "20");
    let report = observer::report(program.pid(), 3.0, &[]);
    let truths: Vec<u64> = program
        .rest(START)
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"] == "truth")
        .map(|line| number(&line, "task"))
        .collect();
    assert_eq!(truths.len(), 21, "{truths:?}");

    let workers = waits(&report, |entry, task| {
        assert!(
            task["kind"] != "thread" || entry["legality"] != "in_poll",
            "a thread is in no poll: {entry:#}"
        );
        task["kind"] == "thread" && task["name"] == "tokio-rt-worker"
    });
    let others = waits(&report, |_, task| {
        task["kind"] == "tokio_task" && !truths.contains(&number(task, "id"))
    });
    println!("{workers} waits of workers, {others} of tasks that the program does not have");
    assert!(workers > 5, "{:#}", report["blocking"]);
    // Until a worker was first seen to park it is not known which task its loop is in.
    assert!(others <= workers / 4 + 3, "{:#}", report["blocking"]);
    assert!(
        waits(&report, |_, task| truths.contains(&number(task, "id"))) > 20,
        "the program's own tasks wait too: {:#}",
        report["blocking"]
    );
    check_completeness(&report);
}

#[test]
fn a_worker_that_loses_its_cpu_outside_of_polls_is_a_thread() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    check("release");
}

#[test]
fn a_stripped_program_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("tokio/stripped/stalls"));
    check("stripped");
}

/// Seconds for which the fixture `loops` runs, and for which it is observed: over the change of its
/// phases (at half of its life), and not to its end.
const LOOPS_LIFE: &str = "8";
const LOOPS_WATCHED: f64 = 6.0;

/// What the fixture `loops` says at its end.
struct Loops {
    report: Value,
    truth: Value,
}

impl Loops {
    fn observe(profile: &str, args: &[&str], more: &[&str]) -> Self {
        let mut command = Command::new(fixture(&format!("tokio/{profile}/loops")));
        command.args(["--duration", LOOPS_LIFE]).args(args);
        let program = Running::start(&mut command);
        program.event("ready", START);
        let report = observer::report(program.pid(), LOOPS_WATCHED, more);
        let truth = program.event("truth", START);
        Self { report, truth }
    }

    fn truths(&self, key: &str) -> BTreeSet<u64> {
        let all = list(&self.truth, key).iter();
        all.filter_map(Value::as_u64).collect()
    }

    /// Threads of a list of its only runtime.
    fn threads(&self, key: &str) -> BTreeSet<u64> {
        let [group] = list(&self.report, "workers") else {
            panic!("not one runtime: {:#}", self.report["workers"]);
        };
        let all = list(group, key).iter();
        all.map(|worker| number(worker, "tid")).collect()
    }
}

#[test]
fn workers_that_changed_threads_are_counted_once() {
    require!(Need::Privilege, Need::Fixture("tokio/release/loops"));
    let seen = Loops::observe("release", &["--workers", "4", "--hand-over"], &[]);
    let (workers, former) = (seen.threads("workers"), seen.threads("former"));
    let (before, after) = (seen.truths("before"), seen.truths("after"));
    println!(
        "{} workers, {} before; tasks were polled by {}, then by {}",
        workers.len(),
        former.len(),
        before.len(),
        after.len()
    );
    assert!(
        before.len() > 4 && !former.is_empty(),
        "no worker changed threads: {:#}, {:#}",
        seen.truth,
        seen.report["workers"]
    );
    assert_eq!(workers.len() as u64, number(&seen.truth, "workers"));
    // What was polled after the last change was polled by workers, and by all of those that are left.
    assert!(after.is_subset(&workers), "{after:?}, {workers:?}");
    assert!(former.is_subset(&before), "{former:?}, {before:?}");
}

/// Tasks that a text names: `tokio task 7`.
fn named(who: &str, kind: &str) -> Option<u64> {
    who.strip_prefix(kind)?.split(' ').next()?.parse().ok()
}

#[test]
fn what_a_workers_own_loop_does_is_its_threads() {
    require!(Need::Privilege, Need::Fixture("tokio/release/loops"));
    let seen = Loops::observe("release", &["--workers", "3"], &["--tier", "syscalls"]);
    let (tasks, workers) = (seen.truths("tasks"), seen.threads("workers"));
    let waiter = number(&seen.truth, "waiter");

    // Wakers: the timers of the thread that waits are fired by workers between polls.
    let waits = list(&seen.report, "blocking");
    let mine = waits.iter().find(|entry| {
        entry["syscall"] == "futex" && list(entry, "tasks").iter().any(|task| task["id"] == waiter)
    });
    let mine = mine.unwrap_or_else(|| panic!("thread {waiter} is not in {waits:#?}"));
    let (mut by_workers, mut by_tasks) = (0, 0);
    for waker in list(mine, "wakers") {
        let who = waker["task"].as_str().unwrap_or_default();
        if named(who, "thread ").is_some_and(|tid| workers.contains(&tid)) {
            by_workers += number(waker, "count");
        } else if let Some(id) = named(who, "tokio task ") {
            assert!(!tasks.contains(&id), "no task wakes it: {mine:#}");
            by_tasks += number(waker, "count");
        }
    }
    println!("woken by workers {by_workers} times, by launchers {by_tasks} times");
    assert!(by_workers > 100, "{mine:#}");
    // Until a worker was first seen to park it is not known which task its loop is in.
    assert!(by_tasks <= 3, "{mine:#}");

    // System calls: what no task of the program made is a thread's.
    let (mut of_workers, mut of_others, mut of_tasks) = (0, 0, 0);
    for row in list(&seen.report["syscalls"], "calls") {
        for task in list(row, "tasks") {
            let (id, count) = (number(task, "id"), number(task, "count"));
            match task["kind"].as_str() {
                Some("tokio_task") if tasks.contains(&id) => of_tasks += count,
                Some("tokio_task") => of_others += count,
                Some("thread") if workers.contains(&id) => of_workers += count,
                _ => {}
            }
        }
    }
    println!("calls: {of_workers} of workers, {of_tasks} of tasks, {of_others} of launchers");
    assert!(of_workers > 100, "{:#}", seen.report["syscalls"]);
    assert!(of_others <= 10, "{:#}", seen.report["syscalls"]);
    check_completeness(&seen.report);
}
