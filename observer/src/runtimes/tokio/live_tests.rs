//! The reader against real processes that print their own truth: every thread's task, as read from
//! outside, must be the task that blocks in the system call that the thread is in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::TokioProgram;
use super::{TokioImage, read_task, thread_bases};
use crate::model::{Known, Pid, Tid};
use crate::runtimes::{RuntimeImage, TaskReader};
use crate::sys::elf::ElfImage;
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

/// A running fixture; it is killed (by pid) when the test ends early.
#[derive(Debug)]
pub(super) struct Fixture {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// tid -> TLS base.
    pub(super) bases: BTreeMap<u32, u64>,
    /// task id -> (kind, syscall, function).
    pub(super) tasks: BTreeMap<u64, (String, String, String)>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Fixture {
    pub(super) fn start(program: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut fixture = Self {
            child,
            lines,
            bases: BTreeMap::new(),
            tasks: BTreeMap::new(),
        };
        while fixture.next()["event"] != "ready" {}
        fixture
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        match value["event"].as_str() {
            Some("thread") => {
                let tid = u32::try_from(value["tid"].as_u64().unwrap()).unwrap();
                self.bases.insert(tid, value["fsbase"].as_u64().unwrap());
            }
            Some("task") => {
                let id = value["task"].as_u64().unwrap();
                self.tasks
                    .insert(id, (text("kind"), text("syscall"), text("function")));
            }
            _ => {}
        }
        value
    }

    pub(super) fn process(&self) -> Process {
        Process::open(Pid(self.child.id())).unwrap()
    }
}

/// Builds the fixture in `profile`; the target directory is shared by all profiles.
pub(crate) fn build(profile: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("../target"), PathBuf::from)
        .join("fixtures/tokio");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "-q",
            "-j2",
            "--profile",
            profile,
            "--manifest-path",
        ])
        .arg(root.join("tests/fixtures/tokio/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "the {profile} fixture does not build");
    target.join(profile).join("tokio-fixture")
}

/// x86-64 system call numbers of the calls that the fixture blocks in.
fn name_of(syscall: i64) -> &'static str {
    match syscall {
        0 => "read",
        74 => "fsync",
        202 => "futex",
        232 => "epoll_wait",
        230 => "clock_nanosleep",
        _ => "other",
    }
}

/// Watches a fixture for a while, longer when not all of `expected` were seen; returns the functions seen
/// blocked in their own call.
fn watch(program: &Path, args: &[&str], expected: &BTreeSet<String>) -> BTreeSet<String> {
    let fixture = Fixture::start(program, args);
    let process = fixture.process();
    let memory = ProcessMemory::new(process.id.pid);
    let elf = Arc::new(ElfImage::open(&process.exe_handle()).unwrap());
    let start = Instant::now();
    let image = TokioImage::read(&elf).expect("tokio is found");
    let took = start.elapsed();
    println!("{}: {took:?}", program.display());
    for line in image.evidence() {
        println!("  {line}");
    }
    let program = TokioProgram::detect(&elf, &process).expect("tokio is found");
    let readers = match program.task_reader(&process, &memory) {
        Known::Known(TaskReader::Tokio(readers)) => readers,
        other => panic!("no reader: {other:?}"),
    };
    let [Some(reader), None, ..] = readers.0 else {
        panic!("one copy of tokio expected: {readers:?}");
    };
    println!("  {reader:?}");
    let targets = image.poll_targets(&elf);
    assert_eq!(targets.refused, []);
    let types = image.task_types(&elf);
    if types.iter().any(|t| t.name.known().is_some()) {
        // Every task of the fixture has a type of its own, and no name is given twice by mistake.
        for name in [
            "sleepy_task",
            "fsync_task",
            "lock_task",
            "pipe_task",
            "in_place_task",
        ] {
            let future = format!("tokio_fixture::{name}::{{");
            assert!(
                types.iter().any(|t| t.label().starts_with(&future)),
                "{name}: {types:#?}"
            );
        }
    }
    let named = types.iter().filter(|t| t.name.known().is_some()).count();
    println!(
        "  {} poll targets, {named} of {} types named",
        targets.targets.len(),
        types.len()
    );
    if std::env::var_os("OBSERVER_TOKIO_NAMES").is_some() {
        for t in &types {
            println!(
                "    {} [{:?}] {} {}",
                t.label(),
                t.scheduler,
                t.is_worker,
                t.source
            );
        }
    }
    // The bases found from outside are those that the threads printed.
    let found = thread_bases(&process, &memory);
    assert!(!found.is_empty());
    for thread in &found {
        if let Some(&printed) = fixture.bases.get(&thread.tid.0) {
            assert_eq!(thread.base, printed, "TLS base of {}", thread.tid);
        }
    }
    let mut seen = BTreeSet::new();
    let start = Instant::now();
    let is_over = |seen: &BTreeSet<String>| {
        let least = Duration::from_millis(1500);
        let most = Duration::from_secs(15);
        start.elapsed()
            > if seen.is_superset(expected) {
                least
            } else {
                most
            }
    };
    while !is_over(&seen) {
        for (&tid, &base) in &fixture.bases {
            let before = process.blocked_at(Tid(tid));
            let task = read_task(&reader, base, &memory);
            if before.is_none() || process.blocked_at(Tid(tid)) != before {
                continue;
            }
            let syscall = name_of(before.unwrap().syscall);
            let task = task.unwrap_or_else(|e| panic!("{tid} in {syscall}: {e}"));
            // A worker that waits in its driver or for work is in no poll; our tasks are.
            if let (Some(id), Some(1), "epoll_wait" | "futex") = (task.id, task.entered, syscall) {
                let ours = fixture.tasks.contains_key(&id);
                assert!(task.in_poll != Some(!ours), "{tid} in {syscall}: {task:?}");
            }
            let known = task.id.and_then(|id| fixture.tasks.get(&id));
            let Some((kind, truth, function)) = known else {
                continue;
            };
            // A parked worker runs the launcher's task; a task of ours must be in its own call (or in
            // a lock of the allocator or of stdout, which is rare and short).
            if syscall == truth {
                seen.insert(function.clone());
            }
            // Legal blocking reads as "not entered"; blocking in a poll does not.
            if let (Some(entered), true) = (task.entered, syscall == "clock_nanosleep") {
                assert_eq!(entered == 2, kind == "may_block", "{function} in {syscall}");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

/// The functions that must be seen blocked in their own call.
fn expected(flavor: &str) -> BTreeSet<String> {
    let mut all = vec![
        "sleepy_task",
        "fsync_task",
        "lock_task",
        "pipe_task",
        "blocking_pool_task",
    ];
    if flavor == "multi_thread" {
        all.push("in_place_task");
    }
    all.into_iter().map(ToOwned::to_owned).collect()
}

fn check(profile: &str) {
    let program = build(profile);
    for flavor in ["multi_thread", "current_thread", "local_set"] {
        let expected = expected(flavor);
        let seen = watch(
            &program,
            &["--flavor", flavor, "--duration", "60"],
            &expected,
        );
        assert_eq!(seen, expected, "{profile} {flavor}");
    }
}

#[test]
fn release_tasks_are_read_by_id() {
    check("release");
}

#[test]
fn tasks_of_a_program_with_debug_information_are_read_by_id() {
    check("dwarf");
}

#[test]
fn fat_lto_tasks_are_read_by_id() {
    check("fat");
}

#[test]
fn stripped_tasks_are_read_by_id() {
    check("stripped");
}

/// Prints what is found in the files of `OBSERVER_ELF` (separated by `:`), and how long it takes.
#[test]
#[ignore = "a tool: OBSERVER_ELF=path:path cargo test inspect -- --ignored --nocapture"]
fn inspect() {
    let paths = std::env::var_os("OBSERVER_ELF").expect("OBSERVER_ELF");
    for path in std::env::split_paths(&paths) {
        let elf = ElfImage::open(&path).unwrap();
        let start = Instant::now();
        let found = super::presence(elf.bytes());
        println!(
            "{}: presence in {:?}: {found:?}",
            path.display(),
            start.elapsed()
        );
        let start = Instant::now();
        let Some(image) = TokioImage::read(&elf) else {
            println!("  no tokio, in {:?}", start.elapsed());
            continue;
        };
        println!("  read in {:?}", start.elapsed());
        for line in image.evidence() {
            println!("  {line}");
        }
        println!("  {:?}", image.reader());
        let start = Instant::now();
        let types = image.task_types(&elf);
        println!("  named in {:?}", start.elapsed());
        for t in types.iter().take(40) {
            println!(
                "    {} {:?} {:?} {}",
                t.label(),
                t.scheduler,
                t.name.reason(),
                t.source
            );
        }
        let start = Instant::now();
        let targets = image.poll_targets(&elf);
        println!(
            "  {} targets, refused {:?}, in {:?}",
            targets.targets.len(),
            targets.refused,
            start.elapsed()
        );
    }
}
