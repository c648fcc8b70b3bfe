//! Symbols and debug information that were split from a stripped tokio program name its task types.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::observer;
use crate::support::report::shares;
use crate::support::require::{Need, fixture, require};
use crate::support::truth::{Program, WATCHED};

const WHOLE: &str = "tokio/fat/tokio-fixture";

fn objcopy(args: &[&str], files: &[&Path]) {
    let status = Command::new("objcopy").args(args).args(files).status();
    assert!(status.expect("objcopy runs").success(), "objcopy {args:?}");
}

/// The build id of a file, as `readelf -n` tells it.
fn build_id(file: &Path) -> String {
    let output = Command::new("readelf").arg("-n").arg(file).output();
    let text = String::from_utf8(output.expect("readelf runs").stdout).expect("text");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: "));
    line.expect("a build id").to_owned()
}

/// Observes a stripped program with debug files in `dir`, if given; how many blockers have the name of
/// their type, and how many there are.
fn named(program: &Path, dir: Option<&Path>) -> (usize, usize) {
    let running = Program::start(program.to_str().expect("a path"), &[]);
    let (pid, seconds) = (running.process.pid().to_string(), WATCHED.to_string());
    let mut command = observer::command(&["report", "-p", &pid, "-d", &seconds, "-f", "json"]);
    command.env_remove("OBSERVER_DEBUG_DIR");
    command.envs(dir.map(|dir| ("OBSERVER_DEBUG_DIR", dir)));
    let report = observer::finish(&mut command, Duration::from_secs_f64(WATCHED)).report();
    let truths = running.finish();
    let blockers: Vec<_> = truths
        .iter()
        .filter(|truth| truth.kind == "in_poll")
        .collect();
    let right = blockers.iter().filter(|truth| {
        let expected = format!("tokio_fixture::{}::", truth.function);
        let mine = shares(&report, "tokio_task", truth.id);
        assert!(!mine.is_empty(), "{truth:?}");
        let named = |name: Option<&str>| name.is_some_and(|name| name.starts_with(&expected));
        mine.iter().all(|share| named(share.task["name"].as_str()))
    });
    (right.count(), blockers.len())
}

#[test]
fn by_build_id_and_by_debug_link() {
    require!(Need::Privilege, Need::Objcopy, Need::Fixture(WHOLE));
    let dir = tempfile::tempdir().expect("a directory");
    let whole = fixture(WHOLE);
    let id = build_id(&whole);
    let by_id = dir.path().join("debug/.build-id").join(&id[..2]);
    std::fs::create_dir_all(&by_id).expect("a directory");
    let split = by_id.join(format!("{}.debug", &id[2..]));
    objcopy(&["--only-keep-debug"], &[&whole, &split]);
    let stripped = dir.path().join("stripped");
    objcopy(&["--strip-all"], &[&whole, &stripped]);

    let (right, all) = named(&stripped, None);
    assert_eq!((right, all), (0, 4), "the program is stripped");
    let (right, all) = named(&stripped, Some(&dir.path().join("debug")));
    assert_eq!((right, all), (4, 4), "by build id");

    // A file of that name, but of another program, is not taken.
    let other = dir.path().join("other/.build-id").join(&id[..2]);
    std::fs::create_dir_all(&other).expect("a directory");
    let foreign = fixture("tokio/release/tokio-fixture");
    objcopy(
        &["--only-keep-debug"],
        &[&foreign, &other.join(format!("{}.debug", &id[2..]))],
    );
    let (right, _) = named(&stripped, Some(&dir.path().join("other")));
    assert_eq!(right, 0, "another program's debug file");

    let beside = dir.path().join("beside.debug");
    std::fs::copy(&split, &beside).expect("a copy");
    let linked = dir.path().join("linked");
    let link = format!("--add-gnu-debuglink={}", beside.display());
    objcopy(&[&link], &[&stripped, &linked]);
    let (right, all) = named(&linked, None);
    assert_eq!((right, all), (4, 4), "by debug link");
}
