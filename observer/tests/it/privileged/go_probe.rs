//! The probe in Go's runtime: taken out when it is hit too often, gone with the observer, and not put
//! where the code is not known.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::child::Running;
use crate::support::followed::{LONG, Observer, only, start, text, waits};
use crate::support::observer::{command, finish, run};
use crate::support::report::{list, number, remarks};
use crate::support::require::{Need, fixture, require};

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
    let args = ["report", "-p", "1", "--no-delays"];
    run(&args, Duration::ZERO).refused(2, &["--no-delays", "--tier runtime"]);
}
