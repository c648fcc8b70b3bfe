//! Censuses folded over a session: groups, meeting points and candidates for a deadlock are what the
//! programs say of themselves. No privileges: the programs are children of the test.

use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use observer::aggregate::census::CensusLedger;
use observer::aggregate::census::rollup::{CensusRollup, roll_up};
use observer::app::census_names::TargetNames;
use observer::correlate::wait_graph::{self, Named};
use observer::model::census::{Direction, WaitKind};
use observer::model::meeting::Meeting;
use observer::model::view::{CensusGroup, Nature, WaitGraph};
use observer::model::{Known, Mono, Pid};
use observer::resolve::resources::FdTable;
use observer::resolve::symbols::{Symbolizer, SymbolizerConfig, go_symbols};
use observer::runtimes::RUNTIMES;
use observer::sys::elf::ElfImage;
use observer::sys::memory::ProcessMemory;
use observer::sys::process::Process;
use observer::sys::usage;
use serde_json::Value;

use crate::support::child::Running;
use crate::support::report::number;
use crate::support::require::{Need, fixture, require};

const START: Duration = Duration::from_secs(20);

struct Observed {
    program: Running,
    ready: Value,
    tasks: Vec<Value>,
}

fn start(name: &str, args: &[&str]) -> Observed {
    let program = Running::start(Command::new(fixture(name)).args(args));
    let mut tasks = Vec::new();
    loop {
        let line = program.line("\"event\"", START);
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        match line["event"].as_str() {
            Some("ready") => {
                // Its main goroutine still returns from printing that line.
                thread::sleep(Duration::from_millis(100));
                return Observed {
                    program,
                    ready: line,
                    tasks,
                };
            }
            _ => tasks.push(line),
        }
    }
}

/// Takes censuses as a session does, and rolls them up.
fn observe(observed: &Observed, samples: u32) -> (CensusRollup, WaitGraph) {
    let pid = Pid(observed.program.pid());
    let process = Process::open(pid).expect("a child can be read");
    let elf = Arc::new(ElfImage::open(&process.exe_handle()).expect("an executable"));
    let image = RUNTIMES
        .iter()
        .find_map(|runtime| runtime.detect(&elf, &process))
        .expect("a runtime");
    let memory = ProcessMemory::new(pid);
    let Known::Known(mut census) = image.census(&process, &memory) else {
        panic!("no census of {pid}");
    };
    let mut ledger = CensusLedger::default();
    for _ in 0..samples {
        let now = Mono(usage::monotonic_ns());
        let Ok(Known::Known(mut taken)) = census.take(&memory, now) else {
            panic!("no census of {pid}");
        };
        ledger.add(&mut taken);
        census.watch(&ledger.to_watch());
        thread::sleep(Duration::from_millis(150));
    }
    let symbolizer = Symbolizer::spawn(SymbolizerConfig {
        plugins: vec![Box::new(go_symbols)],
        ..SymbolizerConfig::default()
    })
    .expect("a symbolizer");
    let (targets, mut fds) = ([pid], FdTable::default());
    let names = TargetNames::new(pid, &targets, &symbolizer, &mut fds, None);
    let rollup = roll_up(&ledger, 0, &names);
    let named = [Named {
        name: "program".to_owned(),
        noun: "goroutine",
    }];
    let graph = wait_graph::build(&wait_graph::Facts {
        meetings: &rollup.meetings,
        targets: &named,
        ..wait_graph::Facts::default()
    });
    (rollup, graph)
}

/// As many tasks as the program counts, in the counts and in the groups.
#[track_caller]
fn check_total(rollup: &CensusRollup, ready: &Value) {
    let counts = rollup.counts;
    let parts = [
        counts.running,
        counts.runnable,
        counts.waiting,
        counts.in_syscall,
    ];
    let total: u64 = parts.into_iter().flatten().sum();
    assert_eq!(total, number(ready, "num_goroutine"), "{counts:?}");
    let own = rollup.groups.iter().filter(|g| g.nature != Nature::System);
    assert_eq!(own.map(|g| g.count).sum::<u64>(), total);
}

fn address(text: &Value) -> u64 {
    let text = text.as_str().expect("an address");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("hex")
}

fn point(rollup: &CensusRollup, kind: WaitKind, address: u64) -> &Meeting {
    let found = rollup
        .meetings
        .iter()
        .find(|m| (m.kind, m.address) == (kind, address));
    found.unwrap_or_else(|| panic!("no {kind:?} {address:#x}: {:#?}", rollup.meetings))
}

#[test]
fn a_crowd_is_two_lines() {
    require!(Need::Fixture("go/crowd"));
    let crowd = start("go/crowd", &["-count", "4000"]);
    let (rollup, graph) = observe(&crowd, 3);
    check_total(&rollup, &crowd.ready);
    let big: Vec<&CensusGroup> = rollup.groups.iter().filter(|g| g.count > 10).collect();
    let [one, other] = big.as_slice() else {
        panic!("{big:#?}");
    };
    for group in [one, other] {
        assert_eq!((group.count, group.max), (2000, 2000), "{group:#?}");
        assert!(
            group.oldest_ns.is_some_and(|ns| ns > 200_000_000),
            "{group:#?}"
        );
        assert!(
            group.created_by.as_deref() == Some("main.main"),
            "{group:#?}"
        );
    }
    let reason = |g: &CensusGroup| g.wait_reason.clone().unwrap_or_default();
    let sender = if reason(one) == "chan send" {
        one
    } else {
        other
    };
    let shared = sender.resource.as_ref().and_then(|r| r.address);
    let pile = point(&rollup, WaitKind::Channel, shared.expect("one channel"));
    assert_eq!(pile.sides.len(), 1);
    assert_eq!(
        (pile.sides[0].direction, pile.sides[0].last),
        (Some(Direction::Send), 2000)
    );
    assert!(
        pile.pile().is_some() && pile.users.is_empty(),
        "nobody receives: {:#?}",
        pile.users
    );
    // Nobody ever will, but who could is not known: that is no deadlock to us.
    assert!(graph.deadlock_candidates.is_empty(), "{graph:#?}");
}

#[test]
fn known_waits_are_in_groups_and_at_meeting_points() {
    require!(Need::Fixture("go/known_waits"));
    let known = start("go/known_waits", &[]);
    let (rollup, graph) = observe(&known, 8);
    check_total(&rollup, &known.ready);
    assert!(graph.deadlock_candidates.is_empty(), "{graph:#?}");
    let tasks = || known.tasks.iter().filter(|t| t["event"] == "task");
    for (name, kind) in [("pile", WaitKind::Channel), ("mutex", WaitKind::Mutex)] {
        let of_name: Vec<&Value> = tasks().filter(|t| t["name"] == name).collect();
        let found = point(&rollup, kind, address(&of_name[0]["address"]));
        let side = &found.sides[0];
        assert_eq!(
            (side.last, side.max),
            (of_name.len() as u64, of_name.len() as u64),
            "{name}"
        );
        let mut ids: Vec<u64> = of_name.iter().map(|t| number(t, "goid")).collect();
        ids.sort_unstable();
        assert_eq!(side.stuck, ids, "{name}: nobody moved");
        assert_eq!(
            (found.len, found.capacity).0.is_some(),
            kind == WaitKind::Channel
        );
    }
    let read = tasks().find(|t| t["name"] == "tcp_read").expect("a reader");
    let fd = i32::try_from(number(read, "fd")).expect("a descriptor");
    let group = rollup
        .groups
        .iter()
        .find(|g| g.sample_ids.contains(&number(read, "goid")))
        .expect("its group");
    let resource = group.resource.as_ref().expect("a socket");
    assert_eq!(
        (resource.kind, resource.fd),
        ("socket", Some(fd)),
        "{resource:?}"
    );
    assert!(
        resource
            .peer
            .as_deref()
            .is_some_and(|p| p.starts_with("127.0.0.1:"))
    );
}

#[test]
fn a_deadlock_is_a_candidate_and_a_busy_holder_is_none() {
    require!(Need::Fixture("go/locks"));
    check_locks("go/locks");
}

#[test]
fn a_stripped_program_tells_a_deadlock_from_a_busy_holder() {
    require!(Need::Fixture("go/locks-stripped"));
    check_locks("go/locks-stripped");
}

fn check_locks(exe: &str) {
    let crossed = start(exe, &["-mode", "crossed"]);
    let (_, graph) = observe(&crossed, 9);
    let [candidate] = graph.deadlock_candidates.as_slice() else {
        panic!("{exe}: {graph:#?}");
    };
    for lock in ["a", "b"] {
        let text = crossed.ready[lock].as_str().unwrap_or_default();
        assert!(
            candidate.contains(&format!("waits for mutex {text}")),
            "{candidate}"
        );
    }
    let busy = start(exe, &["-mode", "busy"]);
    let (rollup, graph) = observe(&busy, 9);
    let waiting = point(&rollup, WaitKind::Mutex, address(&busy.ready["a"]));
    assert_eq!(waiting.sides[0].stuck.len(), 2);
    assert!(graph.deadlock_candidates.is_empty(), "{exe}: {graph:#?}");
    // One who only has the object on the stack that contains the lock holds it.
    let held = start(exe, &["-mode", "held"]);
    let (rollup, graph) = observe(&held, 9);
    for lock in ["a", "b"] {
        let waiting = point(&rollup, WaitKind::Mutex, address(&held.ready[lock]));
        assert_eq!(waiting.sides[0].stuck.len(), 1, "{waiting:#?}");
        assert!(
            !waiting.users.is_empty(),
            "a circle, if it were not for the doubt: {waiting:#?}"
        );
    }
    assert!(graph.deadlock_candidates.is_empty(), "{exe}: {graph:#?}");
}

#[test]
fn the_holder_of_a_crowded_lock_is_known_as_far_as_stacks_tell() {
    require!(Need::Fixture("go/locks"));
    let convoy = start("go/locks", &["-mode", "convoy", "-handlers", "30"]);
    let (rollup, graph) = observe(&convoy, 12);
    let lock = point(&rollup, WaitKind::Mutex, address(&convoy.ready["a"]));
    assert!(
        lock.pile().is_some_and(|side| side.mean > 28.0),
        "{lock:#?}"
    );
    let user = &lock.users[0];
    let name = user.function.known().and_then(|f| f.function.as_deref());
    assert_eq!(name, Some("main.(*store).update"));
    let site = user.doing[0]
        .site
        .known()
        .and_then(|f| f.function.as_deref());
    assert_eq!(
        (user.doing[0].what.as_str(), site),
        ("syscall", Some("main.(*store).save"))
    );
    assert!(graph.deadlock_candidates.is_empty(), "it moves: {graph:#?}");
}

/// Not a test of speed: run it with `--release -- --ignored --nocapture measure_sampling` for figures.
#[test]
#[ignore = "measures; run it in release"]
fn measure_sampling() {
    require!(Need::Fixture("go/crowd"));
    for count in ["10000", "100000"] {
        let crowd = start("go/crowd", &["-count", count]);
        let pid = Pid(crowd.program.pid());
        let process = Process::open(pid).expect("a child can be read");
        let elf = Arc::new(ElfImage::open(&process.exe_handle()).expect("an executable"));
        let image = RUNTIMES
            .iter()
            .find_map(|r| r.detect(&elf, &process))
            .expect("Go");
        let memory = ProcessMemory::new(pid);
        let Known::Known(mut census) = image.census(&process, &memory) else {
            panic!("no census of {pid}");
        };
        let mut ledger = CensusLedger::default();
        for round in 0..6 {
            let (cpu, wall) = (usage::thread_cpu(), std::time::Instant::now());
            let Ok(Known::Known(mut taken)) = census.take(&memory, Mono(round + 1)) else {
                panic!("no census of {pid}");
            };
            let took = wall.elapsed();
            ledger.add(&mut taken);
            let folded = wall.elapsed();
            census.watch(&ledger.to_watch());
            let cpu = usage::thread_cpu()
                .zip(cpu)
                .map(|(now, then)| now.saturating_sub(then));
            println!(
                "{count}: read {took:?}, with folding {folded:?}, CPU {cpu:?}, watched {}, {:?}",
                ledger.to_watch().len(),
                taken.figures
            );
        }
    }
}
