//! Following goroutines exactly: the place of a probe in `runtime.casgstatus`, through which the
//! runtime changes a goroutine's state, and the states that goroutines are in before the first change.
//!
//! One probe tells all: the arguments are the goroutine, its old and its new state; `gp.waitreason` is
//! set before a wait begins (`gopark`, `casGToWaiting`), `gp.gopc` before a goroutine is made ready for
//! the first time (`newproc1`), and who calls it to end a wait is the waker (`goready` on the system
//! stack of the waker's thread, whose `m.curg` is the waking goroutine; nobody when the scheduler
//! itself does it). Source: `src/runtime/proc.go` of Go 1.21 to 1.27.

use std::time::{Duration, Instant};

use object::{Object as _, ObjectSymbol as _};

use super::live::{DEAD, STATUS_MASK, read_allgs, u32_at, u64_at};
use super::{GoProcess, GoSymbols};
use crate::model::memory::{Memory, ReadRequest};
use crate::model::{Known, Reason};
use crate::probes::spec::{CodeProbe, Need};
use crate::runtimes::reading::walk_frame_pointers;
use crate::runtimes::{CodeProbes, CodeReader, GoTransitions};
use crate::sys::code::{CodeSite, site_at};
use crate::sys::elf::{self, Elf};

/// The function.
const FUNCTION: &str = "runtime.casgstatus";
/// The versions whose source was read for the above.
const VERSIONS: std::ops::RangeInclusive<u32> = 21..=27;
/// The first version in which system calls change the state without `casgstatus`
/// (`src/runtime/proc.go`, entersyscall and exitsyscall of Go 1.26).
const SYSCALLS_APART: u32 = 26;
/// `push %rbp; mov %rsp,%rbp`: how every function with a frame begins since Go 1.21 that has no check
/// of the stack's size; `casgstatus` has none (`//go:nosplit`). The kernel emulates the push; other
/// instructions it must single-step, which costs over ten times as much.
pub(super) const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];
/// Goroutines whose state is read at the beginning, at most.
const MAX_SEEDS: u64 = 1 << 18;
/// Goroutines that are read at a time.
const CHUNK: u64 = 4096;
/// For how long stacks of waiting goroutines are read at the beginning: some 10 µs each.
const STACKS: Duration = Duration::from_millis(250);
/// `_Grunning`, `_Gsyscall`, `_Gwaiting`.
const RUNNING: u32 = 2;
const SYSCALL: u32 = 3;
const WAITING: u32 = 4;
/// States from here on are of a `g` that is no goroutine (`_Gleaked`, `_Gdeadextra`, Go 1.26).
const NOT_ALIVE: u32 = 10;

/// The probe, with its place or why there is none.
pub fn code_probes(go: &GoProcess) -> Known<CodeProbes> {
    if !VERSIONS.contains(&go.minor) {
        return Known::Unknown(Reason::with(format!(
            "Go 1.{}: probes were tried with 1.{} to 1.{} only",
            go.minor,
            VERSIONS.start(),
            VERSIONS.end()
        )));
    }
    let site = match go.symbols.image().parse() {
        Ok(elf) => match place(&go.symbols, &elf) {
            Ok(site) => Known::Known(site),
            Err(reason) => Known::Unknown(reason),
        },
        Err(error) => Known::Unknown(Reason::with(error.to_string())),
    };
    let o = &go.offsets;
    Known::Known(CodeProbes {
        probes: vec![CodeProbe {
            name: FUNCTION.to_owned(),
            program: "go_casgstatus",
            need: Need::Required,
            site,
            data: 0,
            first_out: false,
        }],
        reader: CodeReader::Go(GoTransitions {
            g_m: o.g_m,
            g_goid: o.g_goid,
            g_waitreason: o.g_waitreason,
            g_gopc: o.g_gopc,
            g_sched_pc: o.g_sched + 8,
            g_sched_bp: o.g_sched_bp(),
            m_curg: o.m_curg,
            syscalls: go.minor < SYSCALLS_APART,
            minor: go.minor,
            g_status: o.g_status,
            allgs: go.allgs,
        }),
    })
}

/// The first instruction of the function: where the function table and, if there is one, the symbol
/// table agree that it begins, and where it begins the way it is known to.
pub(super) fn place(symbols: &GoSymbols, elf: &Elf<'_>) -> Result<CodeSite, Reason> {
    let table = symbols.pclntab().ok_or(Reason::new(
        "the table of functions can not be read any more",
    ))?;
    let function = table
        .by_name(FUNCTION)
        .ok_or(Reason::new("it is not in the table of functions"))?;
    let listed: Vec<u64> = elf
        .symbols()
        .filter(|symbol| symbol.name() == Ok(FUNCTION))
        .map(|symbol| symbol.address())
        .collect();
    if !listed.is_empty() && !listed.contains(&function.entry) {
        return Err(Reason::new(
            "the tables of functions and of symbols disagree about its place",
        ));
    }
    let code =
        elf::bytes_at(elf, function.entry).ok_or(Reason::new("no segment of the file holds it"))?;
    if !code.starts_with(&PROLOGUE) {
        return Err(Reason::new(
            "it does not begin as it does in known versions",
        ));
    }
    site_at(elf, function.entry, function.entry)
}

/// A goroutine that has not changed its state since the probe was in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Address of its `g`.
    pub g: u64,
    /// Its state.
    pub state: u8,
    /// Waiting: its wait reason.
    pub reason: u8,
    /// Waiting: its frames, nearest first.
    pub frames: Vec<u64>,
}

/// The states of all goroutines. `frames`: how many of a stack are read at most.
///
/// # Errors
/// When the list of goroutines can not be read.
pub fn seeds(memory: &dyn Memory, go: &GoTransitions, frames: usize) -> Result<Vec<Seed>, Reason> {
    let failed = |e: crate::model::memory::ReadError| Reason::with(e.to_string());
    let (array, len) = read_allgs(memory, go.allgs)?;
    let last = [
        go.g_status + 4,
        go.g_waitreason + 1,
        go.g_sched_pc + 8,
        go.g_sched_bp + 8,
    ];
    let size = last.into_iter().max().unwrap_or(0) as usize;
    let mut seeds = Vec::new();
    let started = Instant::now();
    let mut at = 0;
    while at < len.min(MAX_SEEDS) {
        let count = CHUNK.min(len.min(MAX_SEEDS) - at) as usize;
        let mut list = vec![0; 8 * count];
        memory.read(array + 8 * at, &mut list).map_err(failed)?;
        let mut bytes = vec![0; size * count];
        let mut reads: Vec<ReadRequest<'_>> = bytes
            .chunks_exact_mut(size)
            .enumerate()
            .map(|(i, buf)| ReadRequest {
                addr: u64_at(&list, 8 * i).unwrap_or(0),
                buf,
                ok: false,
            })
            .collect();
        memory.read_batch(&mut reads).map_err(failed)?;
        for read in reads.iter().filter(|read| read.ok) {
            let limit = if started.elapsed() < STACKS {
                frames
            } else {
                0
            };
            seeds.extend(seed(memory, go, read.addr, read.buf, limit));
        }
        at += count as u64;
    }
    Ok(seeds)
}

fn seed(
    memory: &dyn Memory,
    go: &GoTransitions,
    g: u64,
    bytes: &[u8],
    frames: usize,
) -> Option<Seed> {
    let state = u32_at(bytes, go.g_status as usize)? & STATUS_MASK;
    if state == 0 || state == DEAD || state >= NOT_ALIVE {
        return None;
    }
    let mut seed = Seed {
        g,
        // Where system calls do not show, they are part of running.
        state: if state == SYSCALL && !go.syscalls {
            RUNNING as u8
        } else {
            state as u8
        },
        reason: 0,
        frames: Vec::new(),
    };
    if state == WAITING {
        seed.reason = bytes.get(go.g_waitreason as usize).copied()?;
        if frames > 0 {
            let word = |at: u32| u64_at(bytes, at as usize);
            let (pc, bp) = (word(go.g_sched_pc)?, word(go.g_sched_bp)?);
            seed.frames = walk_frame_pointers(memory, pc, bp, frames);
        }
    }
    Some(seed)
}
