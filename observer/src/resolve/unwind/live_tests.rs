//! The unwinder against real processes: a thread that waits in a system call, its stack read from
//! outside, must lead to the function of the program that blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSymbol as _};

use super::*;
use crate::model::memory::Memory as _;
use crate::model::{Known, Tid};
use crate::sys::elf::ElfImage;
use crate::sys::memory::ProcessMemory;
use crate::sys::process::Process;

/// Killed by pid when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// Compiles the native fixture once per set of flags.
fn native(name: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/native/threads.rs");
    let directory = target_dir().join("fixtures/native");
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join(name);
    // Tests run side by side: each compiles for itself, the last one's program stays.
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let turn = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let own = directory.join(format!("{name}-{}-{turn}", std::process::id()));
    let status = Command::new("rustc")
        .args(["--edition", "2021", "-O", "-C", "opt-level=3"])
        .args(flags)
        .arg("-o")
        .arg(&own)
        .arg(source)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(&own, &program).unwrap();
    program
}

fn start(program: &Path, args: &[&str]) -> (Running, Process) {
    let child = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid(child.id());
    let running = Running(child);
    std::thread::sleep(Duration::from_millis(300));
    (running, Process::open(pid).unwrap())
}

/// A C program that waits in a function of its own, below one of a library without unwind tables, in
/// which the stack pointer is moved in several ways.
fn through_a_library_without_tables(directory: &Path) -> PathBuf {
    let compile = |name: &str, source: &str, flags: &[&str]| {
        let file = directory.join(format!("{name}.c"));
        std::fs::write(&file, source).unwrap();
        let status = Command::new("cc")
            .current_dir(directory)
            .args(["-O2", "-fomit-frame-pointer", "-o", name])
            .arg(&file)
            .args(flags)
            .status()
            .unwrap();
        assert!(status.success());
    };
    compile(
        "libbare.so",
        "#include <string.h>
         #include <stdlib.h>
         int bare(int (*next)(char *), int depth) {
             char room[400];
             memset(room, depth, sizeof room);
             if (depth > 3) abort();
             int sum = depth == 0 ? next(room) : bare(next, depth - 1);
             if (sum == 7) exit(sum);
             return sum + room[sum & 63];
         }",
        &[
            "-shared",
            "-fPIC",
            "-fno-optimize-sibling-calls",
            "-fno-asynchronous-unwind-tables",
            "-fno-unwind-tables",
            "-nostartfiles",
            "-Wl,--no-eh-frame-hdr",
            "-Wl,--no-ld-generated-unwind-info",
        ],
    );
    compile(
        "through",
        "#include <unistd.h>
         int bare(int (*next)(char *), int depth);
         static int __attribute__((noinline)) waits(char *room) {
             return pause() + room[0];
         }
         int __attribute__((noinline)) calls(void) { return bare(waits, 2) + 1; }
         int main(void) { return calls() + 1; }",
        &["-L.", "-lbare", "-Wl,-rpath,$ORIGIN"],
    );
    directory.join("through")
}

#[test]
fn functions_without_unwind_tables_are_left_by_their_own_code() {
    let directory = tempfile::tempdir().unwrap();
    let program = through_a_library_without_tables(directory.path());
    watch(&program, &[], &["waits", "calls", "main"]);
}

/// The function of the executable that holds a return address.
fn function(process: &Process, image: &ElfImage, address: u64) -> Option<String> {
    let mapping = code_mappings(process.id.pid)
        .ok()?
        .into_iter()
        .find(|m| (m.start..m.end).contains(&address))?;
    let Backing::File { path, .. } = &mapping.backing else {
        return None;
    };
    if *path != process.exe.display().to_string() {
        return None;
    }
    let elf = image.parse().ok()?;
    let offset = address - 1 - mapping.start + mapping.offset;
    let target = object::Object::segments(&elf).find_map(|s| {
        use object::ObjectSegment as _;
        let (start, size) = s.file_range();
        (start..start + size)
            .contains(&offset)
            .then(|| s.address() + offset - start)
    })?;
    elf.symbols()
        .filter(|s| (s.address()..s.address() + s.size()).contains(&target))
        .find_map(|s| Some(format!("{:#}", rustc_demangle::demangle(s.name().ok()?))))
}

/// Unwinds waiting threads for a while; every function of `wanted` must turn up.
fn watch(program: &Path, args: &[&str], wanted: &[&str]) {
    let (_running, process) = start(program, args);
    let pid = process.id.pid;
    let memory = ProcessMemory::new(pid);
    let image = ElfImage::open(&process.exe_handle()).unwrap();
    let mut tables = TableCache::new();
    let begin = Instant::now();
    let mut unwinder = Unwinder::new(pid, &mut tables).unwrap();
    println!(
        "{}: {} files in {:?}",
        program.display(),
        tables.len(),
        begin.elapsed()
    );
    let (mut seen, mut reasons, mut count, mut took) =
        (BTreeSet::new(), BTreeMap::new(), 0_u32, Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end && !wanted.iter().all(|w| seen.contains(*w)) {
        for Tid(tid) in process.threads().unwrap() {
            let Some(at) = process.blocked_at(Tid(tid)) else {
                continue;
            };
            let mut stack = vec![0_u8; 16 << 10];
            while !stack.is_empty() && memory.read(at.stack_pointer, &mut stack).is_err() {
                stack.truncate(stack.len() / 2);
            }
            // A thread that went on and came back to the same place tears the copy.
            let mut again = vec![0_u8; stack.len()];
            let same = memory.read(at.stack_pointer, &mut again).is_ok() && again == stack;
            if !same || process.blocked_at(Tid(tid)) != Some(at) {
                continue;
            }
            let regs = Regs {
                ip: at.instruction_pointer,
                sp: at.stack_pointer,
                bp: None,
            };
            let begin = Instant::now();
            let unwound = unwinder.unwind(regs, &stack, 128);
            took += begin.elapsed();
            count += 1;
            assert_eq!(unwound.frames[0], regs.ip);
            let names: Vec<_> = unwound
                .frames
                .iter()
                .filter_map(|&a| function(&process, &image, a))
                .collect();
            for &w in wanted {
                if names.iter().any(|n| n.contains(w)) {
                    seen.insert(w);
                }
            }
            if let Some(reason) = unwound.truncated {
                let entry = reasons
                    .entry(reason.to_string())
                    .or_insert((0, unwound.frames, names));
                entry.0 += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    println!(
        "  {count} stacks, {:?} each; cut: {reasons:x?}",
        took / count.max(1)
    );
    // Every cut has the one reason that reading from /proc explains.
    assert!(
        reasons.keys().all(|r| r == NEEDS_FRAME_POINTER),
        "{reasons:x?}"
    );
    let missing: Vec<_> = wanted.iter().filter(|w| !seen.contains(**w)).collect();
    assert!(missing.is_empty(), "not seen: {missing:?}, seen {seen:?}");
}

/// Reached without the frame pointer register; the others wait in std, which keeps frame pointers.
const DIRECT: [&str; 1] = ["syncer"];
const NEEDS_FRAME_POINTER: &str = "a frame needs the frame pointer register, which was not read";

#[test]
fn threads_of_a_native_program_are_unwound_to_their_function() {
    watch(&native("threads", &[]), &["--duration", "10"], &DIRECT);
}

#[test]
fn frame_pointers_are_judged_by_the_tables() {
    let judge = |path: &Path| has_frame_pointers(&Arc::new(ElfImage::open(path).unwrap()));
    assert_eq!(judge(&native("threads", &[])), Known::Known(false));
    let with = native("threads-fp", &["-C", "force-frame-pointers=yes"]);
    assert_eq!(judge(&with), Known::Known(true));
    watch(&with, &["--duration", "10"], &DIRECT);
}

#[test]
fn tokio_tasks_are_unwound_to_the_function_that_blocks() {
    let program = crate::runtimes::tokio::live_tests::build("release");
    let judged = has_frame_pointers(&Arc::new(ElfImage::open(&program).unwrap()));
    assert_eq!(judged, Known::Known(false));
    let wanted = ["blocking_fsync", "blocking_read"];
    for flavor in ["multi_thread", "current_thread"] {
        watch(&program, &["--duration", "6", "--flavor", flavor], &wanted);
    }
}

/// With all three registers the stack is whole: this thread's own, copied at a known place.
#[inline(never)]
fn innermost(unwinder: &mut Unwinder) -> Unwound {
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers and changes nothing.
    unsafe {
        std::arch::asm!(
            "lea {ip}, [rip]",
            "mov {sp}, rsp",
            "mov {bp}, rbp",
            ip = out(reg) ip,
            sp = out(reg) sp,
            bp = out(reg) bp,
            options(nomem, nostack, preserves_flags)
        );
    }
    let mut stack = vec![0_u8; 64 << 10];
    let memory = ProcessMemory::new(Pid(std::process::id()));
    while memory.read(sp, &mut stack).is_err() {
        stack.truncate(stack.len() / 2);
    }
    unwinder.unwind(
        Regs {
            ip,
            sp,
            bp: Some(bp),
        },
        &stack,
        200,
    )
}

#[inline(never)]
fn middle(unwinder: &mut Unwinder, depth: u32) -> Unwound {
    let unwound = if depth == 0 {
        innermost(unwinder)
    } else {
        middle(unwinder, depth - 1)
    };
    std::hint::black_box(unwound)
}

#[test]
fn a_stack_with_all_registers_is_whole() {
    let process = Process::open(Pid(std::process::id())).unwrap();
    let mut tables = TableCache::new();
    let mut unwinder = Unwinder::new(process.id.pid, &mut tables).unwrap();
    let unwound = std::thread::scope(|s| s.spawn(|| middle(&mut unwinder, 5)).join().unwrap());
    assert_eq!(unwound.truncated, None, "{unwound:x?}");
    let image = ElfImage::open(&process.exe_handle()).unwrap();
    let names: Vec<_> = unwound.frames[1..]
        .iter()
        .filter_map(|&a| function(&process, &image, a))
        .collect();
    assert_eq!(
        names
            .iter()
            .filter(|n| n.ends_with("live_tests::middle"))
            .count(),
        6,
        "{names:?}"
    );
    // A limit on frames, and a stack cut short, are said.
    let short = unwinder.unwind(
        Regs {
            ip: unwound.frames[0],
            sp: 0x7000,
            bp: None,
        },
        &[0; 8],
        50,
    );
    assert!(short.truncated.is_some());
}

/// Damaged tables and stacks of any bytes: no panic, and no more frames than asked for.
#[test]
fn damaged_tables_never_panic_and_stay_bounded() {
    let original = std::fs::read(native("threads", &[])).unwrap();
    let image = ElfImage::from_bytes("x", &original).unwrap();
    let (header, frames) = super::tables::locate(&image.parse().unwrap()).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let stack: Vec<u8> = (0..4096).map(|_| next() as u8).collect();
    let mut unwound = 0;
    for round in 0..300 {
        let mut bytes = original.clone();
        // The file's headers, the table's header, the frames: each is damaged in turn.
        let (start, length) = [(0, 1024), (header, 4096), (frames, 40_000)][round % 3];
        for _ in 0..=round % 40 {
            let at = (start + next() % length) as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        if round % 10 == 9 {
            let cut = next() as usize % bytes.len();
            bytes.truncate(cut);
        }
        let Ok(image) = ElfImage::from_bytes("damaged", &bytes) else {
            continue;
        };
        let image = Arc::new(image);
        drop(has_frame_pointers(&image));
        let Ok(image) = ElfImage::from_bytes("damaged", &bytes) else {
            continue;
        };
        let Ok(mut unwinder) = Unwinder::of_file(image) else {
            continue;
        };
        let Some((low, high)) = unwinder.ranges.first().map(|r| (r.start, r.end)) else {
            continue;
        };
        for _ in 0..20 {
            let ip = low + next() % (high - low).max(1);
            // Return addresses into the code, or the stack would end at once.
            let mut stack = stack.clone();
            for slot in stack.chunks_exact_mut(8).step_by(2) {
                slot.copy_from_slice(&(low + next() % (high - low).max(1)).to_le_bytes());
            }
            let regs = Regs {
                ip,
                sp: 0x7fff_0000,
                bp: Some(0x7fff_0000 + next() % 4096),
            };
            let out = unwinder.unwind(regs, &stack, 64);
            assert!(out.frames.len() <= 64);
            unwound += out.frames.len();
        }
    }
    assert!(
        unwound > 1000,
        "the damage left nothing to unwind: {unwound}"
    );
}
