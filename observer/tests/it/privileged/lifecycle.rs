//! Targets that end or become something else, observers that are killed, ways to name targets.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer::{self, observing, run};
use crate::support::report::{list, remarks, shares};
use crate::support::require::{Need, require};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_target_that_exits_ends_the_session_with_a_report() {
    require!(Need::Privilege);
    let target = Running::start(Command::new("sleep").arg("4"));
    let before = Instant::now();
    let report = observer::report(target.pid(), 60.0, &[]);
    assert!(
        before.elapsed() < 20 * SECOND,
        "the session went on without its target"
    );
    assert!(
        !shares(&report, "thread", target.pid().into()).is_empty(),
        "{:#}",
        report["blocking"]
    );
    assert!(
        remarks(&report).contains("exit"),
        "the report does not say that it exited: {}",
        remarks(&report)
    );
}

#[test]
fn a_target_that_becomes_another_program_is_followed() {
    require!(Need::Privilege);
    let target = Running::start(Command::new("sh").args(["-c", "sleep 2; exec sleep 300"]));
    let report = observer::report(target.pid(), 4.0, &[]);
    let sleeping = shares(&report, "thread", target.pid().into());
    assert!(
        sleeping
            .iter()
            .any(|share| share.syscall().contains("nanosleep")),
        "the program after exec is not observed: {:#}",
        report["blocking"]
    );
    assert!(
        remarks(&report).contains("exec"),
        "the report does not say so: {}",
        remarks(&report)
    );
}

#[test]
fn a_killed_observer_leaves_nothing_behind() {
    require!(Need::Privilege);
    let mut target = Running::start(Command::new("sh").args([
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.5; done; echo whole",
    ]));
    let mut observer = observing(&["report", "-d", "60", "-p", &target.pid().to_string()]);
    let own = programs_of(observer.pid());
    assert!(!own.is_empty(), "an observer at work holds programs");
    assert!(own.is_subset(&loaded()), "{own:?} are loaded");

    observer.signal(libc::SIGKILL);
    observer.exit(10 * SECOND);

    // The kernel frees programs a little later, after a grace period.
    let deadline = Instant::now() + 5 * SECOND;
    while !own.is_disjoint(&loaded()) {
        assert!(
            Instant::now() < deadline,
            "{:?} are still loaded",
            &own & &loaded()
        );
        thread::sleep(Duration::from_millis(50));
    }
    target.line("whole", 10 * SECOND);
    assert!(target.exit(10 * SECOND).success(), "the target was harmed");
}

/// Ids of the programs that a process holds, by itself or through links.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .expect("its descriptors")
        .flatten()
    {
        // A descriptor may close meanwhile.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        ids.extend(
            info.lines()
                .filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok()),
        );
    }
    ids
}

/// Ids of all programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    aya::programs::loaded_programs()
        .filter_map(|program| Some(program.ok()?.id()))
        .collect()
}

/// A program of our own name and path that sleeps.
struct Named {
    exe: PathBuf,
    process: Running,
    // Removed after the process has ended: fields are dropped in order.
    _dir: tempfile::TempDir,
}

fn named(name: &str) -> Named {
    let dir = tempfile::tempdir().expect("tempdir");
    let exe = dir.path().join(name);
    let sleep = fs::canonicalize("/bin/sleep").expect("sleep");
    fs::copy(sleep, &exe).expect("copy");
    let process = Running::start(Command::new(&exe).arg("300"));
    Named {
        exe,
        process,
        _dir: dir,
    }
}

fn pids(report: &Value) -> BTreeSet<u64> {
    list(report, "targets")
        .iter()
        .filter_map(|target| target["pid"].as_u64())
        .collect()
}

fn check_targets(args: &[&str], expected: &[&Running]) {
    let args = [&["report", "-d", "1", "-f", "json"], args].concat();
    let report = run(&args, SECOND).report();
    let expected: BTreeSet<u64> = expected
        .iter()
        .map(|process| process.pid().into())
        .collect();
    assert_eq!(pids(&report), expected);
    for &pid in &expected {
        assert!(
            !shares(&report, "thread", pid).is_empty(),
            "{pid} sleeps: {:#}",
            report["blocking"]
        );
    }
}

#[test]
fn several_processes_by_pid() {
    require!(Need::Privilege);
    let (a, b) = (named("observer-it-a"), named("observer-it-b"));
    let (one, other) = (a.process.pid().to_string(), b.process.pid().to_string());
    check_targets(
        &["-p", &format!("{one},{other}")],
        &[&a.process, &b.process],
    );
    check_targets(&["-p", &one, "-p", &other], &[&a.process, &b.process]);
}

#[test]
fn processes_by_name() {
    require!(Need::Privilege);
    let (a, b) = (named("observer-it-c"), named("observer-it-c"));
    let _other = named("observer-it-d");
    check_targets(&["--comm", "observer-it-c"], &[&a.process, &b.process]);
}

#[test]
fn processes_by_executable() {
    require!(Need::Privilege);
    let (a, _other) = (named("observer-it-e"), named("observer-it-e"));
    check_targets(&["--exe", &a.exe.display().to_string()], &[&a.process]);
}

#[test]
fn a_command_is_started_and_observed() {
    require!(Need::Privilege);
    let finished = run(
        &["report", "-d", "30", "-f", "json", "--", "sleep", "2"],
        2 * SECOND,
    );
    let report = finished.report();
    let blocking = list(&report, "blocking");
    let slept = blocking.iter().find(|entry| entry["cause"] == "sleep");
    let slept = slept.unwrap_or_else(|| panic!("sleep is not among blocking: {blocking:#?}"));
    let total = slept["total_ns"].as_u64().unwrap_or_default();
    assert!(
        (1_900_000_000..2_200_000_000).contains(&total),
        "{total} ns of 2 s"
    );
}
