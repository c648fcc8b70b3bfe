//! Await points read from a process that prints its own: `tests/fixtures/tokio/src/bin/awaits.rs`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{AwaitPoint, FutureTypes, PointKind, Suspended};
use crate::model::Pid;
use crate::model::census::{Direction, WaitKind, WaitsOn};
use crate::model::memory::{Memory, ReadError};
use crate::model::time::Mono;
use crate::runtimes::tokio::live_tests::build;
use crate::runtimes::tokio::{TokioImage, vtable_of};
use crate::sys::elf::{ElfImage, base_address};
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

/// What the fixture says of a task.
#[derive(Debug)]
struct Truth {
    header: u64,
    /// Function and line, outermost first.
    points: Vec<(String, u64)>,
}

/// The running fixture; it is killed (by pid) when the test ends.
#[derive(Debug)]
struct Fixture {
    child: Child,
    tasks: BTreeMap<String, Truth>,
    /// Address and size.
    things: BTreeMap<String, (u64, u64)>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Fixture {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut fixture = Self {
            child,
            tasks: BTreeMap::new(),
            things: BTreeMap::new(),
        };
        for line in lines {
            let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let number = |name: &str| value[name].as_u64().unwrap();
            let name = || value["name"].as_str().unwrap().to_owned();
            match value["event"].as_str() {
                Some("task") => {
                    let points = value["points"].as_array().unwrap().iter();
                    let points = points
                        .map(|p| (p[0].as_str().unwrap().to_owned(), p[1].as_u64().unwrap()))
                        .collect();
                    let header = number("header");
                    fixture.tasks.insert(name(), Truth { header, points });
                }
                Some("thing") => {
                    let thing = (number("address"), number("size"));
                    fixture.things.insert(name(), thing);
                }
                _ => break,
            }
        }
        fixture
    }
}

/// A process with its future types.
#[derive(Debug)]
struct Reader {
    types: FutureTypes,
    image: TokioImage,
    memory: ProcessMemory,
    bias: u64,
}

impl Reader {
    fn of(pid: u32) -> Self {
        let process = Process::open(Pid(pid)).unwrap();
        let elf = Arc::new(ElfImage::open(&process.exe_handle()).unwrap());
        let image = TokioImage::read(&elf).expect("tokio is found");
        let start = Instant::now();
        // A stripped program's debug information, in a file of its own.
        let info = std::env::var_os("OBSERVER_AWAITS_INFO")
            .map(|path| Arc::new(ElfImage::open(Path::new(&path)).unwrap()));
        let types = FutureTypes::read(&elf, info.as_ref(), image.vtables()).unwrap();
        for (vtable, root) in image.vtables().iter().zip(&types.roots) {
            if let Err(reason) = root {
                println!("  {:#x}: {reason}", vtable.address);
            }
        }
        println!("{} task types", types.roots.len());
        println!(
            "read in {:?}: {} types",
            start.elapsed(),
            types.layouts.types.len()
        );
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let start = maps.split('-').next().unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let bias = start - base_address(&elf.parse().unwrap()).unwrap();
        Self {
            types,
            image,
            memory: ProcessMemory::new(process.id.pid),
            bias,
        }
    }

    fn suspended(&mut self, truth: &Truth) -> Suspended {
        self.suspended_at(truth.header)
    }

    fn suspended_at(&mut self, header: u64) -> Suspended {
        let vtable = vtable_of(header, &self.memory).unwrap();
        let place = self
            .image
            .vtables()
            .iter()
            .position(|v| v.address == vtable - self.bias)
            .unwrap();
        let mut out = Suspended::default();
        self.types
            .suspended(place, header, self.bias, &self.memory, &mut out)
            .unwrap();
        out
    }

    /// Time and reads per task, when a task is looked at again and again.
    fn cost(&mut self, headers: &[u64]) {
        let rounds = 500;
        let mut out = Suspended::default();
        let places: Vec<(usize, u64)> = headers
            .iter()
            .map(|header| {
                let address = vtable_of(*header, &self.memory).unwrap() - self.bias;
                let mut vtables = self.image.vtables().iter();
                (vtables.position(|v| v.address == address).unwrap(), *header)
            })
            .collect();
        let memory = Counting(self.memory, Cell::new(0));
        let start = Instant::now();
        for _ in 0..rounds {
            for (place, header) in &places {
                self.types
                    .suspended(*place, *header, self.bias, &memory, &mut out)
                    .unwrap();
            }
        }
        let tasks = rounds * places.len() as u32;
        let reads = f64::from(memory.1.get()) / f64::from(tasks);
        println!(
            "cost: {:?} and {reads:.1} reads per task",
            start.elapsed() / tasks
        );
    }

    fn points(&self, found: &Suspended) -> Vec<&AwaitPoint> {
        let points = found.points.iter().rev();
        points.map(|id| self.types.point(*id).unwrap()).collect()
    }
}

/// Memory that counts how often it is read.
#[derive(Debug)]
struct Counting(ProcessMemory, Cell<u32>);

impl Memory for Counting {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.1.set(self.1.get() + 1);
        self.0.read(addr, buf)
    }
}

/// Name, innermost future, what is waited for.
type Wanted = (
    &'static str,
    &'static str,
    &'static [(WaitKind, Option<Direction>)],
);

const SEND: Option<Direction> = Some(Direction::Send);
const RECEIVE: Option<Direction> = Some(Direction::Receive);
const ACQUIRE: &str = "tokio::sync::batch_semaphore::Acquire";
const NOTIFIED: &str = "tokio::sync::notify::Notified";
const READINESS: &str = "tokio::runtime::io::scheduled_io::Readiness";
const POLL_FN: &str = "future::poll_fn::PollFn";
const CONDITION: &[(WaitKind, Option<Direction>)] = &[(WaitKind::Condition, None)];

const WANTED: &[Wanted] = &[
    ("mutex", ACQUIRE, &[(WaitKind::Mutex, None)]),
    ("rwlock", ACQUIRE, &[(WaitKind::RwMutex, SEND)]),
    ("receive", POLL_FN, &[(WaitKind::Channel, RECEIVE)]),
    ("send", ACQUIRE, &[(WaitKind::Channel, SEND)]),
    ("semaphore", ACQUIRE, &[(WaitKind::Semaphore, None)]),
    ("notify", NOTIFIED, CONDITION),
    (
        "oneshot",
        "tokio::sync::oneshot::Receiver",
        &[(WaitKind::Oneshot, RECEIVE)],
    ),
    ("watch", NOTIFIED, &[(WaitKind::Channel, RECEIVE)]),
    (
        "broadcast",
        "tokio::sync::broadcast::Recv",
        &[(WaitKind::Channel, RECEIVE)],
    ),
    (
        "sleep",
        "tokio::time::sleep::Sleep",
        &[(WaitKind::Timer, None)],
    ),
    (
        "timeout",
        "tokio::time::sleep::Sleep",
        &[(WaitKind::Timer, None)],
    ),
    ("dynamic", NOTIFIED, CONDITION),
    ("boxed", NOTIFIED, CONDITION),
    ("spawned_box", NOTIFIED, CONDITION),
    ("pinned", NOTIFIED, CONDITION),
    (
        "select",
        POLL_FN,
        &[(WaitKind::Channel, RECEIVE), (WaitKind::Condition, None)],
    ),
    ("accept", READINESS, &[(WaitKind::Descriptor, RECEIVE)]),
    (
        "read",
        "tokio::io::util::read::Read",
        &[(WaitKind::Descriptor, RECEIVE)],
    ),
    ("method", NOTIFIED, CONDITION),
    ("around", NOTIFIED, CONDITION),
    ("connection", "awaits::Connection", &[]),
    ("select_unknown", "awaits::Connection", CONDITION),
    (
        "select_borrowed",
        NOTIFIED,
        &[(WaitKind::Condition, None), (WaitKind::Timer, None)],
    ),
    ("join_one_left", NOTIFIED, CONDITION),
    (
        "interval",
        "tokio::time::sleep::Sleep",
        &[(WaitKind::Timer, None)],
    ),
    (
        "join",
        "tokio::runtime::task::join::JoinHandle",
        &[(WaitKind::Task, None)],
    ),
    ("pending", "core::future::pending::Pending", &[]),
];

#[test]
fn every_parked_task_is_found_at_its_await() {
    check(&build("dwarf").with_file_name("awaits"));
}

/// The same of programs that were built otherwise: other versions of tokio, other profiles.
#[test]
#[ignore = "a tool: OBSERVER_AWAITS=path:path [OBSERVER_AWAITS_INFO=path] cargo test awaits_of_other_builds -- --ignored --nocapture"]
fn awaits_of_other_builds() {
    let paths = std::env::var_os("OBSERVER_AWAITS").expect("OBSERVER_AWAITS");
    for path in std::env::split_paths(&paths) {
        println!("{}", path.display());
        check(&path);
    }
}

fn check(program: &Path) {
    let fixture = Fixture::start(program);
    let mut reader = Reader::of(fixture.child.id());
    let mut waits: BTreeMap<&str, Vec<WaitsOn>> = BTreeMap::new();
    let mut limits: BTreeMap<&str, Option<Mono>> = BTreeMap::new();
    for (name, leaf, kinds) in WANTED {
        let truth = &fixture.tasks[*name];
        let found = reader.suspended(truth);
        let points = reader.points(&found);
        println!("{name}: cut {:?}", found.cut);
        for point in &points {
            println!("    {point:?}");
        }
        println!("    {:?}", found.waits);
        // Its own functions first, exactly as it says; then tokio's.
        let own: Vec<(String, u64)> = points
            .iter()
            .filter(|p| p.kind == PointKind::Await && p.function.contains("awaits::"))
            .map(|p| (p.function.clone(), u64::from(p.line.unwrap())))
            .collect();
        // v0 symbols name an instance's parameters, which are left out.
        let truth: Vec<_> = truth
            .points
            .iter()
            .cloned()
            .map(|(f, line)| {
                let v0 = own
                    .iter()
                    .any(|(own, _)| own.starts_with("awaits::Service::"));
                (
                    if v0 {
                        f.replace("Service<T>", "Service")
                    } else {
                        f
                    },
                    line,
                )
            })
            .collect();
        assert_eq!(own, truth, "{name}");
        for point in points.iter().filter(|p| p.kind == PointKind::Await) {
            let file = point.file.as_deref().unwrap();
            let is_own = file.ends_with("tests/fixtures/tokio/src/bin/awaits.rs");
            assert_eq!(is_own, point.function.contains("awaits::"), "{point:?}");
            assert!(!point.function.contains("{impl#"), "{point:?}");
        }
        let innermost = &points.last().unwrap().function;
        assert!(innermost.ends_with(leaf), "{name}: {innermost}");
        let found_kinds: Vec<_> = found.waits.iter().map(|w| (w.kind, w.direction)).collect();
        assert_eq!(found_kinds, *kinds, "{name}");
        assert_eq!(found.cut, None, "{name}");
        waits.insert(name, found.waits);
        limits.insert(name, found.limit);
    }
    check_things(&fixture, &waits, &limits);
    let headers: Vec<u64> = fixture.tasks.values().map(|task| task.header).collect();
    reader.cost(&headers);
    // Of two futures the first is followed, as both have no function of the program's own.
    let found = reader.suspended(&fixture.tasks["select"]);
    let points = reader.points(&found);
    let several: Vec<_> = points
        .iter()
        .filter(|p| p.kind == PointKind::Several)
        .collect();
    assert_eq!(several.len(), 1);
    assert_eq!(several[0].function, "2 futures polled together");
    assert_eq!(found.followed, Some(1));
    // What the one that is followed waits for is not known.
    let found = reader.suspended(&fixture.tasks["select_unknown"]);
    assert_eq!(found.followed, Some(0));
    // Never polled: where it begins.
    let found = reader.suspended(&fixture.tasks["never"]);
    let points = reader.points(&found);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].kind, PointKind::NotStarted);
    assert_eq!(points[0].function, "awaits::sleep_long::{async_fn#0}");
    // The same place has the same id.
    let first = reader.suspended(&fixture.tasks["notify"]);
    assert_eq!(
        first.points,
        reader.suspended(&fixture.tasks["notify"]).points
    );
}

/// What is waited for is where the program says that it lies.
fn check_things(
    fixture: &Fixture,
    waits: &BTreeMap<&str, Vec<WaitsOn>>,
    limits: &BTreeMap<&str, Option<Mono>>,
) {
    for thing in ["mutex", "rwlock", "semaphore", "notify"] {
        let (start, size) = fixture.things[thing];
        let address = waits[thing][0].address.unwrap();
        assert!((start..start + size).contains(&address), "{thing}");
    }
    for name in ["dynamic", "boxed", "pinned", "method", "around"] {
        assert_eq!(waits[name][0].address, waits["notify"][0].address, "{name}");
    }
    assert_eq!(waits["select"][1].address, waits["notify"][0].address);
    assert_eq!(
        waits["join"][0].address,
        Some(fixture.tasks["pending"].header)
    );
    for name in ["receive", "send", "oneshot", "watch", "broadcast"] {
        assert!(waits[name][0].address.is_some(), "{name}");
    }
    for name in ["accept", "read"] {
        assert!(waits[name][0].fd.unwrap() > 2, "{name}");
    }
    let second = 1_000_000_000;
    let until = |name: &str| waits[name][0].until.unwrap().0;
    assert!(until("sleep").abs_diff(until("timeout")) < second);
    let after = limits["timeout"].unwrap().0 - until("timeout");
    assert!(after.abs_diff(1000 * second) < second, "{after}");
    assert!(
        limits
            .iter()
            .all(|(name, limit)| limit.is_none() || *name == "timeout")
    );
}

/// A web service as people have them: the handler of a request that waits, from the framework's task
/// down to the lock.
#[test]
#[ignore = "builds the service fixture, which takes minutes: cargo test handlers_of_a_web_service -- --ignored --nocapture"]
fn handlers_of_a_web_service_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("../target"), PathBuf::from)
        .join("fixtures/service");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "-q",
            "-j2",
            "--profile",
            "dwarf",
            "--manifest-path",
        ])
        .arg(root.join("tests/fixtures/service/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success());
    let mut child = Command::new(target.join("dwarf/service-fixture"))
        .args(["--duration", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let service = Fixture {
        child,
        tasks: BTreeMap::new(),
        things: BTreeMap::new(),
    };
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let port = next()["port"].as_u64().unwrap() as u16;
    let mut connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection
        .write_all(b"GET /wait HTTP/1.1\r\nHost: service\r\n\r\n")
        .unwrap();
    let header = next()["header"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut reader = Reader::of(service.child.id());
    let found = reader.suspended_at(header);
    let points = reader.points(&found);
    for point in &points {
        println!("  {point:?}");
    }
    println!("  {:?} {:?} {:?}", found.waits, found.limit, found.cut);
    let own: Vec<&str> = points
        .iter()
        .filter(|p| p.kind == PointKind::Await && p.function.starts_with("service_fixture::"))
        .map(|p| p.function.as_str())
        .collect();
    assert_eq!(
        own,
        [
            "service_fixture::wait::{async_fn#0}",
            "service_fixture::locked::{async_fn#0}"
        ]
    );
    assert!(found.followed.is_none_or(|followed| followed == 1));
    assert_eq!(found.waits[0].kind, WaitKind::Mutex);
    assert!(found.limit.is_some());
    reader.cost(&[header]);
}
