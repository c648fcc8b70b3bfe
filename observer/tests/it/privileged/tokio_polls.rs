//! Polls of tokio tasks: those that keep their worker, told from samples; every poll and delay, told by
//! probes. The program times its own polls, and its victims their own delays.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, functions, list, number};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::unix_ns;

/// Seconds for which a program runs. Probes take a while to put in and to take out.
const LIFE: f64 = 12.0;
/// Seconds for which it is observed.
const WATCHED: f64 = 3.0;
const START: Duration = Duration::from_secs(20);
const MS: u64 = 1_000_000;

/// What a task says of itself.
#[derive(Debug)]
struct Truth {
    id: u64,
    kind: String,
    /// Each poll: when it began (Unix time), how long it took. Empty when there were too many.
    polls: Vec<[u64; 2]>,
    poll_count: u64,
    /// Each delay from wake-up to poll: when it began, how long it was.
    delays: Vec<[u64; 2]>,
}

/// A stretch of Unix time.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: u64,
    to: u64,
}

impl Stretch {
    /// The window of a report, but for `after` and up to `length`.
    fn of(report: &Value, after: u64, length: u64) -> Self {
        let from = unix_ns(&report["window"]["start"]) + after;
        Self {
            from,
            to: from + length,
        }
    }

    /// Those that began in it.
    fn began<'a>(&self, all: &'a [[u64; 2]]) -> impl Iterator<Item = &'a [u64; 2]> {
        let Self { from, to } = *self;
        all.iter().filter(move |[at, _]| (from..to).contains(at))
    }

    /// How much of them lies in it.
    fn covered(&self, all: &[[u64; 2]]) -> u64 {
        all.iter()
            .map(|[at, ns]| (at + ns).min(self.to).saturating_sub(*(at.max(&self.from))))
            .sum()
    }
}

fn start(profile: &str, args: &[&str]) -> Running {
    let mut command = Command::new(fixture(&format!("tokio/{profile}/stalls")));
    command.args(["--duration", &LIFE.to_string()]).args(args);
    let program = Running::start(&mut command);
    program.event("ready", START);
    program
}

fn finish(mut program: Running) -> Vec<Truth> {
    let lines = program.rest(Duration::from_secs_f64(LIFE) + START);
    assert!(program.exit(START).success(), "it failed: {lines:#?}");
    let truths: Vec<Truth> = lines.iter().filter_map(|line| truth(line)).collect();
    assert!(!truths.is_empty(), "no truth in {lines:#?}");
    truths
}

fn truth(line: &str) -> Option<Truth> {
    let line: Value = serde_json::from_str(line).ok()?;
    let pairs = |key: &str| serde_json::from_value(line[key].clone()).ok();
    (line["event"] == "truth").then(|| Truth {
        id: number(&line, "task"),
        kind: line["kind"].as_str().unwrap_or_default().to_owned(),
        polls: pairs("polls").unwrap_or_default(),
        poll_count: number(&line, "poll_count"),
        delays: pairs("delays").unwrap_or_default(),
    })
}

fn of_kind<'a>(truths: &'a [Truth], kind: &'static str) -> impl Iterator<Item = &'a Truth> {
    truths.iter().filter(move |truth| truth.kind == kind)
}

/// `found` differs from `expected` by no more than a twentieth and `slack`.
#[track_caller]
fn near(found: u64, expected: u64, slack: u64, what: &str) {
    println!("{what}: {found} found, {expected} expected");
    assert!(
        found.abs_diff(expected) <= expected / 20 + slack,
        "{what}: {found} instead of {expected}"
    );
}

/// The long polls of a task in `blocking`.
fn long_poll(report: &Value, id: u64) -> Option<&Value> {
    list(report, "blocking").iter().find(|entry| {
        entry["cause"] == "long_poll"
            && list(entry, "tasks")
                .iter()
                .any(|task| task["kind"] == "tokio_task" && task["id"] == id)
    })
}

/// The bounds of long polls hold the truth.
#[track_caller]
fn check_bounds<'a>(report: &'a Value, truth: &Truth) -> &'a Value {
    let window = Stretch::of(report, 0, number(&report["window"], "duration_ns"));
    let entry = long_poll(report, truth.id)
        .unwrap_or_else(|| panic!("no long poll of {}: {:#}", truth.id, report["blocking"]));
    assert_eq!(entry["legality"], "in_poll");
    let bounds = &entry["long_poll"];
    let covered = window.covered(&truth.polls);
    let (least, most) = (number(bounds, "at_least_ns"), number(bounds, "at_most_ns"));
    println!("{covered} ns of polls, {least} to {most}");
    // Times of day are milliseconds in the report.
    assert!(least <= covered + 5 * MS, "{least} is more than {covered}");
    // A poll that two ticks did not see, for want of a CPU, is not among them.
    let polls = window.began(&truth.polls).count().max(1) as u64;
    let count = number(entry, "count");
    assert!(
        (most + 5 * MS) / count >= covered / polls / 20 * 19,
        "{count} polls of at most {most} ns in all, {polls} of {covered} ns"
    );
    let long = number(bounds, "longest_at_least_ns");
    let upper = bounds["longest_at_most_ns"]
        .as_u64()
        .unwrap_or(u64::MAX - MS);
    assert!(
        truth
            .polls
            .iter()
            .any(|[_, ns]| long <= ns + MS && *ns <= upper + MS),
        "no poll took between {long} and {upper}"
    );
    entry
}

/// Sampling finds each poll of 50 ms.
fn check_sampled(profile: &str, flavor: &str) {
    let program = start(profile, &["--scenario", "hog", "--flavor", flavor]);
    let report = observer::report(program.pid(), WATCHED, &[]);
    let truths = finish(program);
    for truth in of_kind(&truths, "long_poll") {
        let entry = check_bounds(&report, truth);
        let window = Stretch::of(&report, 0, number(&report["window"], "duration_ns"));
        let polls = window.began(&truth.polls).count() as u64;
        near(number(entry, "count"), polls, 4, "long polls");
        if profile != "stripped" {
            assert!(
                functions(entry).iter().any(|name| name.contains("burn")),
                "{:#?}",
                functions(entry)
            );
        }
        let tasks = list(&report["cpu"], "sites").iter();
        let samples: u64 = tasks
            .flat_map(|site| list(site, "tasks"))
            .filter(|task| task["kind"] == "tokio_task" && task["id"] == truth.id)
            .map(|task| number(task, "samples"))
            .sum();
        // The polls compute, but for the time that others take their CPU away.
        let hz = number(&report["cpu"], "hz");
        let most = window.covered(&truth.polls) / (1_000_000_000 / hz);
        assert!(
            samples <= most + most / 10 + 5 && samples >= most / 4,
            "{samples} samples, {most} at most"
        );
    }
    let verdict = report["verdict"].as_str().unwrap_or_default();
    assert!(
        verdict.contains("computes in polls") || verdict.contains("Not enough CPU"),
        "{verdict}"
    );
    check_completeness(&report);
}

#[test]
fn polls_that_compute_are_found_by_samples() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    check_sampled("release", "multi_thread");
}

#[test]
fn polls_that_compute_are_found_in_current_thread_runtimes() {
    require!(Need::Privilege, Need::Fixture("tokio/fat/stalls"));
    check_sampled("fat", "current_thread");
}

#[test]
fn polls_that_compute_are_found_in_stripped_local_sets() {
    require!(Need::Privilege, Need::Fixture("tokio/stripped/stalls"));
    check_sampled("stripped", "local_set");
}

#[test]
fn a_poll_that_computes_and_blocks_is_one() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "mixed"]);
    let report = observer::report(program.pid(), WATCHED, &[]);
    let truths = finish(program);
    for truth in of_kind(&truths, "long_poll") {
        let entry = check_bounds(&report, truth);
        let polls = number(entry, "count");
        // 20 ms of each are a sleep; of one at an end of the window perhaps none.
        let blocked = number(&entry["long_poll"], "blocked_ns");
        assert!(polls > 5 && blocked >= (polls - 2) * 20 * MS, "{entry:#}");
    }
    check_completeness(&report);
}

#[test]
fn a_poll_that_never_ends_is_found() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "endless"]);
    let report = observer::report(program.pid(), WATCHED, &[]);
    let truths = finish(program);
    let truth = of_kind(&truths, "long_poll").next().expect("one task");
    let entry = check_bounds(&report, truth);
    assert_eq!(number(&entry["unfinished"], "count"), 1, "{entry:#}");
    let window = number(&report["window"], "duration_ns");
    let held = number(&entry["long_poll"], "at_least_ns");
    // A switch that the kernel does not show cuts it in two.
    assert!(held >= window / 2, "{held} of {window}");
}

#[test]
fn without_samples_nothing_is_said_of_computing() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "hog"]);
    let report = observer::report(program.pid(), 1.0, &["--no-cpu"]);
    finish(program);
    assert_eq!(report["cpu"], Value::Null);
    let entries = list(&report, "blocking").iter();
    assert_eq!(entries.filter(|e| e["cause"] == "long_poll").count(), 0);
}

/// Every poll and delay, by probes.
fn check_exact(profile: &str, flavor: &str) {
    let program = start(profile, &["--scenario", "hog", "--flavor", flavor]);
    let report = observer::report(program.pid(), WATCHED, &["--tier", "runtime"]);
    let truths = finish(program);
    let [followed] = list(&report, "polls") else {
        panic!("one target is followed: {:#}", report["notes"]);
    };
    assert_eq!(followed["ended_early"], Value::Null);
    let (after, length) = (
        number(followed, "after_ns"),
        number(followed, "duration_ns"),
    );
    let window = Stretch::of(&report, after, length);
    let hog = of_kind(&truths, "long_poll").next().expect("one hog");
    let long = list(followed, "long")
        .iter()
        .find(|task| task["task"]["id"] == hog.id)
        .unwrap_or_else(|| panic!("the hog is not listed: {followed:#}"));
    let polls: Vec<_> = window.began(&hog.polls).copied().collect();
    near(
        number(&long["polls"], "count"),
        polls.len() as u64,
        1,
        "hog's polls",
    );
    // One poll may reach over an end of the window.
    let total = window.covered(&polls);
    near(
        number(&long["polls"], "total_ns"),
        total,
        60 * MS,
        "their time",
    );
    let split: u64 = ["cpu_ns", "lock_ns", "blocked_ns", "run_queue_ns"]
        .iter()
        .map(|part| number(long, part))
        .sum();
    assert_eq!(split, number(&long["polls"], "total_ns"), "{long:#}");

    let sum = |what: &str, field: &str| -> u64 {
        let types = list(followed, "types").iter();
        types.map(|t| number(&t[what], field)).sum()
    };
    let all = |list: fn(&Truth) -> &Vec<[u64; 2]>| -> u64 {
        let counts = truths.iter().map(|t| window.began(list(t)).count() as u64);
        counts.sum()
    };
    near(sum("polls", "count"), all(|t| &t.polls), 10, "polls");
    // Those that reach over the end of the window were not seen to end.
    let delays: Vec<[u64; 2]> = of_kind(&truths, "victim")
        .flat_map(|t| window.began(&t.delays).copied())
        .filter(|[at, ns]| at + ns <= window.to)
        .collect();
    let delayed: u64 = delays.iter().map(|[_, ns]| ns).sum();
    near(
        sum("delays", "total_ns"),
        delayed,
        200 * MS,
        "time of delays",
    );

    for victim in of_kind(&truths, "victim") {
        let mine: Vec<&Value> = list(&report, "victims")
            .iter()
            .filter(|v| v["task"]["id"] == victim.id)
            .collect();
        let long: Vec<_> = window
            .began(&victim.delays)
            .filter(|[_, ns]| *ns >= MS)
            .collect();
        let found = mine.iter().map(|v| number(&v["delays"], "count")).sum();
        near(found, long.len() as u64, 3, "long delays of a victim");
        let worst = mine
            .iter()
            .max_by_key(|v| number(&v["delays"], "total_ns"))
            .unwrap_or_else(|| panic!("{} is no victim: {:#}", victim.id, report["victims"]));
        assert_eq!(worst["behind"], "poll", "{worst:#}");
        assert_eq!(worst["culprit"]["id"], hog.id, "{worst:#}");
    }
    check_completeness(&report);
}

#[test]
fn polls_and_delays_are_exact_with_probes() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    check_exact("release", "multi_thread");
}

#[test]
fn polls_and_delays_are_exact_in_current_thread_runtimes() {
    require!(Need::Privilege, Need::Fixture("tokio/fat/stalls"));
    check_exact("fat", "current_thread");
}

#[test]
fn polls_and_delays_are_exact_in_stripped_local_sets() {
    require!(Need::Privilege, Need::Fixture("tokio/stripped/stalls"));
    check_exact("stripped", "local_set");
}

#[test]
fn probes_that_are_hit_too_often_are_taken_out_and_the_target_lives() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "flood"]);
    let report = observer::report(program.pid(), WATCHED, &["--tier", "runtime"]);
    let truths = finish(program);
    let [followed] = list(&report, "polls") else {
        panic!("one target is followed: {:#}", report["notes"]);
    };
    let why = followed["ended_early"].as_str().unwrap_or_default();
    assert!(why.contains("taken out"), "{followed:#}");
    let length = number(followed, "duration_ns");
    assert!(length < 1_500 * MS, "{length}");
    let flood = of_kind(&truths, "flood").next().expect("one flood");
    // It went on at its own speed afterwards: far more polls than the probes allowed in that time.
    assert!(flood.poll_count > 1_000_000, "{flood:?}");
    check_completeness(&report);
}

/// Polls in the whole window, and delays in none or a part of it; its length is returned.
#[track_caller]
fn check_polls_alone(report: &Value, truths: &[Truth], why: &str) -> u64 {
    let [followed] = list(report, "polls") else {
        panic!("one target is followed: {:#}", report["notes"]);
    };
    assert_eq!(followed["ended_early"], Value::Null, "{followed:#}");
    let reason = followed["delays_ended_early"].as_str().unwrap_or_default();
    assert!(reason.contains(why), "{followed:#}");
    let (after, length) = (
        number(followed, "after_ns"),
        number(followed, "duration_ns"),
    );
    let window = Stretch::of(report, after, length);
    let sum = |what: &str| -> u64 {
        let types = list(followed, "types").iter();
        types.map(|t| number(&t[what], "count")).sum()
    };
    let polls: usize = truths.iter().map(|t| window.began(&t.polls).count()).sum();
    near(sum("polls"), polls as u64, 10, "polls");
    let delays_ns = number(followed, "delays_duration_ns");
    let seen = Stretch::of(report, after, delays_ns);
    let delays: usize = of_kind(truths, "victim")
        .map(|t| seen.began(&t.delays).count())
        .sum();
    // Taking the probes out takes up to a tenth of a second.
    near(sum("delays"), delays as u64, delays as u64 / 2, "delays");
    assert_eq!(followed["waiting"], Value::Null, "{followed:#}");
    check_completeness(report);
    delays_ns
}

#[test]
fn wake_ups_are_given_up_before_polls() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    // 40 tasks that are woken every 7 ms: 5 700 polls per second, and as many wake-ups.
    let args = ["--scenario", "hog", "--workers", "2", "--victims", "40"];
    let program = start("release", &args);
    let more = ["--tier", "runtime", "--max-hits", "7500"];
    let report = observer::report(program.pid(), WATCHED, &more);
    let truths = finish(program);
    let delays_ns = check_polls_alone(&report, &truths, "7500 are allowed");
    assert!((100 * MS..1_500 * MS).contains(&delays_ns), "{delays_ns}");
}

#[test]
fn polls_are_followed_without_their_delays() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "hog"]);
    let more = ["--tier", "runtime", "--no-delays"];
    let report = observer::report(program.pid(), WATCHED, &more);
    let truths = finish(program);
    assert_eq!(check_polls_alone(&report, &truths, "--no-delays"), 0);
    assert!(
        list(&report, "victims").is_empty(),
        "{:#}",
        report["victims"]
    );
}

#[test]
fn a_killed_observer_leaves_a_target_with_probes_alive() {
    require!(Need::Privilege, Need::Fixture("tokio/fat/stalls"));
    let program = start("fat", &["--scenario", "hog"]);
    let pid = program.pid().to_string();
    let args = ["report", "-p", &pid, "-d", "60", "--tier", "runtime"];
    let mut observer = observer::observing(&args);
    std::thread::sleep(Duration::from_millis(300));
    observer.signal(libc::SIGKILL);
    assert!(!observer.exit(START).success());
    let truths = finish(program);
    let hog = of_kind(&truths, "long_poll").next().expect("one hog");
    assert!(hog.poll_count > 40, "{hog:?}");
}

/// When both polls were under way.
fn shared(a: &[[u64; 2]], b: &[[u64; 2]], window: Stretch) -> u64 {
    let mut sum = 0;
    for [at, ns] in a {
        for [other, length] in b {
            let from = (*at).max(*other).max(window.from);
            sum += (at + ns)
                .min(other + length)
                .min(window.to)
                .saturating_sub(from);
        }
    }
    sum
}

#[test]
fn workers_that_are_all_held_at_once_are_told() {
    require!(Need::Privilege, Need::Fixture("tokio/release/stalls"));
    let program = start("release", &["--scenario", "stuck", "--workers", "2"]);
    let report = observer::report(program.pid(), WATCHED, &[]);
    let truths = finish(program);
    let [runtime] = list(&report, "workers") else {
        panic!("one runtime: {:#}", report["workers"]);
    };
    assert_eq!(runtime["kind"], "multi_thread", "{runtime:#}");
    assert_eq!(list(runtime, "workers").len(), 2, "{runtime:#}");
    let length = number(&report["window"], "duration_ns");
    for worker in list(runtime, "workers") {
        let parts = [
            "on_cpu_ns",
            "held_ns",
            "run_queue_ns",
            "idle_ns",
            "other_ns",
        ];
        let sum: u64 = parts.iter().map(|part| number(worker, part)).sum();
        near(sum, length, 50 * MS, "a worker's time");
    }
    let window = Stretch::of(&report, 0, length);
    let mut holders = of_kind(&truths, "long_poll");
    let (a, b) = (holders.next().expect("one"), holders.next().expect("two"));
    let truth = shared(&a.polls, &b.polls, window);
    let found = number(runtime, "all_held_ns");
    println!("{found} ns of {truth}");
    assert!(found <= truth + truth / 20 + 5 * MS, "{found} of {truth}");
    // Of a poll that computes, the time before the first tick and after the last is not known.
    assert!(found >= truth / 4, "{found} of {truth}");
}
