//! Where a runtime keeps the list of its tasks: `OwnedTasks`, in the handle of its scheduler (tokio
//! `runtime/task/list.rs`). rustc chooses where that lies in the handle, so it is recognised by what it
//! points to: tasks with known vtables, linked to each other as the list demands.
//!
//! - 1.40 to 1.54: `ShardedList` (`util/sharded_list.rs`): `lists: Box<[Mutex<LinkedList>]>`, a power of
//!   two, and `shard_mask`, one less; a task with id `n` is in list `n & shard_mask`. An entry is the
//!   lock (its first byte; the rest of the word is padding), `head`, `tail`.
//! - 1.23 and 1.32: one `LinkedList` behind a lock in the handle itself, `head` and `tail`.

use crate::model::memory::{Memory, ReadError};

use super::super::pointers::le64;
use super::super::vtables::TaskOffsets;

/// How much of a handle is looked at (bytes). That of the multi-threaded scheduler has about 1100 in
/// 1.54, in `Arc`'s allocation after its two counts.
const MAX_HANDLE: usize = 4096;
/// A single list lies in the first bytes: at 0x58 and 0xb0 in the two schedulers of 1.23, at 0x68 and
/// 0x78 in those of 1.32.
const MAX_SINGLE: usize = 384;
/// A handle is read in pieces of this size, since what follows it may not be mapped (bytes).
const PIECE: usize = 256;
/// `OwnedTasks::gen_sharded_list_size`: four for each worker, rounded up to a power of two, within
/// these bounds (tokio 1.40 to 1.54).
const MIN_LISTS: u64 = 4;
const MAX_LISTS: u64 = 1 << 16;
/// Lock, head, tail (bytes).
pub const ENTRY: u64 = 24;
/// How far from the lists the mask lies at most, in words: both are fields of `ShardedList`.
const NEAR: usize = 8;
/// `LOCKED_BIT | PARKED_BIT` of `parking_lot`; std's futex knows 0, 1 and 2.
const MAX_LOCK: u8 = 3;
/// Lists looked at when a candidate is judged.
const MAX_JUDGED: u64 = 4096;

/// `NOTIFIED`: the task was woken and is in a queue, or was never polled (tokio `task/state.rs`).
pub const NOTIFIED: u64 = 0b100;
/// `Header::owner_id`: state, queue_next, vtable, owner_id (`repr(C)`, tokio `task/core.rs`, 1.21 on).
pub const HEADER: usize = 32;

/// The list, or lists, of one runtime's tasks. Addresses in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    /// So many lists in a row.
    Sharded {
        /// The first entry.
        lists: u64,
        /// A power of two.
        count: u64,
    },
    /// One list.
    Single {
        /// Its head; the tail follows.
        at: u64,
    },
}

/// The part of a task that every look at it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `Header::state`: bits and references.
    pub state: u64,
    /// The vtable's place among those of the program.
    pub vtable: usize,
    /// Which list owns it; 0 is none.
    pub owner: u64,
}

/// The places of tasks' fields by the run-time address of their vtable.
pub trait TaskForms {
    /// The vtable's place and offsets; `None`: that is no vtable of this tokio.
    fn form(&self, vtable: u64) -> Option<(usize, TaskOffsets)>;

    /// Takes a header apart. `None`: no task is there.
    fn header(&self, bytes: &[u8; HEADER]) -> Option<(Header, TaskOffsets)> {
        let [state, _, vtable, owner] = words(bytes);
        let (place, offsets) = self.form(vtable)?;
        let header = Header {
            state,
            vtable: place,
            owner,
        };
        Some((header, offsets))
    }
}

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = le64(bytes);
    }
    words
}

/// A task and its neighbours, as far as the list is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Linked {
    state: u64,
    /// Which list owns it; 0 is none.
    pub owner: u64,
    id: u64,
    /// The first word of `Core::scheduler`: what an `Arc` points to, of tasks that are polled.
    pub scheduler: u64,
    /// The task before, 0 at the head.
    pub previous: u64,
    /// The task after, 0 at the tail.
    pub next: u64,
}

/// Reads a task. `None`: none is there.
pub fn linked(task: u64, forms: &dyn TaskForms, memory: &dyn Memory) -> Option<Linked> {
    if task == 0 || !task.is_multiple_of(8) {
        return None;
    }
    let mut bytes = [0; HEADER];
    memory.read(task, &mut bytes).ok()?;
    let (header, offsets) = forms.header(&bytes)?;
    let mut pointers = [0; 16];
    memory
        .read(task.checked_add(offsets.trailer)?, &mut pointers)
        .ok()?;
    let [previous, next] = words(&pointers);
    Some(Linked {
        state: header.state,
        owner: header.owner,
        id: memory.read_u64(task.checked_add(offsets.id)?).ok()?,
        scheduler: memory.read_u64(task.checked_add(offsets.scheduler)?).ok()?,
        previous,
        next,
    })
}

/// Looks for the list in a handle. `None`: nothing there refers to a task; the runtime has none now, or
/// that is no handle of this tokio.
///
/// Behind a handle lie other allocations, with lists of other owners and remains of the handle itself, so
/// the first one counts; and the sharded form, which says most, goes before the other.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn look(
    handle: u64,
    forms: &dyn TaskForms,
    memory: &dyn Memory,
) -> Result<Option<Owned>, ReadError> {
    let bytes = read_handle(handle, memory)?;
    let words: Vec<u64> = bytes.chunks_exact(8).map(le64).collect();
    let mut pairs = words.windows(2).enumerate();
    let sharded = pairs
        .clone()
        .find(|(at, _)| is_sharded(&words, *at, forms, memory));
    if let Some((_, &[lists, count])) = sharded {
        return Ok(Some(Owned::Sharded { lists, count }));
    }
    let single = pairs
        .by_ref()
        .take(MAX_SINGLE / 8)
        .find(|(_, pair)| is_single(pair, forms, memory));
    Ok(single.map(|(at, _)| Owned::Single {
        at: handle.wrapping_add(at as u64 * 8),
    }))
}

fn read_handle(handle: u64, memory: &dyn Memory) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(MAX_HANDLE);
    let mut piece = [0; PIECE];
    while bytes.len() < MAX_HANDLE {
        match memory.read(handle.wrapping_add(bytes.len() as u64), &mut piece) {
            Ok(()) => bytes.extend_from_slice(&piece),
            Err(ReadError::Unmapped(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Whether the words from `at` on are the lists of a `ShardedList`, with at least one task in them.
fn is_sharded(words: &[u64], at: usize, forms: &dyn TaskForms, memory: &dyn Memory) -> bool {
    let [lists, count] = words[at..at + 2] else {
        return false;
    };
    if lists == 0
        || !lists.is_multiple_of(8)
        || !count.is_power_of_two()
        || !(MIN_LISTS..=MAX_LISTS).contains(&count)
    {
        return false;
    }
    let near = at.saturating_sub(NEAR)..(at + 2 + NEAR).min(words.len());
    if !words[near].contains(&(count - 1)) {
        return false;
    }
    let judged = count.min(MAX_JUDGED);
    let mut bytes = vec![0; (judged * ENTRY) as usize];
    if memory.read(lists, &mut bytes).is_err() {
        return false;
    }
    let mut tasks = 0;
    for (number, entry) in (0_u64..).zip(bytes.chunks_exact(ENTRY as usize)) {
        let [lock, head, tail] = self::words(entry);
        if lock as u8 > MAX_LOCK || (head == 0) != (tail == 0) {
            return false;
        }
        if head == 0 {
            continue;
        }
        let Some(task) = linked(head, forms, memory) else {
            return false;
        };
        if task.previous != 0 || task.id & (count - 1) != number {
            return false;
        }
        tasks += 1;
    }
    tasks > 0
}

/// Whether two words are head and tail of a list of tasks. The queue of ready tasks looks the same, but
/// all tasks in it are marked as woken; so one that is not must be at an end of the list.
fn is_single(pair: &[u64], forms: &dyn TaskForms, memory: &dyn Memory) -> bool {
    let &[head, tail] = pair else { return false };
    let ends = || {
        let first = linked(head, forms, memory)?;
        let last = linked(tail, forms, memory)?;
        let ends = first.previous == 0 && last.next == 0;
        let one = first.owner != 0 && first.owner == last.owner;
        Some(ends && one && first.state & last.state & NOTIFIED == 0)
    };
    ends().unwrap_or(false)
}
