//! Tier `runtime` on Go: every wait, delay, creation and end of a goroutine is counted, the probe is
//! taken out when it is hit too often, and nothing is left behind.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer::{command, finish, observing, run};
use crate::support::report::{check_completeness, list, number, remarks};
use crate::support::require::{Need, fixture, require};

const LONG: Duration = Duration::from_mins(1);

/// A fixture that has said `ready`.
fn start(program: &Path, args: &[&str]) -> Running {
    let target = Running::start(Command::new(program).args(args));
    target.event("ready", LONG);
    target
}

/// An observer of some processes, whose report goes to a file.
struct Observer {
    process: Running,
    report: PathBuf,
    _dir: tempfile::TempDir,
}

impl Observer {
    fn of(targets: &[&Running], more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let report = dir.path().join("report.json");
        let pids: Vec<String> = targets.iter().map(|t| t.pid().to_string()).collect();
        let file = report.display().to_string();
        let pids = pids.join(",");
        let args = [
            "report", "-p", &pids, "-d", "120", "-f", "json", "-o", &file,
        ];
        let tier = ["--tier", "runtime"];
        Self {
            process: observing(&[&args[..], &tier[..], more].concat()),
            report,
            _dir: dir,
        }
    }

    /// Ends it and gives its report.
    fn finish(self) -> Value {
        self.process.signal(libc::SIGINT);
        self.ended()
    }

    /// The report of one that ends by itself.
    fn ended(mut self) -> Value {
        assert!(self.process.exit(LONG).success());
        let text = fs::read_to_string(&self.report).expect("the report");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        check_completeness(&report);
        report
    }
}

/// What was followed of the only target.
#[track_caller]
fn only(report: &Value) -> &Value {
    let [one] = list(report, "transitions") else {
        panic!("not one stretch: {:#}", report["transitions"]);
    };
    one
}

/// The rows of a wait reason at a function, counts and times added up.
fn waits(followed: &Value, reason: &str, function: &str) -> (u64, u64) {
    list(followed, "states")
        .iter()
        .filter(|row| row["wait_reason"] == reason && row["site"]["function"] == function)
        .fold((0, 0), |(count, total), row| {
            (
                count + number(row, "count"),
                total + number(row, "total_ns"),
            )
        })
}

fn total(followed: &Value, state: &str) -> u64 {
    list(followed, "states")
        .iter()
        .filter(|row| row["state"] == state)
        .map(|row| number(row, "total_ns"))
        .sum()
}

fn text<'a>(truth: &'a Value, key: &str) -> &'a str {
    truth[key].as_str().unwrap_or_default()
}

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
    // ready too, and run at once.
    assert!(
        found.abs_diff(measured) <= measured / 20,
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

/// Exchanges of the fixture's storm.
const EXCHANGES: u64 = 200_000;

#[test]
fn a_probe_that_is_hit_too_often_is_taken_out() {
    require!(Need::Privilege, Need::Fixture("go/transitions"));
    let program = fixture("go/transitions");
    let target = start(&program, &["storm", &EXCHANGES.to_string()]);
    let observer = Observer::of(&[&target], &["--max-hits", "5000"]);
    assert_eq!(differences(&target, &program).len(), 1, "the probe is in");
    target.signal(libc::SIGUSR1);
    let storm = target.event("storm", LONG);
    target.event("done", LONG);
    assert!(
        differences(&target, &program).is_empty(),
        "the probe is out"
    );
    let report = observer.finish();
    // The target did all that it had to do, and rightly.
    assert_eq!(number(&storm, "exchanges"), EXCHANGES);
    assert_eq!(number(&storm, "sum"), EXCHANGES * (EXCHANGES + 1) / 2);
    let followed = only(&report);
    let reason = text(&followed["detached"], "reason");
    assert!(
        reason.contains("5000 were allowed") && reason.contains("hits per second"),
        "{followed:#}"
    );
    let (from, to) = (number(followed, "from_ns"), number(followed, "to_ns"));
    assert_eq!(number(&followed["detached"], "at_ns"), to);
    assert!(
        from < to && to < number(&report["window"], "duration_ns"),
        "{from} to {to}: {}",
        report["window"]
    );
    // In its time it saw a part of what came, by far not all of it; six changes for each exchange.
    let hits = number(followed, "hits");
    assert!(hits > 2_500 && hits < 6 * EXCHANGES, "{hits} hits");
    assert_eq!(followed["lost"], serde_json::json!({}), "{followed:#}");
    assert_eq!(number(followed, "max_hits_per_s"), 5000);
}

#[test]
fn a_killed_observer_leaves_the_code_as_it_was() {
    require!(Need::Privilege, Need::Fixture("go/transitions-pie"));
    let program = fixture("go/transitions-pie");
    let target = start(&program, &["storm", &EXCHANGES.to_string()]);
    let more = ["--max-hits", "100000000"];
    let mut observer = Observer::of(&[&target], &more);
    assert_eq!(differences(&target, &program).len(), 1, "the probe is in");
    target.signal(libc::SIGUSR1);
    observer.process.signal(libc::SIGKILL);
    observer.process.exit(LONG);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !differences(&target, &program).is_empty() {
        assert!(Instant::now() < deadline, "the probe is still in");
        std::thread::sleep(Duration::from_millis(50));
    }
    let storm = target.event("storm", LONG);
    assert_eq!(number(&storm, "sum"), EXCHANGES * (EXCHANGES + 1) / 2);
}

/// Offsets at which the program's code in memory is not as in its file.
fn differences(target: &Running, program: &Path) -> Vec<u64> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
    let name = program.canonicalize().expect("a path");
    let line = maps
        .lines()
        .find(|line| line.contains("r-xp") && line.ends_with(&name.display().to_string()))
        .unwrap_or_else(|| panic!("no code: {maps}"));
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("hex");
    let (start, end) = fields[0].split_once('-').expect("a range");
    let (start, end, offset) = (hex(start), hex(end), hex(fields[2]));
    let file = File::open(program).expect("the program");
    let size = file.metadata().expect("its size").len();
    let len = (end - start).min(size - offset) as usize;
    let (mut code, mut expected) = (vec![0; len], vec![0; len]);
    file.read_exact_at(&mut expected, offset).expect("its code");
    File::open(format!("/proc/{}/mem", target.pid()))
        .and_then(|memory| memory.read_exact_at(&mut code, start))
        .expect("its memory");
    (0..len)
        .filter(|&i| code[i] != expected[i])
        .map(|i| offset + i as u64)
        .collect()
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

/// A copy of the fixture whose build record names another version.
fn of_version(dir: &Path, version: &str) -> PathBuf {
    let mut bytes = fs::read(fixture("go/transitions-stripped")).expect("the fixture");
    let record = b"\xff Go buildinf:";
    let at = bytes
        .windows(record.len())
        .position(|window| window == record)
        .expect("a build record");
    // Since Go 1.18 the version stands inline, 32 bytes further, with its length before it.
    let length = usize::from(bytes[at + 32]);
    assert_eq!(length, version.len(), "the same length as the real one");
    bytes[at + 33..at + 33 + length].copy_from_slice(version.as_bytes());
    let copy = dir.join("of-version");
    fs::write(&copy, bytes).expect("a copy");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&copy, mode).expect("executable");
    copy
}

#[test]
fn a_program_whose_code_is_not_known_gets_no_probe() {
    require!(Need::Privilege, Need::Fixture("go/transitions-stripped"));
    let dir = tempfile::tempdir().expect("tempdir");
    let program = of_version(dir.path(), "go1.99.9");
    let go = start(&program, &["truth"]);
    let native = Running::start(Command::new("sleep").arg("300"));
    let observer = Observer::of(&[&go, &native], &[]);
    assert!(differences(&go, &program).is_empty(), "no probe is in");
    let report = observer.finish();
    assert_eq!(list(&report, "transitions").len(), 0);
    let remarks = remarks(&report);
    for (pid, why) in [(go.pid(), "1.99"), (native.pid(), "runtime")] {
        let note = remarks
            .lines()
            .find(|line| line.contains(&format!("no probes in pid {pid}")))
            .unwrap_or_else(|| panic!("nothing about {pid}: {remarks}"));
        assert!(note.contains(why), "{note}");
    }
}

#[test]
fn a_program_with_c_code_goes_on_under_the_probe() {
    require!(Need::Privilege, Need::Fixture("go/cgo_call"));
    let program = fixture("go/cgo_call");
    let mut target = Running::start(Command::new(&program).args(["--duration", "3s"]));
    target.event("ready", LONG);
    let observer = Observer::of(&[&target], &[]);
    assert_eq!(differences(&target, &program).len(), 1, "the probe is in");
    assert!(target.exit(LONG).success(), "the target was harmed");
    let report = observer.ended();
    let followed = only(&report);
    assert_eq!(waits(followed, "sleep", "main.main").0, 0, "{followed:#}");
    let slept = list(followed, "states")
        .iter()
        .find(|row| row["wait_reason"] == "sleep")
        .unwrap_or_else(|| panic!("{followed:#}"));
    assert_eq!(slept["site"]["function"], "main.main", "{slept:#}");
    assert_eq!(number(slept, "began_before"), 1, "{slept:#}");
}

#[test]
fn without_the_capability_it_says_which() {
    require!(Need::Privilege, Need::Root, Need::Fixture("go/transitions"));
    let program = fixture("go/transitions");
    let target = start(&program, &["truth"]);
    let pid = target.pid().to_string();
    let limited = |args: &[&str]| {
        let mut command = command(args);
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                const CAP_SYS_ADMIN: libc::c_ulong = 21;
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
                Ok(())
            });
        }
        finish(&mut command, Duration::from_secs(1))
    };
    let args = ["report", "-p", &pid, "-d", "1", "-f", "json"];
    let report = limited(&[&args[..], &["--tier", "runtime"]].concat()).report();
    let remarks = remarks(&report);
    // A kernel may be content with CAP_PERFMON: then the probe is in.
    if list(&report, "transitions").is_empty() {
        assert!(remarks.contains("CAP_SYS_ADMIN"), "{remarks}");
        let doctor = limited(&["doctor", "-p", &pid]).stdout;
        assert!(doctor.contains("cap_sys_admin"), "{doctor}");
    }
    assert!(!list(&report, "targets").is_empty(), "the rest works");
}

#[test]
fn the_budget_needs_the_tier() {
    let args = ["report", "-p", "1", "--max-hits", "5"];
    run(&args, Duration::ZERO).refused(2, &["--max-hits", "--tier runtime"]);
}
