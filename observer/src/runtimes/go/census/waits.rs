//! What parked goroutines wait on: channels by their sudogs, semaphores, conditions and descriptors
//! by words on the parked stack that prove themselves, sleeps by their timer.

use std::collections::hash_map::Entry;

use super::super::live::u64_at;
use super::super::offsets::{GoOffsets, HCHAN_QCOUNT, POLL_FD, SUDOG_ELEM, SUDOG_G};
use super::gather::Gather;
use super::record::Record;
use super::unwind::{AddressMap, FrameView, Role};
use crate::model::census::{Direction, TaskState, WaitKind, WaitsOn};
use crate::model::memory::{Memory, ReadError};
use crate::model::time::Mono;

/// Cases of one select that are followed.
const MAX_CASES: usize = 64;
/// Words of one frame that are tried.
const MAX_WORDS: usize = 64;
/// Bytes of `sync.Cond` up to its `copyChecker`, which holds its own address
/// (`src/sync/cond.go`, Go 1.18 to 1.27: L 16 bytes, notifyList 32, checker).
const COND_CHECKER: usize = 48;
/// `sync.Cond.notify`.
const COND_NOTIFY: u64 = 16;
/// `sync.Mutex.sema` and `internal/sync.Mutex.sema`.
const MUTEX_SEMA: u64 = 4;
/// `sync.RWMutex.writerSem`.
const RW_WRITER: u64 = 8;
/// `sync.RWMutex.readerSem`.
const RW_READER: u64 = 12;
/// `sync.WaitGroup.sema` (`state` comes first, Go 1.18 to 1.27).
const GROUP_SEMA: u64 = 8;
/// Highest descriptor that is believed.
const MAX_FD: u64 = 1 << 30;
/// Lowest and highest address that can be a pointer.
const POINTERS: std::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;

/// A word of a parked stack that may be what its frame should hold.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    task: u32,
    role: Role,
    pc: u64,
    slot: u32,
    word: u64,
}

/// A goroutine in a channel's queue.
#[derive(Debug, Clone, Copy)]
struct Queued {
    task: u32,
    sudog: u64,
    channel: u64,
}

/// What is read of a channel.
#[derive(Debug, Clone, Copy)]
struct Channel {
    len: u64,
    capacity: u64,
    /// First and last of the receive queue, then of the send queue.
    queues: [u64; 4],
}

/// Finds what a chunk of goroutines waits on. Keeps its buffers between chunks.
#[derive(Debug, Default)]
pub struct Waits {
    candidates: Vec<Candidate>,
    /// Which slots of a frame held the answer for every goroutine so far, one bit each: where the
    /// compiler keeps it. Other slots may hold it too, left over from earlier calls.
    slots: AddressMap<u64>,
    /// Which slots held it for one goroutine: its index, the frame's instruction, the slots.
    proven: Vec<(u32, u64, u64)>,
    queued: Vec<Queued>,
    pending: Vec<(u32, u64)>,
    channels: AddressMap<Option<Channel>>,
}

impl Waits {
    /// Starts a census: what channels hold is read anew.
    pub fn begin(&mut self) {
        self.channels.clear();
    }

    /// Starts a chunk.
    pub fn clear(&mut self) {
        self.candidates.clear();
        self.queued.clear();
        self.pending.clear();
    }

    /// Looks at a frame of the task with this index.
    pub fn visit(&mut self, task: u32, record: &mut Record, frame: &FrameView<'_>) {
        match frame.role {
            Role::Owner(kind, direction) => {
                record.owner.get_or_insert((kind, direction));
                return;
            }
            Role::SemAcquire | Role::PollWait | Role::CondWait => {}
            Role::Plain | Role::Wrapper | Role::Bottom | Role::Switch | Role::Interrupt => return,
        }
        if record.state != TaskState::Waiting
            || (frame.role == Role::SemAcquire && record.waiting != 0)
        {
            return;
        }
        let hint = self.slots.get(&frame.pc).copied();
        for (slot, word) in frame.bytes.chunks_exact(8).enumerate().take(MAX_WORDS) {
            let slot = slot as u32;
            let word = u64_at(word, 0).unwrap_or(0);
            if hint.is_some_and(|h| h & (1 << slot) == 0)
                || !word.is_multiple_of(8)
                || !POINTERS.contains(&word)
            {
                continue;
            }
            self.candidates.push(Candidate {
                task,
                role: frame.role,
                pc: frame.pc,
                slot,
                word,
            });
        }
    }

    /// Reads what the chunk's goroutines wait on.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn resolve(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &mut [Record],
        o: &GoOffsets,
    ) -> Result<(), ReadError> {
        self.try_candidates(memory, gather, records, o)?;
        self.follow_sudogs(memory, gather, records, o)?;
        self.read_channels(memory, gather, o)?;
        read_timers(memory, gather, records, o)
    }

    fn try_candidates(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &mut [Record],
        o: &GoOffsets,
    ) -> Result<(), ReadError> {
        gather.clear();
        for candidate in &self.candidates {
            let len = match candidate.role {
                Role::PollWait => o.poll_rg as usize + 16,
                Role::CondWait => COND_CHECKER + 8,
                _ => o.sudog_c as usize + 8,
            };
            gather.add(candidate.word, len);
        }
        gather.read(memory)?;
        self.proven.clear();
        for (number, candidate) in self.candidates.iter().enumerate() {
            let Some(record) = records.get_mut(candidate.task as usize) else {
                continue;
            };
            let found = gather
                .get(number)
                .and_then(|bytes| prove(candidate, record, bytes, o));
            let slot = if found.is_some() {
                1 << candidate.slot
            } else {
                0
            };
            match self.proven.last_mut() {
                Some((task, pc, slots)) if (*task, *pc) == (candidate.task, candidate.pc) => {
                    *slots |= slot;
                }
                _ => self.proven.push((candidate.task, candidate.pc, slot)),
            }
            record.found = record.found.or(found);
        }
        for &(task, pc, slots) in &self.proven {
            match self.slots.get_mut(&pc) {
                Some(known) if *known & slots != 0 => *known &= slots,
                // The slots that were tried do not hold it this time: all of them, once more.
                Some(_) => {
                    self.slots.remove(&pc);
                    if let Some(record) = records.get_mut(task as usize) {
                        record.torn |= record.found.is_none();
                    }
                }
                None if slots != 0 => {
                    self.slots.insert(pc, slots);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn follow_sudogs(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        records: &mut [Record],
        o: &GoOffsets,
    ) -> Result<(), ReadError> {
        self.pending.clear();
        for (task, record) in records.iter().enumerate() {
            if record.state == TaskState::Waiting && POINTERS.contains(&record.waiting) {
                self.pending.push((task as u32, record.waiting));
            }
        }
        for _ in 0..MAX_CASES {
            if self.pending.is_empty() {
                break;
            }
            gather.clear();
            for &(_, sudog) in &self.pending {
                gather.add(sudog, o.sudog_c as usize + 8);
            }
            gather.read(memory)?;
            let mut kept = 0;
            for number in 0..self.pending.len() {
                let (task, sudog) = self.pending[number];
                let (Some(bytes), Some(record)) =
                    (gather.get(number), records.get_mut(task as usize))
                else {
                    continue;
                };
                let word = |at: usize| u64_at(bytes, at).unwrap_or(0);
                if word(SUDOG_G) != record.g {
                    continue;
                }
                let channel = word(o.sudog_c as usize);
                let kind = record.reason.and_then(|r| r.waits_on);
                if kind == Some(WaitKind::Channel) && POINTERS.contains(&channel) {
                    self.queued.push(Queued {
                        task,
                        sudog,
                        channel,
                    });
                    let next = word(o.sudog_waitlink as usize);
                    let is_select = record.reason.is_some_and(|r| r.direction.is_none());
                    if is_select && POINTERS.contains(&next) {
                        self.pending[kept] = (task, next);
                        kept += 1;
                    }
                } else if channel == 0 {
                    // Go 1.26 and later: semaphores and conditions set `g.waiting` too.
                    record.found = owner_of(record, word(SUDOG_ELEM)).or(record.found);
                }
            }
            self.pending.truncate(kept);
        }
        // Emission takes them in the order of the tasks.
        self.queued.sort_by_key(|q| q.task);
        Ok(())
    }

    fn read_channels(
        &mut self,
        memory: &dyn Memory,
        gather: &mut Gather,
        o: &GoOffsets,
    ) -> Result<(), ReadError> {
        self.pending.clear();
        gather.clear();
        for queued in &self.queued {
            if let Entry::Vacant(entry) = self.channels.entry(queued.channel) {
                entry.insert(None);
                let number = gather.add(queued.channel, o.hchan_recvq as usize + 32);
                self.pending.push((number as u32, queued.channel));
            }
        }
        gather.read(memory)?;
        for &(number, address) in &self.pending {
            let channel = gather.get(number as usize).and_then(|bytes| {
                let word = |at: usize| u64_at(bytes, at);
                let queue = o.hchan_recvq as usize;
                Some(Channel {
                    len: word(HCHAN_QCOUNT)?,
                    capacity: word(HCHAN_QCOUNT + 8)?,
                    queues: [
                        word(queue)?,
                        word(queue + 8)?,
                        word(queue + 16)?,
                        word(queue + 24)?,
                    ],
                })
            });
            // More elements than room: not a channel, or torn.
            self.channels
                .insert(address, channel.filter(|c| c.len <= c.capacity));
        }
        Ok(())
    }

    /// Appends what the task with this index waits on; `from` is where its channels begin in the
    /// queue, and the answer is where the next task's begin.
    pub fn emit(&self, task: u32, record: &Record, from: usize, out: &mut Vec<WaitsOn>) -> usize {
        let mut next = from;
        while let Some(queued) = self.queued.get(next).filter(|q| q.task <= task) {
            next += 1;
            if queued.task < task {
                continue;
            }
            let mut wait = WaitsOn::new(WaitKind::Channel);
            wait.address = Some(queued.channel);
            wait.direction = record.reason.and_then(|r| r.direction);
            if let Some(Some(channel)) = self.channels.get(&queued.channel) {
                wait.len = Some(channel.len);
                wait.capacity = Some(channel.capacity);
                wait.direction = wait.direction.or_else(|| channel.direction(queued.sudog));
            }
            out.push(wait);
        }
        if next == from
            && let Some(found) = record.found
        {
            out.push(found);
        }
        next
    }
}

impl Channel {
    /// Which queue holds this sudog. A select's sudog does not say; usually only one side waits.
    fn direction(&self, sudog: u64) -> Option<Direction> {
        let [recv_first, recv_last, send_first, send_last] = self.queues;
        let receives = sudog == recv_first || sudog == recv_last;
        let sends = sudog == send_first || sudog == send_last;
        match (receives || send_first == 0, sends || recv_first == 0) {
            (true, false) => Some(Direction::Receive),
            (false, true) => Some(Direction::Send),
            _ => None,
        }
    }
}

/// Whether a word is what its frame should hold: the thing it points at points back.
fn prove(candidate: &Candidate, record: &Record, bytes: &[u8], o: &GoOffsets) -> Option<WaitsOn> {
    let word = |at: usize| u64_at(bytes, at);
    match candidate.role {
        Role::PollWait => {
            let reads = word(o.poll_rg as usize)? == record.g;
            let writes = word(o.poll_rg as usize + 8)? == record.g;
            let fd = word(POLL_FD).filter(|&fd| fd < MAX_FD)?;
            (reads || writes).then(|| WaitsOn {
                fd: Some(fd as i32),
                address: Some(candidate.word),
                direction: Some(if reads {
                    Direction::Receive
                } else {
                    Direction::Send
                }),
                ..WaitsOn::new(WaitKind::Descriptor)
            })
        }
        Role::SemAcquire => {
            let ours = word(SUDOG_G)? == record.g && word(o.sudog_c as usize)? == 0;
            let element = word(SUDOG_ELEM).filter(|e| ours && POINTERS.contains(e))?;
            owner_of(record, element)
        }
        Role::CondWait => {
            let checker = candidate.word.checked_add(COND_CHECKER as u64)?;
            (word(COND_CHECKER)? == checker).then(|| WaitsOn {
                address: Some(candidate.word),
                ..WaitsOn::new(WaitKind::Condition)
            })
        }
        _ => None,
    }
}

/// The object that a semaphore lies in: the meeting point of all its users, readers and writers.
fn owner_of(record: &Record, semaphore: u64) -> Option<WaitsOn> {
    if !POINTERS.contains(&semaphore) {
        return None;
    }
    let reason = record.reason?;
    let (kind, direction) = match reason.waits_on? {
        // `semacquire` says nothing: before Go 1.20 (wait groups: 1.24) it stands for all of them.
        WaitKind::Semaphore => record.owner.unwrap_or((WaitKind::Semaphore, None)),
        kind => (kind, reason.direction),
    };
    let offset = match (kind, direction) {
        (WaitKind::Mutex, _) => MUTEX_SEMA,
        (WaitKind::RwMutex, Some(Direction::Receive)) => RW_READER,
        (WaitKind::RwMutex, Some(Direction::Send)) => RW_WRITER,
        (WaitKind::WaitGroup, _) => GROUP_SEMA,
        (WaitKind::Condition, _) => COND_NOTIFY,
        _ => 0,
    };
    Some(WaitsOn {
        address: semaphore.checked_sub(offset),
        direction,
        ..WaitsOn::new(kind)
    })
}

fn read_timers(
    memory: &dyn Memory,
    gather: &mut Gather,
    records: &mut [Record],
    o: &GoOffsets,
) -> Result<(), ReadError> {
    let sleeps = |r: &Record| {
        r.reason
            .is_some_and(|r| r.waits_on == Some(WaitKind::Timer))
    };
    gather.clear();
    for record in records
        .iter()
        .filter(|r| sleeps(r) && r.sleep_when.is_none())
    {
        gather.add(record.timer.wrapping_add(u64::from(o.timer_when)), 8);
    }
    gather.read(memory)?;
    let mut number = 0;
    for record in records.iter_mut().filter(|r| sleeps(r)) {
        let when = record.sleep_when.or_else(|| {
            number += 1;
            u64_at(gather.get(number - 1)?, 0)
        });
        // runtime.nanotime is CLOCK_MONOTONIC on Linux.
        record.found = Some(WaitsOn {
            until: when.filter(|&w| w > 0 && w < i64::MAX as u64).map(Mono),
            ..WaitsOn::new(WaitKind::Timer)
        });
    }
    Ok(())
}
