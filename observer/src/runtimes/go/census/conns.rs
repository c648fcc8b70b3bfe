//! Which goroutines refer to a connection from their stacks.
//!
//! A goroutine that serves a connection and does not wait on it now still has it in its frames: a
//! `*net.TCPConn`, or an object that holds one. From there the way leads over `net.netFD` to
//! `poll.FD`, which names the descriptor, and on to the runtime's `pollDesc`, which must name the same.

use std::collections::HashSet;

use super::super::live::u64_at;
use super::super::offsets::POLL_FD;
use super::finds::{Finds, Watched};
use super::gather::Gather;
use super::record::Record;
use super::unwind::{FrameView, Role};
use crate::model::census::{Holder, Reference};
use crate::model::memory::{Memory, ReadError};

/// Descriptors that are looked for at most.
pub const MAX_WATCHED: usize = 64;
/// Words of one frame that are looked at.
const MAX_WORDS: usize = 128;
/// Objects that are looked into in one census; what is left comes in the next ones.
const MAX_OBJECTS: usize = 16 << 10;
/// Addresses in these that are followed in one census.
const MAX_INNER: usize = 64 << 10;
/// Bytes of an object that are looked at: its size is not known, and beside a small one lie others.
const OBJECT: usize = 64;
/// References that one census reports.
const MAX_HOLDERS: usize = 1024;
/// `poll.FD.Sysfd`, after `fdmu` (`src/internal/poll/fd_unix.go`, Go 1.18 to 1.27). The `poll.FD` comes
/// first in `net.netFD` and in `os.file`.
const SYSFD: usize = 16;
/// `poll.FD.pd.runtimeCtx`: after `Sysfd` and, from Go 1.21 on, `SysFile` (one word on unix).
const CONTEXT: (usize, usize) = (24, 32);
/// Bytes of a `poll.FD` that are needed.
const FD_BYTES: usize = 40;
/// The heap begins at an arena's first byte, which is a multiple of 64 MiB and random from Go 1.26 on
/// (`mallocinit`, `src/runtime/malloc.go`, linux/amd64); and where user space ends.
const HEAP: std::ops::Range<u64> = 0x400_0000..0x7fff_ffff_f000;

/// A word of a stack that may lead to a connection.
#[derive(Debug, Clone, Copy)]
struct Word {
    task: u32,
    pc: u64,
    address: u64,
}

/// An object that seems to be a `poll.FD` of a descriptor that is looked for.
#[derive(Debug, Clone, Copy)]
struct Seems {
    word: u32,
    fd: i32,
    how: Reference,
    context: u64,
}

/// Collects references to connections. Keeps its buffers between chunks.
#[derive(Debug, Default)]
pub struct Conns {
    watched: Watched<i32>,
    context: usize,
    words: Vec<Word>,
    seems: Vec<Seems>,
    finds: Finds<Holder>,
    words_left: usize,
    inner_left: usize,
    /// Tasks of the chunk whose search a bound ended.
    cut: HashSet<u32>,
    /// The same for any task of the census.
    missed: bool,
}

impl Conns {
    /// For programs of a minor version of Go.
    pub fn new(minor: u32) -> Self {
        Self {
            context: if minor >= 21 { CONTEXT.1 } else { CONTEXT.0 },
            ..Self::default()
        }
    }

    /// Sets which descriptors are looked for.
    pub fn watch(&mut self, fds: &[i32]) {
        self.watched.set(fds, MAX_WATCHED);
    }

    /// Whether any is looked for.
    pub fn active(&self) -> bool {
        !self.watched.all().is_empty()
    }

    /// Changes whenever others are looked for.
    pub fn watch_number(&self) -> u64 {
        self.watched.number()
    }

    /// The same for one task of the chunk; `None` when a bound ended its search.
    pub fn searched(&self, task: u32) -> Option<u64> {
        (!self.cut.contains(&task)).then_some(self.watched.number())
    }

    /// A bound ends the search for a task.
    fn miss(&mut self, task: u32) {
        self.cut.insert(task);
        self.missed = true;
    }

    /// Whether a bound ended the search for any task of this census.
    pub fn cut(&self) -> bool {
        self.missed
    }

    /// Starts a census.
    pub fn begin(&mut self) {
        self.missed = false;
        self.finds.begin(MAX_HOLDERS);
        (self.words_left, self.inner_left) = (MAX_OBJECTS, MAX_INNER);
    }

    /// Starts a chunk.
    pub fn clear(&mut self) {
        self.words.clear();
        self.finds.clear();
        self.cut.clear();
    }

    /// Takes over what the parked goroutine at `g` referred to in the last census.
    pub fn known(&mut self, task: u32, g: u64) {
        if !self.finds.take_over(task, g) {
            self.miss(task);
        }
    }

    /// Looks at a frame of the task with this index.
    pub fn visit(&mut self, task: u32, record: &Record, frame: &FrameView<'_>) {
        let plain = frame.role == Role::Plain;
        if !self.active() || !(plain || frame.role == Role::Wrapper) {
            return;
        }
        for word in frame.bytes.chunks_exact(8).take(MAX_WORDS) {
            let address = u64_at(word, 0).unwrap_or(0);
            let own = (record.walk.sp..record.stack_hi).contains(&address);
            if !address.is_multiple_of(8) || !HEAP.contains(&address) || own {
                continue;
            }
            // The newest entries are those of the same task. Of frames that hold the same word the
            // outermost names the task best.
            let newest = self.words.iter_mut().rev().take(64);
            let mut same = newest.filter(|w| w.task == task && w.address == address);
            if let Some(known) = same.next() {
                if plain {
                    known.pc = frame.pc;
                }
                continue;
            }
            if self.words_left == 0 {
                self.miss(task);
                return;
            }
            self.words_left -= 1;
            self.words.push(Word {
                task,
                pc: frame.pc,
                address,
            });
        }
    }

    /// Follows the words: to a `poll.FD`, to what points to one, to an object with one of these.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn resolve(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &[Record],
    ) -> Result<(), ReadError> {
        if self.words.is_empty() {
            return Ok(());
        }
        self.seems.clear();
        let mut inner: Vec<(u32, bool, u64)> = Vec::new();
        gather.clear();
        for word in &self.words {
            // Not across the end of its page: the next one may not be mapped.
            let room = 4096 - (word.address % 4096) as usize;
            gather.add(word.address, OBJECT.min(room.max(FD_BYTES)));
        }
        gather.read(memory)?;
        for index in 0..self.words.len() {
            let Some(bytes) = gather.get(index) else {
                continue;
            };
            self.seems
                .extend(self.fd_at(bytes, index as u32, Reference::Direct));
            for (at, held) in bytes.chunks_exact(8).enumerate() {
                let held = u64_at(held, 0).unwrap_or(0);
                if !held.is_multiple_of(8) || !HEAP.contains(&held) {
                    continue;
                }
                if self.inner_left == 0 {
                    self.miss(self.words[index].task);
                    break;
                }
                self.inner_left -= 1;
                inner.push((index as u32, at == 0, held));
            }
        }
        gather.clear();
        for (.., held) in &inner {
            gather.add(*held, FD_BYTES);
        }
        gather.read(memory)?;
        let mut last: Vec<(u32, u64)> = Vec::new();
        for (number, (word, first, _)) in inner.iter().enumerate() {
            let Some(bytes) = gather.get(number) else {
                continue;
            };
            // A connection is a pointer to its netFD and nothing else.
            let how = if *first {
                Reference::Direct
            } else {
                Reference::Through
            };
            let seems = self.fd_at(bytes, *word, how);
            match u64_at(bytes, 0).filter(|to| to.is_multiple_of(8) && HEAP.contains(to)) {
                Some(to) if seems.is_none() => last.push((*word, to)),
                _ => {}
            }
            self.seems.extend(seems);
        }
        gather.clear();
        for (_, to) in &last {
            gather.add(*to, FD_BYTES);
        }
        gather.read(memory)?;
        for (number, (word, _)) in last.iter().enumerate() {
            if let Some(bytes) = gather.get(number) {
                self.seems
                    .extend(self.fd_at(bytes, *word, Reference::Through));
            }
        }
        self.prove(memory, gather, records)
    }

    /// Whether these bytes may be a `poll.FD` of a descriptor that is looked for.
    fn fd_at(&self, bytes: &[u8], word: u32, how: Reference) -> Option<Seems> {
        let fd = i32::try_from(u64_at(bytes, SYSFD)?).ok()?;
        let context = u64_at(bytes, self.context)?;
        let plausible = context.is_multiple_of(8) && context >= 0x1_0000;
        (self.watched.contains(&fd) && plausible).then_some(Seems {
            word,
            fd,
            how,
            context,
        })
    }

    /// The runtime's own record of the descriptor must name the same one.
    fn prove(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &[Record],
    ) -> Result<(), ReadError> {
        gather.clear();
        for seems in &self.seems {
            gather.add(seems.context.saturating_add(POLL_FD as u64), 8);
        }
        gather.read(memory)?;
        for (number, seems) in self.seems.iter().enumerate() {
            let named = gather.get(number).and_then(|bytes| u64_at(bytes, 0));
            let Some(word) = self.words.get(seems.word as usize) else {
                continue;
            };
            let Some(record) = records.get(word.task as usize) else {
                continue;
            };
            if named != Some(seems.fd as u64) {
                continue;
            }
            let (task, how) = (word.task, seems.how);
            let known = |(t, h): &&mut (u32, Holder)| *t == task && h.fd == seems.fd;
            if let Some((_, known)) = self.finds.found().iter_mut().find(known) {
                // Words of outer frames come later.
                if how <= known.how {
                    (known.how, known.pc) = (how, word.pc);
                }
                continue;
            }
            let holder = Holder {
                task: record.goid,
                fd: seems.fd,
                pc: word.pc,
                how,
            };
            if !self.finds.push(task, holder) {
                self.cut.insert(task);
                self.missed = true;
            }
        }
        Ok(())
    }

    /// The references of tasks that did not change while they were read.
    pub fn emit(&mut self, records: &[Record], out: &mut Vec<Holder>) {
        self.finds.emit(records, out);
    }
}

#[cfg(test)]
#[path = "conns_tests.rs"]
mod tests;
