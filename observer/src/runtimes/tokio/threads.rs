//! The TLS base of another process's threads, without stopping them. Only the self-check and the census use
//! this; the kernel side knows the TLS base of the running thread.
//!
//! - glibc keeps a pointer to itself in the first and third word of the thread control block (`tcbhead_t`:
//!   `tcb`, `self`), and the thread's id in it (`struct pthread`; glibc `nptl/descr.h`,
//!   `sysdeps/x86_64/nptl/tls.h`).
//! - musl keeps one in the first word, then `dtv`, the block of the thread before and of the one after, two
//!   more words and the thread's id (`struct pthread`; musl `src/internal/pthread_impl.h`, 1.2). From one the
//!   ring leads to all.

use crate::model::Tid;
use crate::model::memory::Memory;
use crate::sys::process::{Mapping, Process};

use super::pointers::le64;

/// How far above the stack pointer a control block is looked for (bytes): above the thread's
/// live stack, which is shallow in threads that wait.
const MAX_ABOVE_STACK: u64 = 1 << 20;
/// How large an anonymous mapping may be that is searched for the main thread's block (bytes).
const MAX_ANONYMOUS: u64 = 256 << 10;
/// `offsetof(struct pthread, tid)`: 0x2d0 in every glibc since 2.4 for x86-64.
const TID: usize = 0x2d0;
/// The same in musl 1.2, where `next` is the fourth word.
const MUSL_TID: usize = 0x30;
const MUSL_NEXT: usize = 0x18;
/// Where in a stack's mapping a control block lies as a rule (bytes from its end). Measured: 2368 with glibc
/// 2.36; little else follows with musl 1.2.
const LAST: u64 = 8 << 10;
/// Threads looked at.
pub const MAX_THREADS: usize = 256;

/// A thread and its TLS base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadBase {
    /// The thread.
    pub tid: Tid,
    /// Its TLS base (what `fs` points to).
    pub base: u64,
}

/// Finds the TLS base of as many threads as can be found, of the first [`MAX_THREADS`]. Empty with another C
/// library, or when the threads may not be read.
pub fn thread_bases(process: &Process, memory: &dyn Memory) -> Vec<ThreadBase> {
    let (Ok(threads), Ok(mappings)) = (process.threads(), process.mappings()) else {
        return Vec::new();
    };
    let found: Vec<ThreadBase> = threads
        .iter()
        .take(MAX_THREADS)
        .filter_map(|&tid| {
            let base = if tid.0 == process.id.pid.0 {
                main_base(tid, &mappings, memory)
            } else {
                let sp = process.blocked_at(tid)?.stack_pointer;
                let mapping = mappings.iter().find(|m| (m.start..m.end).contains(&sp))?;
                let end = mapping.end.min(sp.saturating_add(MAX_ABOVE_STACK));
                let last = mapping.end.saturating_sub(LAST).max(sp);
                find_block(tid, last, mapping.end, memory)
                    .or_else(|| find_block(tid, sp, end, memory))
            }?;
            Some(ThreadBase { tid, base })
        })
        .collect();
    if !found.is_empty() {
        return found;
    }
    let ring = threads.iter().take(MAX_THREADS).find_map(|&tid| {
        let is_main = tid.0 == process.id.pid.0;
        musl_block(tid, is_main, process, &mappings, memory)
    });
    ring.map_or_else(Vec::new, |first| musl_ring(first, &threads, memory))
}

/// A musl thread's block. Another thread's lies at the end of the mapping of its stack, the main thread's in
/// the data of the C library.
fn musl_block(
    tid: Tid,
    is_main: bool,
    process: &Process,
    mappings: &[Mapping],
    memory: &dyn Memory,
) -> Option<u64> {
    let find = |start: u64, end: u64| {
        let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
        memory.read(start, &mut bytes).ok()?;
        (0..bytes.len()).step_by(8).rev().find_map(|i| {
            let base = start + i as u64;
            let own = bytes[i..].get(..8).map(le64) == Some(base);
            let id = bytes.get(i + MUSL_TID..)?.first_chunk::<4>();
            (own && id == Some(&tid.0.to_le_bytes())).then_some(base)
        })
    };
    if !is_main {
        let sp = process.blocked_at(tid)?.stack_pointer;
        let mapping = mappings.iter().find(|m| (m.start..m.end).contains(&sp))?;
        return find(mapping.end.saturating_sub(LAST).max(sp & !7), mapping.end);
    }
    mappings
        .iter()
        .rev()
        .filter(|m| m.writable && m.end - m.start <= MAX_ANONYMOUS)
        .find_map(|m| find(m.start, m.end))
}

/// All threads of the ring that `first` is in.
fn musl_ring(first: u64, threads: &[Tid], memory: &dyn Memory) -> Vec<ThreadBase> {
    let mut found = Vec::new();
    let mut base = first;
    while found.len() < MAX_THREADS {
        let mut block = [0; MUSL_TID + 4];
        if memory.read(base, &mut block).is_err() || le64(&block) != base {
            break;
        }
        let tid = Tid(block[MUSL_TID..]
            .first_chunk()
            .map_or(0, |id| u32::from_le_bytes(*id)));
        if !threads.contains(&tid) {
            break;
        }
        found.push(ThreadBase { tid, base });
        base = le64(&block[MUSL_NEXT..]);
        if base == first {
            break;
        }
    }
    found
}

/// The main thread's block was allocated by the dynamic loader, in small anonymous memory.
fn main_base(tid: Tid, mappings: &[Mapping], memory: &dyn Memory) -> Option<u64> {
    mappings
        .iter()
        .rev()
        .filter(|m| m.writable && m.path.is_none() && m.end - m.start <= MAX_ANONYMOUS)
        .find_map(|m| find_block(tid, m.start, m.end, memory))
}

/// Looks for a control block of thread `tid` in `[start, end)`.
fn find_block(tid: Tid, start: u64, end: u64, memory: &dyn Memory) -> Option<u64> {
    // Blocks are aligned to 64 bytes (`TCB_ALIGNMENT`).
    let start = start.checked_add(63)? & !63;
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    memory.read(start, &mut bytes).ok()?;
    (0..bytes.len()).step_by(64).rev().find_map(|i| {
        let base = start + i as u64;
        let block = &bytes[i..];
        let id = block.get(TID..TID + 4)?;
        (le64(block) == base && le64(&block[16..]) == base && id == tid.0.to_le_bytes())
            .then_some(base)
    })
}
