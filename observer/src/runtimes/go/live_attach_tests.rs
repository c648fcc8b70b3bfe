//! Attaching to real programs: layouts against debug information, the scheduler against what the runtime
//! counts, unknown versions, containers, and programs that end. See [`super::live_tests`].

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::GoImage;
use super::fixture::{build, go, start};
use super::live_tests::VARIANTS;
use crate::model::census::TaskState;
use crate::model::time::Mono;
use crate::model::{Known, Pid};
use crate::runtimes::{RuntimeImage, TaskReader};
use crate::skips::skip;
use crate::sys::elf::ElfImage;
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

#[test]
fn live_table_agrees_with_debug_information() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("crowd");
    build(&go, "crowd", &[], false, &exe);
    let image = ElfImage::open(&exe).unwrap();
    let version = GoImage::detect(&image).unwrap().version();
    let minor = version
        .known()
        .unwrap()
        .split('.')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let started = Instant::now();
    let found = super::dwarf::offsets(&image.parse().unwrap()).unwrap();
    println!(
        "debug information of Go {version:?} read in {:?}",
        started.elapsed()
    );
    assert_eq!(super::offsets::by_minor(minor), Some(found));
    let elf = image.parse().unwrap();
    if minor >= 20 {
        let found = super::dwarf::sched_offsets(&elf);
        assert_eq!(super::sched::by_minor(minor), found.ok());
    } else {
        // Debug information has the fields, but what they mean is another thing.
        assert!(super::sched::offsets(minor, false, &elf).is_err());
    }
}

/// The scheduler as it is read against what `runtime/metrics` and the program say.
#[test]
fn live_scheduler_agrees_with_what_the_runtime_counts() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let only = std::env::var("OBSERVER_GO_VARIANT").ok();
    let chosen = |name: &str| only.as_deref().is_none_or(|only| only == name);
    for (variant, arguments, cgo) in VARIANTS.iter().filter(|(name, ..)| chosen(name)) {
        // At rest in one form, in each other's way in the others.
        let busy = if *variant == "default" { "0" } else { "6" };
        let flags = ["-procs", "3", "-busy", busy];
        let fixture = start(&go, "schedule", arguments, *cgo, &flags);
        let (mut reader, memory) = fixture.census();
        let census = reader
            .take(&memory, Mono(crate::sys::usage::monotonic_ns()))
            .unwrap();
        let sample = match &census.scheduler {
            Known::Known(sample) => *sample,
            // Not the layout of versions before: said, not guessed.
            Known::Unknown(reason) if reader.process().minor < 20 => {
                println!("{reason}");
                continue;
            }
            Known::Unknown(reason) => panic!("{arguments:?}: {reason}"),
        };
        println!("{arguments:?} {sample:?}");
        assert_eq!((sample.slots, census.slots), (3, Some(3)), "{arguments:?}");
        let process = Process::open(Pid(fixture.child.id())).unwrap();
        let threads = process.threads().unwrap().len() as u32;
        assert!(
            sample.threads.abs_diff(threads) <= 1,
            "{sample:?}, not {threads}"
        );

        let ready = fixture.event("ready").next().unwrap();
        let truth: Vec<u64> = ready["delays"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        let delays = census.delays.as_deref().unwrap();
        assert_eq!(truth.len(), delays.counts.len() + 2);
        // It has gone on since: nothing may be missing, and little may be new.
        for (bucket, (now, then)) in delays.counts.iter().zip(&truth[1..]).enumerate() {
            assert!(
                now >= then,
                "{arguments:?}, bucket {bucket}: {now} < {then}"
            );
        }
        let (now, then) = (delays.count(), truth[1..].iter().sum::<u64>());
        assert!(
            then >= 20 && now - then < 200,
            "{arguments:?}: {then}, {now}"
        );

        let ready = census.count(TaskState::Runnable);
        if busy == "0" {
            assert_eq!((ready, sample.idle_slots), (0, 3), "{sample:?}");
        } else {
            // Six want to run on three Ps, now and always.
            assert_eq!(sample.idle_slots, 0, "{sample:?}");
            assert!((3..=4).contains(&ready), "{ready} {sample:?}");
            let queued = sample.shared_queue + sample.slot_queues;
            assert!((2..=4).contains(&queued), "{ready} {sample:?}");
        }
    }
}

/// Starts a program whose build record claims an unknown version, and tries to read it.
fn attach_as_unknown_version(go: &Path, arguments: &[&str]) -> Known<TaskReader> {
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("crowd");
    build(go, "crowd", arguments, false, &exe);
    let mut bytes = std::fs::read(&exe).unwrap();
    let record = bytes
        .windows(14)
        .position(|w| w == b"\xff Go buildinf:")
        .unwrap();
    assert!(bytes[record + 33..].starts_with(b"go1."));
    bytes[record + 37..record + 39].copy_from_slice(b"99");
    std::fs::write(&exe, bytes).unwrap();
    let mut child = Command::new(&exe)
        .args(["-count", "5"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let process = Process::open(Pid(child.id())).unwrap();
    let image = ElfImage::open(&process.exe_handle()).unwrap();
    let detected = GoImage::detect(&image).unwrap();
    let reader = detected.task_reader(&process, &ProcessMemory::new(process.id.pid));
    child.kill().unwrap();
    child.wait().unwrap();
    reader
}

#[test]
fn live_unknown_versions_are_read_by_their_debug_information_or_refused() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let reader = attach_as_unknown_version(&go, &[]);
    assert!(reader.known().is_some(), "{reader:?}");
    let refused = attach_as_unknown_version(&go, &["-ldflags=-s -w"]);
    let reason = refused.reason().unwrap().to_string();
    println!("{reason}");
    assert!(reason.contains("is not a known version"), "{reason}");
}

#[test]
fn live_containers_see_their_own_thread_ids() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("crowd");
    build(&go, "crowd", &[], false, &exe);
    let spawned = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(&exe)
        .args(["-count", "5"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut outer) = spawned else {
        skip!("no unshare");
    };
    std::thread::sleep(Duration::from_millis(400));
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let inner = std::fs::read_to_string(children).unwrap_or_default();
    if let Ok(pid) = inner.trim().parse() {
        let process = Process::open(Pid(pid)).unwrap();
        let image = ElfImage::open(&process.exe_handle()).unwrap();
        let memory = ProcessMemory::new(process.id.pid);
        let attached = GoImage::detect(&image).unwrap().attach(&process, &memory);
        println!("{:?}", attached.as_ref().map(|a| &a.evidence));
        outer.kill().unwrap();
        outer.wait().unwrap();
        attached.unwrap();
    } else {
        outer.kill().ok();
        outer.wait().unwrap();
        skip!("pid namespaces may not be made here");
    }
}

#[test]
fn live_process_that_ends_is_an_error_and_not_a_crash() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let mut fixture = start(&go, "known_waits", &[], false, &[]);
    let (mut reader, memory) = fixture.census();
    fixture.child.kill().unwrap();
    fixture.child.wait().unwrap();
    let error = reader.take(&memory, Mono(1)).unwrap_err();
    assert!(error.to_string().contains("exited"), "{error}");
}
