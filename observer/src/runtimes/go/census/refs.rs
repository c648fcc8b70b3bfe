//! Who refers to a watched channel or mutex from its stack.
//!
//! Go does not record who uses a channel or holds a mutex. A goroutine that does has its address in
//! the frame of the function that uses it, or the address of an object that holds it; and that
//! function's code calls the runtime to send, receive or lock. Both together are what is reported.

use super::super::live::u64_at;
use super::finds::{Finds, Watched};
use super::gather::Gather;
use super::record::Record;
use super::unwind::FrameView;
use crate::model::census::{Mention, Reference, Uses};
use crate::model::memory::{Memory, ReadError};

/// Addresses that are watched at most.
pub const MAX_WATCHED: usize = 64;
/// Words of one frame that are looked at.
const MAX_WORDS: usize = 128;
/// Objects that are looked into in one census.
const MAX_OBJECTS: usize = 8192;
/// Bytes of an object that are looked at.
const OBJECT: usize = 256;
/// A mutex lies this far into the object that contains it, at most.
const NEAR: u64 = 1024;
/// References that one census reports.
const MAX_MENTIONS: usize = 4096;
/// Lowest and highest address that can be a pointer.
const POINTERS: std::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;

/// An object that may hold a watched address.
#[derive(Debug, Clone, Copy)]
struct Object {
    task: u32,
    pc: u64,
    uses: Uses,
    address: u64,
}

/// Collects references. Keeps its buffers between chunks.
#[derive(Debug, Default)]
pub struct Refs {
    watched: Watched<u64>,
    finds: Finds<Mention>,
    objects: Vec<Object>,
    objects_left: usize,
    /// A bound left something out of this census, or a stack could not be looked at whole.
    cut: bool,
}

impl Refs {
    /// Sets what is watched.
    pub fn watch(&mut self, addresses: &[u64]) {
        self.watched.set(addresses, MAX_WATCHED);
    }

    /// Changes whenever something else is watched: what was found on a stack that has not changed
    /// since holds as long as this is the same.
    pub fn watch_number(&self) -> u64 {
        self.watched.number()
    }

    /// Takes over what the parked goroutine at `g` referred to in the last census.
    pub fn known(&mut self, task: u32, g: u64) {
        if !self.finds.take_over(task, g) {
            self.cut = true;
        }
    }

    /// Whether anything is watched.
    pub fn active(&self) -> bool {
        !self.watched.all().is_empty()
    }

    /// Starts a census.
    pub fn begin(&mut self) {
        self.cut = false;
        self.finds.begin(MAX_MENTIONS);
        self.objects_left = MAX_OBJECTS;
    }

    /// Starts a chunk.
    pub fn clear(&mut self) {
        self.finds.clear();
        self.objects.clear();
    }

    /// Looks at a frame of the task with this index.
    pub fn visit(&mut self, task: u32, record: &Record, frame: &FrameView<'_>) {
        if !frame.uses.any() || !self.active() {
            return;
        }
        let (pc, uses) = (frame.pc, frame.uses);
        for word in frame.bytes.chunks_exact(8).take(MAX_WORDS) {
            let word = u64_at(word, 0).unwrap_or(0);
            if !word.is_multiple_of(8) || !POINTERS.contains(&word) {
                continue;
            }
            let watched = self.watched.all();
            let next = watched.partition_point(|watched| *watched < word);
            match watched.get(next) {
                Some(&found) if found == word => {
                    self.add(task, record, (pc, uses), word, Reference::Direct);
                    continue;
                }
                Some(&found) if uses.locks && found - word <= NEAR => {
                    self.add(task, record, (pc, uses), found, Reference::Near);
                }
                _ => {}
            }
            // Those that are parked at a channel are known by that; the stack itself was looked at.
            let elsewhere = !(record.walk.sp..record.stack_hi).contains(&word);
            if record.waiting == 0 && elsewhere {
                if self.objects_left == 0 {
                    self.cut = true;
                    continue;
                }
                self.objects_left -= 1;
                self.objects.push(Object {
                    task,
                    pc,
                    uses,
                    address: word,
                });
            }
        }
    }

    fn add(
        &mut self,
        task: u32,
        record: &Record,
        (pc, uses): (u64, Uses),
        address: u64,
        how: Reference,
    ) {
        let mention = Mention {
            task: record.goid,
            address,
            pc,
            uses,
            how,
        };
        let known = |(t, m): &(u32, Mention)| {
            *t == task && m.address == address && m.pc == pc && m.how <= how
        };
        // The newest entries are those of the same task.
        if self.finds.found().iter().rev().take(16).any(known) {
            return;
        }
        if !self.finds.push(task, mention) {
            self.cut = true;
        }
    }

    /// Looks into the objects.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn resolve(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &[Record],
    ) -> Result<(), ReadError> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let objects = std::mem::take(&mut self.objects);
        gather.clear();
        for object in &objects {
            // Not across the end of its page: the next one may not be mapped.
            let room = 4096 - (object.address % 4096) as usize;
            gather.add(object.address, OBJECT.min(room));
        }
        gather.read(memory)?;
        for (number, object) in objects.iter().enumerate() {
            let (Some(bytes), Some(record)) =
                (gather.get(number), records.get(object.task as usize))
            else {
                continue;
            };
            let held = bytes
                .chunks_exact(8)
                .filter_map(|word| u64_at(word, 0))
                .find(|word| self.watched.contains(word));
            if let Some(address) = held {
                let at = (object.pc, object.uses);
                self.add(object.task, record, at, address, Reference::Through);
            }
        }
        self.objects = objects;
        Ok(())
    }

    /// Notes a task whose stack was not looked at from end to end.
    pub fn miss(&mut self) {
        self.cut = true;
    }

    /// Whether nothing that is watched was missed.
    pub fn whole(&self) -> bool {
        self.active() && !self.cut
    }

    /// The references of tasks that did not change while they were read.
    pub fn emit(&mut self, records: &[Record], out: &mut Vec<Mention>) {
        self.finds.emit(records, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, Bytes};
    use super::super::unwind::Role;
    use super::*;
    use crate::model::census::TaskState;

    const CHANNEL: u64 = 0xc0_0000_1000;
    const OBJECT_AT: u64 = 0xc0_0000_2000;

    /// In a system call: nothing of it is kept.
    fn record(goid: u64, waiting: u64) -> Record {
        Record {
            state: TaskState::Syscall,
            waiting,
            ..fake::record(goid)
        }
    }

    fn frame(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn a_frame_refers_directly_or_through_an_object() {
        let memory = Bytes::new(&[(OBJECT_AT, frame(&[1, 2, CHANNEL, 4]).repeat(8))]);
        let records = [record(7, 0), record(8, 0), record(9, 0x1_0000)];
        let uses = Uses {
            receives: true,
            ..Uses::default()
        };
        let (direct, through, nothing) =
            (frame(&[3, CHANNEL]), frame(&[OBJECT_AT]), frame(&[CHANNEL]));
        let view = |bytes, uses| FrameView {
            role: Role::Plain,
            pc: 0x40_1000,
            uses,
            bytes,
        };
        let mut refs = Refs::default();
        let mut out = Vec::new();
        for watched in [&[][..], &[CHANNEL]] {
            refs.watch(watched);
            refs.begin();
            refs.clear();
            refs.visit(0, &records[0], &view(&direct, uses));
            refs.visit(0, &records[0], &view(&direct, uses));
            refs.visit(1, &records[1], &view(&through, uses));
            refs.visit(1, &records[1], &view(&nothing, Uses::default()));
            // Parked at a channel: its own objects are not looked into.
            refs.visit(2, &records[2], &view(&through, uses));
            refs.resolve(&memory, &mut Gather::default(), &records)
                .unwrap();
            out.clear();
            refs.emit(&records, &mut out);
            assert_eq!(out.len(), watched.len() * 2, "{out:?}");
        }
        let known: Vec<_> = out.iter().map(|m| (m.task, m.address, m.how)).collect();
        assert_eq!(
            known,
            [
                (7, CHANNEL, Reference::Direct),
                (8, CHANNEL, Reference::Through)
            ]
        );
    }

    #[test]
    fn what_a_parked_stack_refers_to_holds_until_something_else_is_watched() {
        let mut parked = record(7, 0);
        (parked.g, parked.state) = (0xabc, TaskState::Waiting);
        let records = [parked];
        let uses = Uses {
            locks: true,
            ..Uses::default()
        };
        let near = frame(&[CHANNEL - 64]);
        let view = FrameView {
            role: Role::Plain,
            pc: 0x40_1000,
            uses,
            bytes: &near,
        };
        let mut refs = Refs::default();
        refs.watch(&[CHANNEL]);
        let number = refs.watch_number();
        for round in 0..3 {
            refs.watch(&[CHANNEL]);
            refs.begin();
            refs.clear();
            match round {
                0 => refs.visit(0, &records[0], &view),
                _ => refs.known(0, 0xabc),
            }
            let mut out = Vec::new();
            refs.emit(&records, &mut out);
            assert_eq!((out.len(), out[0].how), (1, Reference::Near), "{round}");
            assert_eq!(refs.watch_number(), number);
        }
        refs.watch(&[CHANNEL + 8]);
        assert_ne!(refs.watch_number(), number);
    }
}
