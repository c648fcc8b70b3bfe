//! What a tokio task is, told from its stack: by the pointer to the task that lies on it, and by the
//! functions that polled it alone; and from the runtime's list of tasks. No privileges: the programs are children of the test.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use observer::model::event::{Identity, WaitClass};
use observer::model::memory::{Memory, ReadError, ReadRequest};
use observer::model::task::{TaskFacts, TaskKind, TaskRef};
use observer::model::{Known, Mono, Pid};
use observer::resolve::unwind::{Regs, TableCache, Unwinder};
use observer::runtimes::reading::task_of;
use observer::runtimes::{PolledStack, RUNTIMES, RuntimeImage};
use observer::sys::elf::ElfImage;
use observer::sys::memory::ProcessMemory;
use observer::sys::process::Process;

use crate::support::require::{Need, require};
use crate::support::truth::Program;

/// Bytes of stack that are read.
const STACK: usize = 16 << 10;
/// For how long tasks are looked at; most of the program's life.
const LOOKING: Duration = Duration::from_secs(4);
/// Reads of memory for one stack at most: 512 words, and eight for the task.
const MOST_READS: u32 = 520;
/// Bytes read at a time.
const PIECE: usize = 256;

/// Counts reads of a process's memory.
struct Counting<'a>(&'a ProcessMemory, Cell<u32>);

impl Memory for Counting<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.set(self.1.get() + 1);
        self.0.read(addr, buf)
    }

    fn read_batch(&self, requests: &mut [ReadRequest<'_>]) -> Result<(), ReadError> {
        self.1.set(self.1.get() + 1);
        self.0.read_batch(requests)
    }
}

/// What was said of the fixture's tasks.
#[derive(Debug, Default)]
struct Told {
    /// By the task itself.
    task: BTreeMap<u64, TaskFacts>,
    /// By functions alone.
    functions: BTreeMap<u64, BTreeSet<String>>,
    /// By the runtime's list.
    list: BTreeMap<u64, TaskFacts>,
}

/// Looks at every blocked thread for a while, as a session does.
fn look(program: &Program) -> Told {
    let pid = Pid(program.process.pid());
    let process = Process::open(pid).expect("a child can be read");
    let elf = Arc::new(ElfImage::open(&process.exe_handle()).expect("an executable"));
    let image = RUNTIMES
        .iter()
        .find_map(|r| r.detect(&elf, &process))
        .expect("tokio");
    let memory = ProcessMemory::new(pid);
    let reader = image.task_reader(&process, &memory);
    let Known::Known(reader) = reader else {
        panic!("{reader:?}");
    };
    let mut finder = image
        .task_finder(&process)
        .expect("tokio's tasks have types");
    let mut blind = image
        .task_finder(&process)
        .expect("tokio's tasks have types");
    let mut unwinder = Unwinder::new(pid, &mut TableCache::default()).expect("mappings");
    let mut told = Told::default();
    let end = Instant::now() + LOOKING;
    while Instant::now() < end {
        // A thread that runs is not found: on a busy machine it may be there the next time.
        for thread in &observer::runtimes::tokio::thread_bases(&process, &memory) {
            let Some(at) = process.blocked_at(thread.tid) else {
                continue;
            };
            let class = WaitClass::Syscall(at.syscall as u32);
            let read = task_of(Some(&reader), &memory, thread.base, thread.tid, class);
            let Identity::Task(task) = read.identity else {
                continue;
            };
            if task.kind != TaskKind::TokioTask {
                continue;
            }
            // A thread's stack may end soon.
            let mut bytes = vec![0; STACK];
            let mut length = 0;
            for piece in bytes.chunks_mut(PIECE) {
                let at = at.stack_pointer + length as u64;
                if memory.read(at, piece).is_err() {
                    break;
                }
                length += PIECE;
            }
            bytes.truncate(length);
            let regs = Regs {
                ip: at.instruction_pointer,
                sp: at.stack_pointer,
                bp: None,
            };
            let unwound = unwinder.unwind(regs, &bytes, 100);
            let stack = PolledStack {
                frames: &unwound.frames,
                stack_pointers: &unwound.stack_pointers,
                start: at.stack_pointer,
                bytes: &bytes,
            };
            // Only if the thread is still in that wait was it that wait's stack.
            if process.blocked_at(thread.tid) != Some(at) {
                continue;
            }
            let counting = Counting(&memory, Cell::new(0));
            let known = finder.knows(task);
            finder.look(task, &stack, &counting);
            if !known {
                println!("task {}: {} reads", task.id, counting.1.get());
            }
            // A few words around the poll, and what the task itself holds.
            assert!(counting.1.get() <= MOST_READS, "{} reads", counting.1.get());
            if finder.knows(task) {
                told.task.insert(task.id, finder.describe(task, &[]));
            }
            let facts = blind.describe(task, &unwound.frames);
            if let Known::Known(name) = facts.name {
                told.functions.entry(task.id).or_default().insert(name);
            } else if let Some(label) = facts.label {
                told.functions.entry(task.id).or_default().insert(label);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    told.list = listed(image.as_ref(), &process, memory);
    told
}

/// What the runtime's list alone tells.
fn listed(
    image: &dyn RuntimeImage,
    process: &Process,
    memory: ProcessMemory,
) -> BTreeMap<u64, TaskFacts> {
    let Known::Known(mut census) = image.census(process, &memory) else {
        panic!("the fixture's tasks can be listed");
    };
    // A thread that runs does not show what it drives.
    for _ in 0..50 {
        if let Ok(Known::Known(_)) = census.take(&memory, Mono(1)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut finder = image
        .task_finder(process)
        .expect("tokio's tasks have types");
    let entries = census.entries();
    for &(id, entry) in &entries {
        finder.listed(id, entry);
    }
    let mut describe = |id| {
        let kind = TaskKind::TokioTask;
        finder.describe(TaskRef { kind, id }, &[])
    };
    entries.iter().map(|(id, _)| (*id, describe(*id))).collect()
}

/// How the program was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Kept,
    Stripped,
}

fn check(fixture: &str, names: Names, flavor: &str) {
    let program = Program::start(fixture, &["--flavor", flavor]);
    let told = look(&program);
    let truths = program.finish();
    let tasks = truths
        .iter()
        .filter(|t| t.id != 0 && matches!(&*t.kind, "in_poll" | "may_block"));
    let mut labels = BTreeSet::new();
    let mut checked = 0;
    for truth in tasks {
        let pool = truth.function == "blocking_pool_task";
        let function = if pool { "start_tasks" } else { &truth.function };
        let expected = format!("tokio_fixture::{function}::");
        let facts = told.task.get(&truth.id);
        let facts =
            facts.unwrap_or_else(|| panic!("{truth:?} was not told by its task: {told:#?}"));
        // Tasks of the pool are in no list; where a task was spawned is told by its stack only.
        let mut from_list = told.list.get(&truth.id).cloned();
        assert_eq!(from_list.is_none(), pool, "{truth:?}: {from_list:?}");
        if let Some(from_list) = &mut from_list {
            from_list.spawned_at.clone_from(&facts.spawned_at);
            assert_eq!(from_list, facts, "{truth:?}");
        }
        let scheduler = if pool { "blocking_pool" } else { flavor };
        let functions: BTreeSet<String> =
            told.functions.get(&truth.id).cloned().unwrap_or_default();
        match names {
            Names::Kept => {
                let name = facts.name.known().expect("a name");
                assert!(name.starts_with(&expected), "{truth:?}: {name}");
                assert_eq!(facts.scheduler, Some(scheduler), "{truth:?}");
                assert!(
                    functions.iter().all(|name| name.starts_with(&expected)),
                    "{truth:?}: {functions:?}"
                );
            }
            Names::Stripped => {
                assert_eq!(facts.name.known(), None, "{truth:?}");
                let label = facts.label.clone().expect("a label");
                assert!(
                    functions.iter().all(|other| *other == label),
                    "{truth:?}: {functions:?}"
                );
                assert!(labels.insert(label), "{truth:?} shares another's type");
            }
        }
        // `tokio_unstable` is told by the directory of the fixture.
        let spawned_at = fixture
            .contains("unstable")
            .then(|| truth.spawned_at.clone());
        assert_eq!(facts.spawned_at, spawned_at, "{truth:?}");
        checked += usize::from(!functions.is_empty());
    }
    assert!(
        checked >= 1,
        "the functions alone told too little: {told:#?}"
    );
}

#[test]
fn release() {
    require!(Need::Fixture("tokio/release/tokio-fixture"));
    check("tokio/release/tokio-fixture", Names::Kept, "multi_thread");
}

#[test]
fn fat_lto() {
    require!(Need::Fixture("tokio/fat/tokio-fixture"));
    check("tokio/fat/tokio-fixture", Names::Kept, "current_thread");
}

#[test]
fn unoptimized() {
    require!(Need::Fixture("tokio/plain/tokio-fixture"));
    check("tokio/plain/tokio-fixture", Names::Kept, "multi_thread");
}

#[test]
fn stripped() {
    require!(Need::Fixture("tokio/stripped/tokio-fixture"));
    check("tokio/stripped/tokio-fixture", Names::Stripped, "local_set");
}

#[test]
fn with_unstable_interfaces() {
    require!(Need::Fixture("tokio-unstable/stripped/tokio-fixture"));
    check(
        "tokio-unstable/stripped/tokio-fixture",
        Names::Stripped,
        "multi_thread",
    );
}
