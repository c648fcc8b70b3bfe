//! Tests of the symbolizer on real processes: this one, C programs that it builds, exited ones.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::resolve::classify;
use crate::skips::skip;

fn start() -> SymbolizerHandle {
    Symbolizer::spawn(SymbolizerConfig::default()).unwrap()
}

fn own_pid() -> Pid {
    Pid(std::process::id())
}

/// Builds a C program that prints the address of its function `blocked_here` and sleeps.
fn c_program(dir: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let source = dir.join("program.c");
    std::fs::write(
        &source,
        "#include <stdio.h>\n#include <unistd.h>\n\
         __attribute__((noinline)) static int blocked_here(int x) {\n  return x * 7 + 1;\n}\n\
         int main(int argc, char **argv) {\n\
         printf(\"%p %p %d\\n\", (void *)blocked_here, (void *)sleep, blocked_here(argc));\n\
         fflush(stdout);\n  sleep(60);\n  return 0;\n}\n",
    )
    .unwrap();
    let out = dir.join(name);
    let built = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&out)
        .arg(&source)
        .args(flags)
        .status();
    assert!(built.expect("cc runs: rustc links with it").success());
    out
}

struct Running {
    child: Child,
    function: u64,
    libc: u64,
}

impl Running {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let mut words = line.split_whitespace();
        Self {
            function: hex(words.next().unwrap()),
            libc: hex(words.next().unwrap()),
            child,
        }
    }

    fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::inline_always, reason = "inlining is what the test is about")]
#[inline(always)]
fn inlined_inner() -> u64 {
    let at: u64;
    // SAFETY: reads the instruction pointer only.
    unsafe { std::arch::asm!("lea {}, [rip]", out(reg) at) };
    at
}

#[inline(never)]
fn outer_function() -> u64 {
    inlined_inner()
}

#[test]
fn this_process_is_symbolized_with_files_lines_and_inlined_functions() {
    let handle = start();
    let address = outer_function();
    let frames = handle.process(own_pid(), &[address], Addresses::Exact);
    let names: Vec<_> = frames
        .iter()
        .filter_map(|f| f.function.as_deref())
        .collect();
    assert_eq!(names.len(), 2, "{frames:?}");
    assert!(names[0].ends_with("inlined_inner"), "{names:?}");
    assert!(names[1].ends_with("tests::outer_function"), "{names:?}");
    let file = frames[1].file.as_deref().unwrap();
    assert!(file.ends_with("resolve/symbols/tests.rs"), "{file}");
    // Each frame has its own line: the callee's is above the caller's in this file.
    assert!(
        frames[0].line.unwrap() < frames[1].line.unwrap(),
        "{frames:?}"
    );
    assert!(
        frames
            .iter()
            .all(|f| f.address == address && f.kind == FrameKind::User)
    );

    let again = handle.process(own_pid(), &[address], Addresses::Exact);
    assert_eq!(frames, again);
    assert_eq!(handle.stats().unwrap().hits, 1);
    handle.evict().unwrap();
    assert_eq!(
        handle.process(own_pid(), &[address], Addresses::Exact),
        frames
    );
}

#[test]
fn what_was_learnt_is_answered_from_memory() {
    let handle = start();
    let addresses = [
        libc::nanosleep as *const () as u64 + 1,
        outer_function() + 1,
        outer_function() + 1,
        8,
    ];
    let expected = handle.process(own_pid(), &addresses, Addresses::AfterCall);
    let handle = start();
    handle.learn(own_pid(), addresses.to_vec());
    let learnt = handle.stats().unwrap();
    // Two different ones; at the third there is no code.
    assert_eq!((learnt.lookups, learnt.hits, learnt.cached), (2, 0, 2));
    let frames = handle.process(own_pid(), &addresses, Addresses::AfterCall);
    assert_eq!(frames, expected);
    let asked = handle.stats().unwrap();
    assert_eq!((asked.lookups, asked.hits), (5, 3));
    handle.learn(Pid(u32::MAX), vec![1]);
}

#[test]
fn standard_library_and_libc_functions_are_runtime() {
    let handle = start();
    let addresses = [
        std::thread::sleep as *const () as u64,
        libc::nanosleep as *const () as u64,
    ];
    let frames = handle.process(own_pid(), &addresses, Addresses::Exact);
    assert!(
        frames.iter().all(|f| f.kind == FrameKind::Runtime),
        "{frames:?}"
    );
    let function = frames[0].function.as_deref().unwrap();
    assert!(function.starts_with("std::thread::"), "{function}");
    assert!(function.ends_with("::sleep"), "{function}");
    assert!(classify::site(&frames).reason().is_some());
}

#[test]
fn an_address_in_no_mapping_says_so() {
    let handle = start();
    let frames = handle.process(
        own_pid(),
        &[0, 1, u64::MAX, 0xdead_beef_0000],
        Addresses::AfterCall,
    );
    assert_eq!(frames.len(), 4);
    for frame in &frames {
        assert!(frame.function.is_none());
        assert!(
            frame
                .unknown_reason
                .as_ref()
                .unwrap()
                .0
                .contains("no code is mapped")
        );
    }
}

#[test]
fn an_exited_process_is_symbolized_when_it_was_prepared_even_when_its_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let program = c_program(dir.path(), "exits", &["-g"]);
    let handle = start();
    let mut running = Running::start(&program);
    handle.prepare(running.pid()).unwrap();
    running.stop();
    std::fs::remove_file(&program).unwrap();
    let frames = handle.process(
        running.pid(),
        &[running.function, running.libc],
        Addresses::Exact,
    );
    assert_eq!(
        frames[0].function.as_deref(),
        Some("blocked_here"),
        "{frames:?}"
    );
    assert!(matches!(frames[0].line, Some(3 | 4)), "{frames:?}");
    assert_eq!(frames[0].module.as_deref(), Some("exits"));
    assert_eq!(frames[0].kind, FrameKind::User);
    assert_eq!(frames[1].kind, FrameKind::Runtime);
    assert!(frames[1].module.as_deref().unwrap().starts_with("libc"));
    handle.forget(running.pid()).unwrap();
    let gone = handle.process(running.pid(), &[running.function], Addresses::Exact);
    assert!(gone[0].unknown_reason.is_some());
}

#[test]
fn a_stripped_program_is_not_given_the_name_of_a_symbol_nearby() {
    let dir = tempfile::tempdir().unwrap();
    // -rdynamic leaves some names in the dynamic table: the trap is to use the nearest one.
    let program = c_program(dir.path(), "stripped", &["-s", "-rdynamic"]);
    let handle = start();
    let running = Running::start(&program);
    let frames = handle.process(running.pid(), &[running.function], Addresses::Exact);
    assert_eq!(frames[0].function, None, "{frames:?}");
    assert!(
        frames[0]
            .unknown_reason
            .as_ref()
            .unwrap()
            .0
            .contains("stripped is stripped")
    );
    // It is still a place: module and address are known.
    assert!(classify::site(&frames).known().is_some());
}

#[test]
fn code_without_a_file_is_said_to_be_made_at_run_time() {
    let handle = start();
    // SAFETY: a fresh private mapping that nothing else uses; it is never executed.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let frames = handle.process(own_pid(), &[page as u64 + 16], Addresses::Exact);
    // SAFETY: unmaps what was mapped above.
    unsafe { libc::munmap(page, 4096) };
    assert!(
        frames[0].unknown_reason.as_ref().unwrap().0.contains("JIT"),
        "{frames:?}"
    );
}

#[test]
fn damaged_files_cost_their_own_symbols_only() {
    use std::os::fd::AsRawFd;

    let dir = tempfile::tempdir().unwrap();
    let program = c_program(dir.path(), "damaged", &["-g"]);
    let whole = std::fs::read(&program).unwrap();
    let handle = start();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=(round % 40) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Headers, then sections: symbols and debug information are at the end.
            let from = if round % 3 == 0 { 0 } else { bytes.len() / 2 };
            let at =
                from + (seed >> 8) as usize % if round % 3 == 0 { 512 } else { bytes.len() / 2 };
            bytes[at] = seed as u8;
        }
        if round % 5 == 0 {
            bytes.truncate(4096 + (seed as usize % (bytes.len() - 4096)));
        }
        let path = dir.path().join(format!("damaged-{round}"));
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        // SAFETY: a fresh private mapping of a file that nothing else uses; never executed or read.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                8192,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        } as u64;
        handle.prepare(own_pid()).unwrap();
        let addresses: Vec<u64> = (0..32).map(|i| page + 4096 + i * 16).collect();
        let frames = handle.process(own_pid(), &addresses, Addresses::Exact);
        assert!(frames.len() >= addresses.len());
        // SAFETY: unmaps what was mapped above.
        unsafe { libc::munmap(page as *mut libc::c_void, 8192) };
    }
    let frames = handle.process(own_pid(), &[outer_function()], Addresses::Exact);
    assert_eq!(frames.len(), 2);
}

#[derive(Debug)]
struct Made;

impl ModuleSymbols for Made {
    fn lookup(&self, file_vaddr: u64) -> Option<Vec<ResolvedFrame>> {
        let name = |function: &str| ResolvedFrame {
            function: format!("{function}_{}", file_vaddr % 2),
            file: Some("made.go".into()),
            line: Some(7),
            kind: Some(FrameKind::Runtime),
        };
        Some(vec![name("inner"), name("outer")])
    }
}

#[test]
fn a_language_s_own_symbols_come_first() {
    let handle = Symbolizer::spawn(SymbolizerConfig {
        plugins: vec![Box::new(|_| Some(Box::new(Made)))],
        ..SymbolizerConfig::default()
    })
    .unwrap();
    let address = outer_function();
    let frames = handle.process(own_pid(), &[address], Addresses::Exact);
    assert_eq!(frames.len(), 2);
    assert!(frames[0].function.as_deref().unwrap().starts_with("inner_"));
    assert_eq!(
        (frames[1].line, frames[1].kind),
        (Some(7), FrameKind::Runtime)
    );
    drop(handle);

    let handle = start();
    let id = ModuleId::of_exe(own_pid()).unwrap();
    handle.register(id, Box::new(Made)).unwrap();
    let frames = handle.process(own_pid(), &[address], Addresses::Exact);
    assert!(frames[0].function.as_deref().unwrap().starts_with("inner_"));
}

#[test]
fn kernel_addresses_get_kernel_functions_or_a_reason() {
    let found = crate::sys::kallsyms::addresses(&["schedule"]);
    let handle = start();
    let address = found["schedule"]
        .known()
        .map_or(0xffff_ffff_8100_0000, |a| a + 9);
    let frames = handle.kernel(&[address]);
    assert_eq!(frames[0].kind, FrameKind::Kernel);
    if found["schedule"].known().is_some() {
        assert_eq!(frames[0].function.as_deref(), Some("schedule"));
    } else {
        assert!(frames[0].unknown_reason.is_some());
    }
}

/// A kernel function of 2 to 32 KiB, which some lie before and behind, by its list; `None` when addresses
/// are hidden.
fn long_kernel_function() -> Option<(u64, String)> {
    let list = std::fs::read_to_string("/proc/kallsyms").ok()?;
    let mut symbols: Vec<(u64, bool, &str)> = list
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let is_code = matches!(words.next()?, "t" | "T");
            Some((address, is_code, words.next()?))
        })
        .collect();
    symbols.sort_unstable();
    symbols.windows(2).find_map(|pair| {
        let (address, is_code, name) = pair[0];
        let length = pair[1].0.checked_sub(address)?;
        (is_code && address != 0 && (2048..32768).contains(&length))
            .then(|| (address, name.to_owned()))
    })
}

#[test]
fn an_address_far_inside_of_a_kernel_function_is_named_though_the_kernel_tells_no_sizes() {
    let Some((start_of, name)) = long_kernel_function() else {
        skip!("kernel addresses are hidden");
    };
    let frames = start().kernel(&[start_of + 2000]);
    assert_eq!(frames[0].function.as_deref(), Some(&*name));
}

#[test]
fn requests_can_be_made_without_waiting() {
    let handle = start();
    let (sender, receiver) = mpsc::channel();
    handle
        .submit(
            own_pid(),
            &[outer_function()],
            Addresses::Exact,
            move |frames| {
                drop(sender.send(frames));
            },
        )
        .unwrap();
    assert_eq!(receiver.recv().unwrap().len(), 2);
}

#[test]
fn remembered_processes_stay_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let program = c_program(dir.path(), "many", &[]);
    let handle = Symbolizer::spawn(SymbolizerConfig {
        limits: Limits {
            processes: 2,
            ..Limits::default()
        },
        ..SymbolizerConfig::default()
    })
    .unwrap();
    let running: Vec<_> = (0..4).map(|_| Running::start(&program)).collect();
    for one in &running {
        handle.prepare(one.pid()).unwrap();
    }
    let stats = handle.stats().unwrap();
    assert_eq!(stats.processes, 2);
    // The program, libc and the loader, shared.
    assert!(stats.modules <= 4, "{stats:?}");
}
