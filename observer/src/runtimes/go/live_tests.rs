//! The census on real programs, compared with what they say of themselves. `OBSERVER_GO` names
//! another Go toolchain's `go`; without any Go the tests are skipped and say so.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{Fixture, go, start};
use super::{GoCensus, GoImage, GoSymbols, transitions, waitreason};
use crate::model::census::{
    Census, CensusTask, CensusTracker, Direction, TaskState, WaitKind, WaitsOn,
};
use crate::model::time::Mono;
use crate::model::{Cause, Known, Pid};
use crate::runtimes::CodeReader;
use crate::skips::skip;
use crate::sys::elf::ElfImage;
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

/// How a fixture is built: a name, and arguments for `go build`, and whether cgo is on.
pub(super) const VARIANTS: &[(&str, &[&str], bool)] = &[
    ("default", &[], false),
    ("stripped", &["-ldflags=-s -w"], false),
    ("pie", &["-buildmode=pie"], false),
    ("pie_stripped", &["-buildmode=pie", "-ldflags=-s -w"], false),
    ("cgo", &["-ldflags=-linkmode=external"], true),
    (
        "cgo_pie_stripped",
        &["-buildmode=pie", "-ldflags=-linkmode=external -s -w"],
        true,
    ),
];

/// A census without torn tasks; a busy machine may need a few tries.
fn whole(census: &mut GoCensus, memory: ProcessMemory) -> Census {
    for _ in 0..20 {
        let taken = census.take(&memory, Mono(1)).unwrap();
        if taken.figures.torn == 0 {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("every census was torn");
}

fn function_names(
    symbols: &GoSymbols,
    bias: u64,
    census: &Census,
    task: &CensusTask,
) -> Vec<String> {
    let stack = task.stack.map(|id| census.stack(id)).unwrap_or_default();
    let name = |pc: &u64| symbols.function_name(pc - bias).unwrap_or("?").to_owned();
    stack.iter().map(name).collect()
}

fn check_known_waits(go: &Path, variant: &str, arguments: &[&str], cgo: bool) {
    let fixture = start(go, "known_waits", arguments, cgo, &[]);
    let (mut reader, memory) = fixture.census();
    // The second one reuses what the first found on parked stacks, and must say the same.
    for _ in 0..2 {
        let census = whole(&mut reader, memory);
        check_census(&fixture, variant, &reader, &census);
    }
}

fn check_census(fixture: &Fixture, variant: &str, reader: &GoCensus, census: &Census) {
    let (symbols, bias) = (reader.process().symbols.clone(), reader.process().bias);
    let by_id: HashMap<u64, &CensusTask> = census.tasks.iter().map(|t| (t.id, t)).collect();

    let ready = fixture.event("ready").next().unwrap();
    let user = census.tasks.iter().filter(|t| !t.system).count() as u64;
    assert_eq!(
        Some(user),
        ready["num_goroutine"].as_u64(),
        "{variant}: runtime.NumGoroutine"
    );
    assert_eq!(
        by_id.len(),
        census.tasks.len(),
        "{variant}: an id came twice"
    );
    println!(
        "{variant} {}: {user} goroutines, {:?}",
        ready["version"], census.figures
    );

    // What the runtime itself says of every goroutine.
    let dump = fixture.event("dump").next().unwrap();
    for (id, state) in dump["goroutines"].as_object().unwrap() {
        let task = by_id[&id.parse().unwrap()];
        let got = match task.state {
            TaskState::Waiting => task.wait_reason.unwrap_or("?"),
            other => other.as_str(),
        };
        let expected = if dump["main"].as_u64() == id.parse().ok() {
            "sleep"
        } else {
            state.as_str().unwrap()
        };
        assert_eq!(got, expected, "{variant}: goroutine {id}");
    }

    let knows_parents = by_id.values().any(|t| t.parent.is_some());
    for truth in fixture.event("task") {
        let name = format!("{variant}: {} {}", truth["name"], truth["goid"]);
        let task = by_id[&truth["goid"].as_u64().unwrap()];
        assert!(!task.system, "{name}");
        if knows_parents {
            assert_eq!(task.parent, truth["parent"].as_u64(), "{name}");
        }
        let at = |pc: Option<u64>| symbols.function_name(pc.unwrap() - bias);
        assert_eq!(at(task.created_at), Some("main.start"), "{name}");
        assert!(at(task.entry).unwrap().starts_with("main.start"), "{name}");
        // The creation site's line, in the source as it lies here.
        let site = symbols.lookup(task.created_at.unwrap() - bias).unwrap();
        let source = include_str!("../../../tests/fixtures/go/known_waits/main.go");
        let line = source.lines().nth(site.line.unwrap() as usize - 1);
        assert_eq!(line.map(str::trim), Some("go func() {"), "{name}: {site:?}");
        assert!(
            site.file.unwrap().ends_with("known_waits/main.go"),
            "{name}"
        );
        let stack = function_names(&symbols, bias, census, task);
        assert!(
            stack.last().is_some_and(|f| f.starts_with("main.start.")),
            "{name}: {stack:?}"
        );
        let name = format!("{name} {stack:?}");
        check_wait(&name, truth, task, census.waits_of(task));
    }
    let of = |name: &str| {
        let truth = fixture.event("task").find(|t| t["name"] == name).unwrap();
        by_id[&truth["goid"].as_u64().unwrap()]
    };
    let blocked = of("syscall_read");
    assert_eq!(blocked.state, TaskState::Syscall);
    let tid = blocked.thread.unwrap();
    let process = Process::open(Pid(fixture.child.id())).unwrap();
    assert!(
        process.threads().unwrap().contains(&tid),
        "{variant}: {tid}"
    );
    let stack = function_names(&symbols, bias, census, blocked);
    assert!(
        stack.iter().any(|f| f == "syscall.Syscall"),
        "{variant}: {stack:?}"
    );
}

fn check_wait(name: &str, truth: &Value, task: &CensusTask, waits: &[WaitsOn]) {
    let Some(kind) = truth["kind"].as_str() else {
        return;
    };
    assert!(task.blocked, "{name}");
    if let Some(cases) = truth["cases"].as_u64().filter(|&c| c > 0) {
        let directions: HashSet<_> = waits
            .iter()
            .map(|w| w.direction.unwrap().as_str())
            .collect();
        assert_eq!(waits.len() as u64, cases, "{name}: {waits:?}");
        assert_eq!(
            directions,
            HashSet::from(["send", "receive"]),
            "{name}: {waits:?}"
        );
        return;
    }
    let [wait] = waits else {
        panic!("{name}: {waits:?}");
    };
    if task.wait_reason == Some("semacquire") && wait.kind == WaitKind::Semaphore {
        // Before Go 1.20 only the stack tells what a semaphore belongs to, and RLock is inlined.
        assert!(wait.address.is_some(), "{name}");
        return;
    }
    assert_eq!(wait.kind.as_str(), kind, "{name}");
    if let Some(address) = truth["address"].as_str() {
        let expected = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
        assert_eq!(wait.address, Some(expected), "{name}: {wait:?}");
    }
    if let Some(direction) = truth["direction"].as_str() {
        assert_eq!(
            wait.direction.map(Direction::as_str),
            Some(direction),
            "{name}: {wait:?}"
        );
    }
    match kind {
        "channel" => {
            assert_eq!(wait.len, truth["len"].as_u64(), "{name}");
            assert_eq!(wait.capacity, truth["capacity"].as_u64(), "{name}");
        }
        "descriptor" => assert_eq!(wait.fd.map(i64::from), truth["fd"].as_i64(), "{name}"),
        "timer" => assert!(wait.until.is_some(), "{name}"),
        _ => {}
    }
}

#[test]
fn live_census_agrees_with_what_programs_say_of_themselves() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let only = std::env::var("OBSERVER_GO_VARIANT").ok();
    for (variant, arguments, cgo) in VARIANTS {
        if only.as_deref().is_none_or(|o| o == *variant) {
            check_known_waits(&go, variant, arguments, *cgo);
        }
    }
}

#[test]
fn live_cgo_programs_keep_g_where_the_reader_says() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let variants: [&[&str]; 4] = [
        &[],
        &["-buildmode=pie"],
        &["-buildmode=pie", "-ldflags=-s -w"],
        &["-ldflags=-s -w -extldflags=-static", "-tags=netgo,osusergo"],
    ];
    for arguments in variants {
        let fixture = start(&go, "cgo_call", arguments, true, &[]);
        let (mut reader, memory) = fixture.census();
        let ready = fixture.event("ready").next().unwrap();
        let offset = *reader.process().tls_offset.known().unwrap();
        let truth = ready["tls_offsets"].as_array().unwrap();
        assert!(
            truth.contains(&offset.into()),
            "{arguments:?}: {offset}, not {truth:?}"
        );
        println!("{arguments:?}: {offset}, truth {truth:?}");

        let census = whole(&mut reader, memory);
        let (symbols, bias) = (&reader.process().symbols, reader.process().bias);
        let by_cause = census
            .tasks
            .iter()
            .filter(|t| t.cause == Some(Cause::CgoCall));
        assert_eq!(by_cause.count(), 3, "{arguments:?}");
        let stacks = census
            .tasks
            .iter()
            .filter(|t| t.state == TaskState::Syscall);
        let stacks: Vec<_> = stacks
            .map(|t| function_names(symbols, bias, &census, t))
            .collect();
        let in_c = stacks
            .iter()
            .filter(|s| s.iter().any(|f| f == "runtime.cgocall"));
        assert_eq!(in_c.count(), 3, "{arguments:?}: {stacks:?}");
    }
}

/// A parked stack ends in the function that its goroutine started with, or it was torn unnoticed.
#[test]
fn live_busy_programs_give_no_wrong_answers() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let fixture = start(&go, "busy", &[], false, &[]);
    let (mut reader, memory) = fixture.census();
    let (mut waiting, mut torn, mut stacks, mut over) = (0, 0, 0, 0);
    for round in 0..300 {
        let census = reader.take(&memory, Mono(round + 1)).unwrap();
        torn += census.figures.torn;
        let ids: HashSet<u64> = census.tasks.iter().map(|t| t.id).collect();
        let listed_twice = census.tasks.len() - ids.len();
        assert_eq!(listed_twice, 0, "round {round}");
        let (symbols, bias) = (&reader.process().symbols, reader.process().bias);
        for task in census
            .tasks
            .iter()
            .filter(|t| t.state == TaskState::Waiting)
        {
            waiting += 1;
            let names = function_names(symbols, bias, &census, task);
            let Some(last) = names.last().filter(|_| names.len() < 64) else {
                continue;
            };
            stacks += 1;
            let entry = symbols.function_name(task.entry.unwrap() - bias);
            // A goroutine whose function has returned goes on in goexit1, called by goexit
            // (`src/runtime/asm_amd64.s`, Go 1.26). It can be stopped there, but not wait.
            let is_over = last == "runtime.goexit1" && task.wait_reason == Some("preempted");
            over += u64::from(is_over);
            assert!(
                is_over || Some(last.as_str()) == entry,
                "round {round}: {entry:?} {task:?} {names:?}"
            );
            for wait in census.waits_of(task) {
                assert!(wait.len <= wait.capacity, "round {round}: {wait:?}");
            }
        }
    }
    println!("{waiting} waiting goroutines, {stacks} with stacks, {over} over, {torn} torn");
    assert!(stacks > 300, "{stacks}");
    assert!(over < stacks / 10, "{over} of {stacks}");
}

#[test]
fn live_tracker_ages_waits() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let fixture = start(&go, "known_waits", &[], false, &[]);
    let (mut reader, memory) = fixture.census();
    let mut tracker = CensusTracker::default();
    for now in [1_000, 2_000, 3_000] {
        let mut census = reader.take(&memory, Mono(now)).unwrap();
        tracker.update(&mut census);
        let parked = |t: &&CensusTask| t.wait_reason == Some("chan send");
        for task in census.tasks.iter().filter(parked) {
            assert_eq!(task.age.unwrap().at_least_ns, now - 1_000);
        }
    }
}

/// CPU time of this thread (ns): what a census costs however busy the machine is.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live, writable timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Not a test of speed: run it with `--release -- --ignored --nocapture` for the figures.
#[test]
#[ignore = "measures; run it in release"]
fn measure_census() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    for count in ["10000", "100000"] {
        let fixture = start(&go, "crowd", &["-ldflags=-s -w"], false, &["-count", count]);
        let process = Process::open(Pid(fixture.child.id())).unwrap();
        let started = Instant::now();
        let image = ElfImage::open(&process.exe_handle()).unwrap();
        let detected = GoImage::detect(&image).unwrap();
        let memory = ProcessMemory::new(process.id.pid);
        let attached = detected.attach(&process, &memory).unwrap();
        println!("detected and checked in {:?}", started.elapsed());
        let mut reader = GoCensus::new(attached);
        let mut tracker = CensusTracker::default();
        for round in 0..5 {
            let cpu = cpu_ns();
            let mut census = reader.take(&memory, Mono(round + 1)).unwrap();
            let cpu = cpu_ns() - cpu;
            let at = Instant::now();
            tracker.update(&mut census);
            let tracked = at.elapsed().as_nanos() as u64;
            let [wall, cpu, tracked] =
                [census.figures.duration_ns, cpu, tracked].map(|n| n as f64 / 1e6);
            println!(
                "{count}: census {wall:.1} ms (CPU {cpu:.1} ms), tracker {tracked:.1} ms, {:?}, {} stacks",
                census.figures,
                census.stacks.len()
            );
        }
    }
}

#[test]
fn live_the_probe_has_a_place_in_every_build_and_the_states_before_it_are_those_of_the_census() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    for (variant, arguments, cgo) in VARIANTS {
        let fixture = start(&go, "known_waits", arguments, *cgo, &[]);
        let (mut reader, memory) = fixture.census();
        let process = reader.process().clone();
        let found = match transitions::code_probes(&process) {
            Known::Known(found) => found,
            Known::Unknown(reason) => {
                assert!(process.minor < 21, "{variant}: {reason}");
                continue;
            }
        };
        let CodeReader::Go(config) = found.reader else {
            panic!("probes of another runtime");
        };
        let site = found.probes[0].site.known().unwrap().clone();
        assert_eq!(site.bytes, [0x55], "{variant}: a push, which is cheap");
        let name = process.symbols.function_name(site.address);
        assert_eq!(name, Some("runtime.casgstatus"), "{variant}");

        let seeds = transitions::seeds(&memory, &config, 32).unwrap();
        let census = whole(&mut reader, memory);
        let mut reasons: Vec<_> = seeds
            .iter()
            .filter(|seed| seed.state == 4)
            .map(|seed| waitreason::lookup(config.minor, seed.reason).unwrap().text)
            .collect();
        let waiting = census
            .tasks
            .iter()
            .filter(|t| t.state == TaskState::Waiting);
        let mut expected: Vec<_> = waiting.filter_map(|t| t.wait_reason).collect();
        reasons.sort_unstable();
        expected.sort_unstable();
        assert_eq!(reasons, expected, "{variant}");
        let parked = seeds.iter().find(|seed| {
            let in_start = |pc: &u64| {
                let name = process.symbols.function_name(pc - process.bias);
                name.is_some_and(|name| name.starts_with("main.start"))
            };
            seed.frames.iter().any(in_start)
        });
        assert!(parked.is_some(), "{variant}: stacks reach the program");
    }
}
