//! Where a `LocalSet` keeps its tasks. No thread-local refers to one while its thread sleeps, but the
//! thread that drives it has it on its stack, or a reference to it: `LocalSet::context` is an
//! `Rc<Context>`, which begins with an `Arc<Shared>` (tokio `task/local.rs`, 1.23 to 1.54). `Shared` holds the
//! list, and each task in it points back: its `Core::scheduler` is that `Arc`. So nothing else is taken for one.

use std::collections::HashSet;

use crate::model::memory::{Memory, ReadError, ReadRequest};
use crate::sys::process::{Mapping, Process};

use super::super::pointers::le64;
use super::super::threads::ThreadBase;
use super::owned::{Owned, TaskForms, linked};

/// How much of a thread's live stack is looked at (bytes).
const MAX_STACK: u64 = 128 << 10;
/// A `LocalSet` that is not on the stack itself lies within so many words of what the stack refers to: it
/// may be a part of something else (of `Runtime` in actix-rt).
const NEAR: usize = 16;
/// `Shared` with the counts of its `Arc` (words): 19 in tokio 1.54, some more with `tokio_unstable`.
const SHARED: usize = 32;
/// Where the value of an `Rc` or `Arc` begins, after its two counts (words).
const VALUE: usize = 2;
/// More references than this are no count.
const MAX_COUNT: u64 = 1 << 32;
/// Addresses followed of one stack.
const MAX_FOLLOWED: usize = 1 << 16;

/// A `LocalSet` with tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSet {
    /// Address of its `Arc<Shared>`.
    pub shared: u64,
    /// Its tasks.
    pub owned: Owned,
}

/// The `LocalSet`s of threads that are in a system call now.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn local_sets(
    process: &Process,
    threads: &[ThreadBase],
    forms: &dyn TaskForms,
    memory: &dyn Memory,
) -> Result<Vec<LocalSet>, ReadError> {
    let Ok(mappings) = process.mappings() else {
        return Ok(Vec::new());
    };
    let data: Vec<&Mapping> = mappings.iter().filter(|m| m.writable).collect();
    let of = |address: u64| {
        let next = data.partition_point(|mapping| mapping.end <= address);
        data.get(next).filter(|mapping| mapping.start <= address)
    };
    let mut found = Vec::new();
    for thread in threads {
        let Some(stack_pointer) = process.blocked_at(thread.tid).map(|at| at.stack_pointer) else {
            continue;
        };
        let Some(stack) = of(stack_pointer) else {
            continue;
        };
        let start = stack_pointer & !7;
        let mut bytes = vec![0; (stack.end - start).min(MAX_STACK) as usize];
        match memory.read(start, &mut bytes) {
            Err(ReadError::Unmapped(_)) => continue,
            read => read?,
        }
        let words: Vec<u64> = bytes.chunks_exact(8).map(le64).collect();
        found.extend(on_stack(
            &words,
            &|address| of(address).is_some(),
            forms,
            memory,
        )?);
    }
    Ok(found)
}

/// The `LocalSet`s that words of a stack lead to. `is_data` tells whether an address may be that of data.
pub(super) fn on_stack(
    words: &[u64],
    is_data: &dyn Fn(u64) -> bool,
    forms: &dyn TaskForms,
    memory: &dyn Memory,
) -> Result<Vec<LocalSet>, ReadError> {
    let mut followed = HashSet::new();
    let mut new = |words: &mut dyn Iterator<Item = u64>| -> Vec<u64> {
        words
            .filter(|word| word.is_multiple_of(8) && is_data(*word))
            .filter(|word| followed.len() < MAX_FOLLOWED && followed.insert(*word))
            .collect()
    };
    // A `LocalSet` on the stack gives its `Context` at once, a reference to one gives it in the next step.
    let first = read::<NEAR>(&new(&mut words.iter().copied()), memory)?;
    let behind = new(&mut first.iter().flat_map(|block| block.words));
    let second = read::<{ VALUE + 1 }>(&behind, memory)?;
    let contexts = first
        .iter()
        .filter_map(|block| value(&block.words))
        .chain(second.iter().filter_map(|block| value(&block.words)));
    // They may have been seen on the way.
    let shared: HashSet<u64> = contexts
        .filter(|word| word.is_multiple_of(8) && is_data(*word))
        .collect();
    let shared: Vec<u64> = shared.into_iter().collect();
    Ok(read::<SHARED>(&shared, memory)?
        .iter()
        .filter(|block| value(&block.words).is_some())
        .filter_map(|block| local_set(block, forms, memory))
        .collect())
}

/// What lies at an address.
struct Block<const N: usize> {
    at: u64,
    words: [u64; N],
}

/// Reads so many words at each of the addresses; those that can not be read are left out.
fn read<const N: usize>(
    addresses: &[u64],
    memory: &dyn Memory,
) -> Result<Vec<Block<N>>, ReadError> {
    let mut bytes = vec![0; addresses.len() * N * 8];
    let mut requests: Vec<ReadRequest<'_>> = addresses
        .iter()
        .zip(bytes.chunks_exact_mut(N * 8))
        .map(|(&addr, buf)| ReadRequest {
            addr,
            buf,
            ok: false,
        })
        .collect();
    memory.read_batch(&mut requests)?;
    Ok(requests
        .iter()
        .filter(|request| request.ok)
        .map(|request| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(request.buf.chunks_exact(8)) {
                *word = le64(bytes);
            }
            let at = request.addr;
            Block { at, words }
        })
        .collect())
}

/// The first word of what an `Rc` or `Arc` holds, if that is what the words are.
fn value(words: &[u64]) -> Option<u64> {
    let counts = words.get(..VALUE)?;
    let are_counts = counts.iter().all(|count| (1..MAX_COUNT).contains(count));
    are_counts.then(|| words.get(VALUE).copied())?
}

/// Takes an `Arc<Shared>` for what it is when its list's first and last task say so.
fn local_set(
    shared: &Block<SHARED>,
    forms: &dyn TaskForms,
    memory: &dyn Memory,
) -> Option<LocalSet> {
    let belongs = |task: u64| {
        let task = linked(task, forms, memory)?;
        (task.scheduler == shared.at && task.owner != 0).then_some(task)
    };
    let at = (VALUE..SHARED - 1).find(|&at| {
        let (head, tail) = (shared.words[at], shared.words[at + 1]);
        belongs(head).is_some_and(|first| first.previous == 0)
            && belongs(tail).is_some_and(|last| last.next == 0)
    })?;
    Some(LocalSet {
        shared: shared.at,
        owned: Owned::Single {
            at: shared.at.checked_add(at as u64 * 8)?,
        },
    })
}
