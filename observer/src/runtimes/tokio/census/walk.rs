//! Walking the lists of a runtime's tasks while the process goes on: all lists at once, one task of each
//! in a step, so that a step is two system calls. A task counts only when its neighbour points back at
//! the one that led to it; a list that changes meanwhile is begun anew.

use std::collections::HashSet;

use crate::model::memory::{Memory, ReadError, ReadRequest};

use super::super::pointers::le64;
use super::super::vtables::TaskOffsets;
use super::owned::{ENTRY, HEADER, Header, Owned, TaskForms};

/// Tasks that are listed at most.
pub const MAX_TASKS: usize = 1 << 20;
/// How often a list is begun.
const ATTEMPTS: u8 = 3;
/// `COMPLETE`: the task has ended (tokio `task/state.rs`).
const COMPLETE: u64 = 0b10;
/// Ids count up from 1 in one atomic per tokio copy (tokio `runtime/task/id.rs`).
const MAX_ID: u64 = 1 << 48;

/// A task of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Address of its `Header`.
    pub at: u64,
    /// Its id.
    pub id: u64,
    /// What its header said.
    pub header: Header,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Walk {
    /// The tasks that have not ended, in no order.
    pub tasks: Vec<Listed>,
    /// Tasks that have ended and are still in the list.
    pub ended: u64,
    /// Lists that changed faster than they could be read: tasks may be missing.
    pub torn: u64,
    /// Lists with a first task that is none: this is no list of tasks (any more).
    pub strange: u64,
    /// The bound was reached.
    pub full: bool,
    /// Bytes read.
    pub bytes_read: u64,
    again: usize,
    seen: HashSet<u64>,
    heads: Vec<u8>,
}

/// A list that is under way.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// Its number.
    list: u64,
    /// Its last task when it was begun.
    tail: u64,
    /// The task before, 0 at the head.
    previous: u64,
    /// The task to be read.
    at: u64,
    attempts: u8,
}

/// What a task's own part of a step gives.
#[derive(Debug, Clone, Copy)]
struct Step {
    header: Header,
    offsets: TaskOffsets,
    id: [u8; 8],
    pointers: [u8; 16],
}

impl Walk {
    /// Reads all lists of `owned`.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn run(
        &mut self,
        owned: Owned,
        forms: &dyn TaskForms,
        memory: &dyn Memory,
    ) -> Result<(), ReadError> {
        let mut cursors = self.begin(owned, memory)?;
        let mut headers: Vec<[u8; HEADER]> = Vec::new();
        let mut steps: Vec<Option<Step>> = Vec::new();
        while !cursors.is_empty() && !self.full {
            self.read_headers(&cursors, &mut headers, memory)?;
            self.read_steps(&cursors, (&headers, forms), &mut steps, memory)?;
            let mut again = Vec::new();
            let mut kept = 0;
            for at in 0..cursors.len() {
                let cursor = cursors[at];
                match self.go_on(owned, cursor, steps[at]) {
                    Next::Task(next) => {
                        cursors[kept] = next;
                        kept += 1;
                    }
                    Next::End => {}
                    Next::Broken => again.push(cursor),
                }
            }
            cursors.truncate(kept);
            for cursor in again {
                cursors.extend(self.begin_again(owned, cursor, memory)?);
            }
        }
        Ok(())
    }

    fn begin(&mut self, owned: Owned, memory: &dyn Memory) -> Result<Vec<Cursor>, ReadError> {
        let (at, length, first) = match owned {
            Owned::Sharded { lists, count } => (lists, count * ENTRY, 8),
            Owned::Single { at } => (at, 16, 0),
        };
        self.heads.clear();
        self.heads.resize(length as usize, 0);
        match memory.read(at, &mut self.heads) {
            Err(ReadError::Unmapped(_)) => {
                self.strange += 1;
                return Ok(Vec::new());
            }
            read => read?,
        }
        self.bytes_read += length;
        let entries = self.heads.chunks_exact(first + 16);
        Ok((0..)
            .zip(entries)
            .filter_map(|(list, entry)| cursor(list, &entry[first..], 1))
            .collect())
    }

    /// Reads the ends of one list anew.
    fn begin_again(
        &mut self,
        owned: Owned,
        broken: Cursor,
        memory: &dyn Memory,
    ) -> Result<Option<Cursor>, ReadError> {
        if broken.attempts >= ATTEMPTS {
            self.torn += 1;
            self.strange += u64::from(broken.previous == 0);
            return Ok(None);
        }
        let at = match owned {
            Owned::Sharded { lists, .. } => lists.wrapping_add(broken.list * ENTRY + 8),
            Owned::Single { at } => at,
        };
        let mut ends = [0; 16];
        match memory.read(at, &mut ends) {
            Err(ReadError::Unmapped(_)) => {
                self.strange += 1;
                return Ok(None);
            }
            read => read?,
        }
        self.bytes_read += 16;
        Ok(cursor(broken.list, &ends, broken.attempts + 1))
    }

    fn read_headers(
        &mut self,
        cursors: &[Cursor],
        headers: &mut Vec<[u8; HEADER]>,
        memory: &dyn Memory,
    ) -> Result<(), ReadError> {
        headers.clear();
        headers.resize(cursors.len(), [0; HEADER]);
        let mut requests: Vec<ReadRequest<'_>> = cursors
            .iter()
            .zip(headers.iter_mut())
            .map(|(cursor, buf)| ReadRequest {
                addr: cursor.at,
                buf,
                ok: false,
            })
            .collect();
        self.bytes_read += (requests.len() * HEADER) as u64;
        // What could not be read stays 0, and no vtable is at 0.
        memory.read_batch(&mut requests)
    }

    fn read_steps(
        &mut self,
        cursors: &[Cursor],
        (headers, forms): (&[[u8; HEADER]], &dyn TaskForms),
        steps: &mut Vec<Option<Step>>,
        memory: &dyn Memory,
    ) -> Result<(), ReadError> {
        steps.clear();
        steps.extend(headers.iter().map(|bytes| {
            let (header, offsets) = forms.header(bytes)?;
            Some(Step {
                header,
                offsets,
                id: [0; 8],
                pointers: [u8::MAX; 16],
            })
        }));
        let mut requests: Vec<ReadRequest<'_>> = Vec::with_capacity(steps.len() * 2);
        for (cursor, step) in cursors.iter().zip(steps.iter_mut()) {
            let Some(step) = step else { continue };
            let (id, trailer) = (step.offsets.id, step.offsets.trailer);
            for (offset, buf) in [(id, &mut step.id[..]), (trailer, &mut step.pointers[..])] {
                requests.push(ReadRequest {
                    addr: cursor.at.wrapping_add(offset),
                    buf,
                    ok: false,
                });
            }
        }
        self.bytes_read += requests.len() as u64 * 12;
        memory.read_batch(&mut requests)
    }

    fn go_on(&mut self, owned: Owned, cursor: Cursor, step: Option<Step>) -> Next {
        let Some(step) = step else {
            return Next::Broken;
        };
        let id = le64(&step.id);
        let (previous, next) = (le64(&step.pointers), le64(&step.pointers[8..]));
        let belongs = match owned {
            Owned::Sharded { count, .. } => id & (count - 1) == cursor.list,
            Owned::Single { .. } => true,
        };
        if previous != cursor.previous
            || step.header.owner == 0
            || !belongs
            || !(1..MAX_ID).contains(&id)
            // It was taken out while it was looked at.
            || (next == 0 && cursor.at != cursor.tail)
        {
            return Next::Broken;
        }
        if !self.seen.insert(cursor.at) {
            // As often as lists are begun anew; one that is changed while it is walked could go on
            // without end.
            self.again += 1;
            if self.again > usize::from(ATTEMPTS) * self.seen.len() {
                self.torn += 1;
                return Next::End;
            }
        } else if step.header.state & COMPLETE != 0 {
            self.ended += 1;
        } else {
            self.tasks.push(Listed {
                at: cursor.at,
                id,
                header: step.header,
            });
        }
        self.full = self.seen.len() >= MAX_TASKS;
        if next == 0 {
            return Next::End;
        }
        Next::Task(Cursor {
            previous: cursor.at,
            at: next,
            ..cursor
        })
    }

    /// Forgets what was found and keeps the room.
    pub fn clear(&mut self) {
        self.tasks.clear();
        self.seen.clear();
        (self.ended, self.torn, self.strange, self.again) = (0, 0, 0, 0);
        (self.full, self.bytes_read) = (false, 0);
    }
}

/// Where a list goes on.
enum Next {
    Task(Cursor),
    End,
    /// It changed.
    Broken,
}

fn cursor(list: u64, ends: &[u8], attempts: u8) -> Option<Cursor> {
    let (head, tail) = (le64(ends), le64(ends.get(8..)?));
    (head != 0).then_some(Cursor {
        list,
        tail,
        previous: 0,
        at: head,
        attempts,
    })
}
