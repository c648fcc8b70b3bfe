//! Tier `runtime` on Go: every wait, delay, creation and end of a goroutine is counted.

use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::followed::{LONG, Observer, only, start, text, total, waits};
use crate::support::report::{list, number};
use crate::support::require::{Need, fixture, require};

/// What the goroutines say of themselves, in the mode `truth`.
struct Said {
    truths: Vec<Value>,
    spawned: Value,
}

/// Has the fixture do what it knows, and listens.
fn said(target: &Running) -> Said {
    target.signal(libc::SIGUSR1);
    let mut truths = Vec::new();
    let mut spawned = Value::Null;
    loop {
        let line = target.line("\"event\":", LONG);
        let event: Value = serde_json::from_str(&line).expect("JSON");
        match text(&event, "event") {
            "truth" => truths.push(event),
            "spawned" => spawned = event,
            "done" => break,
            other => panic!("{other}"),
        }
    }
    assert_eq!(truths.len(), 5, "{truths:#?}");
    Said { truths, spawned }
}

/// A time that goroutines measured is the wait, then the time until they ran again.
#[track_caller]
fn check_time(what: &str, found: u64, measured: u64, delay: u64) {
    let slack = measured / 20;
    assert!(
        found <= measured + slack && found + delay + slack >= measured,
        "{what}: {found} ns, measured {measured} ns, of it at most {delay} ns ready"
    );
}

fn check_said(followed: &Value, said: &Said) {
    assert_eq!(followed["lost"], serde_json::json!({}), "nothing is lost");
    assert!(followed["detached"].is_null(), "{followed:#}");
    let delay = total(followed, "runnable");
    for truth in &said.truths {
        let (reason, function) = (text(truth, "reason"), text(truth, "function"));
        let (mut count, time) = waits(followed, reason, function);
        if !text(truth, "other_function").is_empty() {
            // At each exchange exactly one side waits, which is nearly always this one.
            let other = (text(truth, "other_reason"), text(truth, "other_function"));
            count += waits(followed, other.0, other.1).0;
        }
        let expected = number(truth, "count");
        if reason == "IO wait" {
            // The poller may have news while a goroutine is on its way to wait: it tries again.
            assert!(
                (expected..=expected + 2).contains(&count),
                "{count}: {truth}"
            );
        } else {
            assert_eq!(count, expected, "{truth}\n{:#}", followed["states"]);
        }
        check_time(function, time, number(truth, "total_ns"), delay);
        check_waker(followed, truth);
    }
    check_births(followed, &said.spawned, delay);
    // The times of all states are those of all goroutines: each is in one state at any time.
    let states: u64 = list(followed, "states")
        .iter()
        .map(|row| number(row, "total_ns"))
        .sum();
    let width = number(followed, "to_ns") - number(followed, "from_ns");
    let whole = list(followed, "states")
        .iter()
        .map(|row| number(&row["unfinished"], "count"))
        .sum::<u64>()
        * width;
    let lives: u64 = list(followed, "created")
        .iter()
        .map(|birth| number(&birth["life"], "total_ns"))
        .sum();
    // Those that are alive at the end were so all the time, but for the few that were made.
    let off = states.abs_diff(whole + lives);
    assert!(
        off <= (whole + lives) / 20,
        "{states} ns in states, {whole} + {lives} ns alive"
    );
}

/// Who ends each kind of wait.
fn check_waker(followed: &Value, truth: &Value) {
    let (site, task) = match text(truth, "name") {
        "receive" => (Some("main.send"), None),
        "select" => (Some("main.feed"), None),
        "mutex" => (Some("main.hold"), None),
        "sleep" => (None, Some("timer")),
        "pipe" => (None, Some("network poller")),
        other => panic!("{other}"),
    };
    let function = text(truth, "function");
    let row = list(followed, "states")
        .iter()
        .find(|row| row["site"]["function"] == function && row["wait_reason"] == truth["reason"])
        .unwrap_or_else(|| panic!("no row for {truth}"));
    let waker = &list(row, "wakers")[0];
    assert_eq!(number(waker, "count"), number(row, "count"), "{row:#}");
    match (site, task) {
        (Some(site), _) => assert_eq!(waker["site"], site, "{row:#}"),
        (None, Some(task)) => assert_eq!(waker["task"], task, "{row:#}"),
        (None, None) => unreachable!(),
    }
}

fn check_births(followed: &Value, spawned: &Value, delay: u64) {
    let birth = list(followed, "created")
        .iter()
        .find(|birth| birth["site"]["function"] == spawned["function"])
        .unwrap_or_else(|| panic!("{:#}", followed["created"]));
    let expected = number(spawned, "count");
    assert_eq!(number(birth, "created"), expected);
    assert_eq!(number(birth, "exited"), expected);
    assert_eq!(number(&birth["life"], "count"), expected);
    // They measure from before they are made until before they end.
    let (life, measured) = (
        number(&birth["life"], "total_ns"),
        number(spawned, "life_ns"),
    );
    assert!(
        life.abs_diff(measured) <= measured / 20 + delay,
        "lives of {life} ns, measured {measured} ns"
    );
    let file = text(&birth["site"], "file");
    assert!(file.ends_with("transitions/main.go"), "{birth}");
}

fn check_form(name: &str) {
    let target = start(&fixture(name), &["truth"]);
    let observer = Observer::of(&[&target], &[]);
    let said = said(&target);
    let report = observer.finish();
    assert_eq!(report["observer"]["tier"], "sched+runtime");
    check_said(only(&report), &said);
}

#[test]
fn every_wait_creation_and_end_is_counted() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    check_form("go/transitions");
}

#[test]
fn a_stripped_program_too() {
    require!(Need::Privilege, Need::Fixture("go/transitions-stripped"));
    check_form("go/transitions-stripped");
}

#[test]
fn a_position_independent_program_too() {
    require!(Need::Privilege, Need::Fixture("go/transitions-pie"));
    check_form("go/transitions-pie");
}

#[test]
fn two_targets_that_run_the_same_file_are_told_apart() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    let program = fixture("go/transitions");
    let (one, other) = (start(&program, &["truth"]), start(&program, &["truth"]));
    let bystander = start(&program, &["truth"]);
    let observer = Observer::of(&[&one, &other], &[]);
    let first = said(&one);
    said(&bystander);
    let second = said(&other);
    let report = observer.finish();
    let followed = list(&report, "transitions");
    assert_eq!(followed.len(), 2, "{followed:#?}");
    for (target, said) in [(&one, &first), (&other, &second)] {
        let own = followed.iter().find(|followed| {
            let index = number(followed, "target") as usize;
            list(&report, "targets")[index]["pid"] == target.pid()
        });
        check_said(own.expect("one stretch for each target"), said);
    }
}

#[test]
fn a_goroutine_that_is_ready_but_can_not_run_shows_as_delay() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    let target = start(&fixture("go/transitions"), &["delay"]);
    let observer = Observer::of(&[&target], &[]);
    target.signal(libc::SIGUSR1);
    let truth = target.event("truth", LONG);
    target.event("done", LONG);
    let report = observer.finish();
    let followed = only(&report);
    let delay = &followed["scheduling_delay"];
    let (found, measured) = (number(delay, "total_ns"), number(&truth, "total_ns"));
    // What they measure is the way from before they are made ready until they run; others become
    // ready too, and run at once. But for one of the runtime's own, perhaps: these two hand the only P to each
    // other, so that a third waits until their slice of 10 ms is over (Go `runtime/proc.go`, runqput with next).
    let longest = number(delay, "max_ns");
    let third = if longest > number(&truth, "max_ns") + 5_000_000 {
        longest
    } else {
        0
    };
    assert!(
        (found - third).abs_diff(measured) <= measured / 20,
        "{found} ns, measured {measured} ns: {delay}"
    );
    assert!(number(delay, "count") >= number(&truth, "count"), "{delay}");
    assert!(number(delay, "p99_ns") >= 3_000_000, "{delay}");
    let woken = list(followed, "scheduling_delay_after")
        .iter()
        .find(|part| part["after"] == "woken from a wait")
        .expect("they were woken");
    assert!(number(&woken["delay"], "max_ns") >= 3_000_000, "{woken}");
}

#[test]
fn a_program_that_calls_exec_is_followed_in_two_stretches() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    let target = start(&fixture("go/transitions"), &["again"]);
    let observer = Observer::of(&[&target], &[]);
    target.signal(libc::SIGUSR1);
    target.event("ready", LONG);
    // The observer hears of it at once, and looks at the new program within some tenths of a second.
    std::thread::sleep(Duration::from_secs(2));
    let said = said(&target);
    let report = observer.finish();
    let [before, after] = list(&report, "transitions") else {
        panic!("{:#}", report["transitions"]);
    };
    assert!(
        text(&before["detached"], "reason").contains("exec"),
        "{before:#}"
    );
    assert!(
        waits(before, "chan receive", "main.main").1 > 0,
        "{before:#}"
    );
    check_said(after, &said);
}

#[test]
fn a_program_that_ends_is_reported_until_then() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    let target = start(&fixture("go/transitions"), &["truth"]);
    let observer = Observer::of(&[&target], &[]);
    let said = said(&target);
    target.signal(libc::SIGKILL);
    let report = observer.ended();
    let mut followed = only(&report).clone();
    assert!(
        text(&followed["detached"], "reason").contains("exited"),
        "{followed:#}"
    );
    followed["detached"] = Value::Null;
    check_said(&followed, &said);
}
