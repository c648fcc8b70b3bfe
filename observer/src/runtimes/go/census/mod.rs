//! The census of goroutines: `runtime.allgs`, read in large batches and never stopping the process.
//!
//! What is read may be torn. Each goroutine that does not run is read twice; one that changed in
//! between is left out and counted. `g.trackingSeq`, which shows that it has run, counts modulo 256; so a
//! parked stack that does not end where goroutines begin is read once more before it is believed.

use std::time::Instant;

use self::conns::Conns;
use self::gather::Gather;
use self::record::{Decoded, Record, decode};
use self::refs::Refs;
use self::unwind::{AddressMap, MAX_DEPTH, Unwinder};
use self::waits::Waits;
use super::detect::GoProcess;
use super::live::{MAX_GOID, read_allgs, u64_at};
use crate::model::Tid;
use crate::model::census::{
    Census, CensusTask, Direction, StackId, Stacks, TaskState, WaitKind, WaitsOn,
};
use crate::model::memory::{Memory, ReadError};
use crate::model::time::Mono;
use crate::model::{Cause, Known, Reason};
use crate::runtimes::TaskCensus;

pub mod conns;
#[cfg(test)]
pub(crate) mod fake;
mod finds;
pub mod gather;
pub mod record;
pub mod refs;
pub mod unwind;
pub mod uses;
pub mod waits;

/// Entries of the list that are read at most.
pub const MAX_GOROUTINES: u64 = 1 << 20;
/// Goroutines that are read together: bounds the memory, and the time between the two reads.
const CHUNK: usize = 4096;
/// Bytes of stack that are read first.
const FIRST_WINDOW: u64 = 1024;
/// Bytes of stack that are read when the first did not suffice.
const NEXT_WINDOW: u64 = 8192;
/// How often a stack is read on.
const MAX_WINDOWS: usize = 8;
/// One frame may need at most this many bytes.
const MAX_FRAME: usize = 256 << 10;
/// Different stacks of parked goroutines that are remembered.
const MAX_PARKED_STACKS: usize = 1 << 15;
/// More Ps than any machine allows.
const MAX_PROCS: u32 = 1 << 16;
/// Start functions that are remembered.
const MAX_STARTS: usize = 1 << 16;

/// Takes censuses of one Go process. Keeps its buffers and what it has learned of the code.
#[derive(Debug)]
pub struct GoCensus {
    process: GoProcess,
    unwinder: Unwinder,
    waits: Waits,
    refs: Refs,
    conns: Conns,
    gather: Gather,
    pointers: Vec<u64>,
    records: Vec<Record>,
    frames: Vec<u64>,
    /// Whether a start function belongs to the runtime.
    starts: AddressMap<bool>,
    /// Whether an instruction belongs to the function that calls C.
    c_calls: AddressMap<bool>,
    /// What the last census found on the stacks of goroutines that were parked, by `g`: one that
    /// has not run since has the same stack.
    parked: AddressMap<Parked>,
    next_parked: AddressMap<Parked>,
    parked_stacks: Stacks,
    /// What seems torn now is not read again.
    last_try: bool,
}

/// What was found on a parked goroutine's stack.
#[derive(Debug, Clone, Copy)]
struct Parked {
    goid: u64,
    occasion: u64,
    stack: StackId,
    owner: Option<(WaitKind, Option<Direction>)>,
    found: Option<WaitsOn>,
    /// It was walked to its end.
    whole: bool,
    /// What was looked for on it, see [`Refs::watch_number`].
    watch: u64,
    /// The same for connections; `None` when the search was cut.
    connections: Option<u64>,
}

impl GoCensus {
    /// For a process that passed the check.
    pub fn new(process: GoProcess) -> Self {
        Self {
            unwinder: Unwinder::new(process.symbols.clone(), process.bias),
            conns: Conns::new(process.minor),
            process,
            waits: Waits::default(),
            refs: Refs::default(),
            gather: Gather::default(),
            pointers: Vec::new(),
            records: Vec::new(),
            frames: Vec::new(),
            starts: AddressMap::default(),
            c_calls: AddressMap::default(),
            parked: AddressMap::default(),
            next_parked: AddressMap::default(),
            parked_stacks: Stacks::default(),
            last_try: false,
        }
    }

    /// The process.
    pub fn process(&self) -> &GoProcess {
        &self.process
    }

    /// Takes a census; `now` is the time that it carries.
    ///
    /// # Errors
    /// The reason when the list of goroutines can not be read: the process is gone, or another
    /// program runs in it.
    pub fn take(&mut self, memory: &dyn Memory, now: Mono) -> Result<Census, Reason> {
        let started = Instant::now();
        let (array, listed) = read_allgs(memory, self.process.allgs)?;
        let mut census = Census::new(now);
        census.figures.listed = listed;
        let taken = listed.min(MAX_GOROUTINES);
        census.figures.beyond_bound = listed - taken;
        census.variables = self.process.variables.clone();
        census.slots = self
            .process
            .gomaxprocs
            .and_then(|at| memory.read_u32(at).ok())
            .filter(|n| (1..=MAX_PROCS).contains(n));
        self.read_scheduler(memory, &mut census);
        self.waits.begin();
        self.refs.begin();
        self.conns.begin();
        self.next_parked.clear();
        if self.parked_stacks.len() > MAX_PARKED_STACKS {
            self.parked_stacks = Stacks::default();
            self.parked.clear();
        }
        self.gather.bytes = 0;
        let mut pointers = std::mem::take(&mut self.pointers);
        let outcome = self.take_all(memory, array, taken as usize, &mut pointers, &mut census);
        self.pointers = pointers;
        std::mem::swap(&mut self.parked, &mut self.next_parked);
        outcome.map_err(|e| Reason::with(format!("the goroutines could not be read: {e}")))?;
        census.figures.bytes_read = self.gather.bytes + 24 + 8 * taken;
        census.figures.duration_ns =
            u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(census)
    }

    /// First of all: the goroutines are read for some time.
    fn read_scheduler(&self, memory: &dyn Memory, census: &mut Census) {
        let reader = self.process.sched.as_ref();
        census.scheduler = match reader.map_err(Clone::clone).and_then(|r| r.read(memory)) {
            Ok((sample, delays)) => {
                census.delays = Some(Box::new(delays));
                census.slots = census.slots.or(Some(sample.slots));
                Known::Known(sample)
            }
            Err(reason) => Known::Unknown(reason),
        };
    }

    fn take_all(
        &mut self,
        memory: &dyn Memory,
        array: u64,
        count: usize,
        pointers: &mut Vec<u64>,
        census: &mut Census,
    ) -> Result<(), ReadError> {
        let mut bytes = vec![0; count.min(CHUNK) * 8];
        pointers.clear();
        while pointers.len() < count {
            let n = (count - pointers.len()).min(CHUNK);
            let part = &mut bytes[..n * 8];
            memory.read(array + 8 * pointers.len() as u64, part)?;
            pointers.extend(part.chunks_exact(8).filter_map(|word| u64_at(word, 0)));
        }
        census.tasks.reserve(count);
        let mut torn = Vec::new();
        self.last_try = false;
        for chunk in pointers.chunks(CHUNK) {
            self.chunk(memory, chunk, census, &mut torn)?;
        }
        // What changed while it was read is tried once more; what changes again is left out.
        let again = std::mem::take(&mut torn);
        self.last_try = true;
        for chunk in again.chunks(CHUNK) {
            self.chunk(memory, chunk, census, &mut torn)?;
        }
        census.figures.torn = torn.len() as u64;
        let missed = census.figures.torn + census.figures.unreadable + census.figures.beyond_bound;
        census.holders_cut = self.conns.cut();
        census.searched = missed == 0 && self.refs.whole();
        Ok(())
    }

    fn chunk(
        &mut self,
        memory: &dyn Memory,
        pointers: &[u64],
        census: &mut Census,
        torn: &mut Vec<u64>,
    ) -> Result<(), ReadError> {
        self.waits.clear();
        self.refs.clear();
        self.conns.clear();
        self.read_records(memory, pointers, census, torn)?;
        self.read_stacks(memory)?;
        let offsets = self.process.offsets;
        self.waits
            .resolve(memory, &mut self.gather, &mut self.records, &offsets)?;
        self.refs.resolve(memory, &mut self.gather, &self.records)?;
        self.conns
            .resolve(memory, &mut self.gather, &self.records)?;
        self.read_threads(memory)?;
        self.read_again(memory)?;
        self.refs.emit(&self.records, &mut census.mentions);
        self.conns.emit(&self.records, &mut census.holders);
        let mut queued = 0;
        for index in 0..self.records.len() {
            let record = &self.records[index];
            let first = census.waits.len() as u32;
            let found = &mut census.waits;
            queued = self.waits.emit(index as u32, record, queued, found);
            if record.torn {
                census.waits.truncate(first as usize);
                torn.push(record.g);
                continue;
            }
            let waits = first..census.waits.len() as u32;
            let frames = &self.frames[index * MAX_DEPTH..][..record.walk.depth];
            let stack =
                (!frames.is_empty() && !record.stackless).then(|| census.stacks.intern(frames));
            let system = is_system(&mut self.starts, &self.unwinder, record.startpc);
            let looked_at = record.walk.whole && !record.stackless;
            if !system && (record.state == TaskState::Running || !looked_at) {
                self.refs.miss();
            }
            if record.state == TaskState::Waiting && record.walk.depth > 0 {
                let parked = Parked {
                    goid: record.goid,
                    occasion: record.occasion(),
                    stack: self.parked_stacks.intern(frames),
                    owner: record.owner,
                    found: record.found,
                    whole: record.walk.whole,
                    watch: self.refs.watch_number(),
                    connections: self.conns.searched(index as u32),
                };
                self.next_parked.insert(record.g, parked);
            }
            let in_c = record.state == TaskState::Syscall
                && frames
                    .first()
                    .is_some_and(|pc| calls_c(&mut self.c_calls, &self.unwinder, *pc));
            let mut task = task(record, system);
            if in_c {
                task.cause = Some(Cause::CgoCall);
            }
            task.waits = waits;
            task.stack = stack;
            census.tasks.push(task);
        }
        Ok(())
    }

    fn read_records(
        &mut self,
        memory: &dyn Memory,
        pointers: &[u64],
        census: &mut Census,
        torn: &mut Vec<u64>,
    ) -> Result<(), ReadError> {
        let size = self.process.offsets.g_size();
        self.gather.clear();
        for &g in pointers {
            self.gather.add(g, size);
        }
        self.gather.read(memory)?;
        self.records.clear();
        for (number, &g) in pointers.iter().enumerate() {
            let Some(bytes) = self.gather.get(number) else {
                census.figures.unreadable += 1;
                continue;
            };
            match decode(g, bytes, &self.process.offsets, self.process.minor) {
                Decoded::Ended => census.figures.ended += 1,
                Decoded::Task(record) if record.goid != 0 && record.goid <= MAX_GOID => {
                    self.records.push(record);
                }
                Decoded::Torn | Decoded::Task(_) => torn.push(g),
            }
        }
        Ok(())
    }

    fn read_stacks(&mut self, memory: &dyn Memory) -> Result<(), ReadError> {
        if self.frames.len() < self.records.len() * MAX_DEPTH {
            self.frames.resize(self.records.len() * MAX_DEPTH, 0);
        }
        for (index, record) in self.records.iter_mut().enumerate() {
            if record.sp == 0 {
                continue;
            }
            let known = self.parked.get(&record.g).filter(|p| {
                record.state == TaskState::Waiting
                    && (p.goid, p.occasion) == (record.goid, record.occasion())
                    && (!self.refs.active() || p.watch == self.refs.watch_number())
                    && (!self.conns.active() || p.connections == Some(self.conns.watch_number()))
            });
            if let Some(known) = known {
                let stack = self.parked_stacks.get(known.stack);
                self.frames[index * MAX_DEPTH..][..stack.len()].copy_from_slice(stack);
                record.walk.depth = stack.len();
                record.owner = known.owner;
                record.found = known.found;
                record.walk.whole = known.whole;
                self.refs.known(index as u32, record.g);
                self.conns.known(index as u32, record.g);
            } else {
                record.walk = self.unwinder.start(record.sp, record.pc);
            }
        }
        for round in 0..MAX_WINDOWS {
            self.gather.clear();
            let window = if round == 0 {
                FIRST_WINDOW
            } else {
                NEXT_WINDOW
            };
            let mut open = Vec::new();
            for (index, record) in self.records.iter().enumerate() {
                let walk = &record.walk;
                let room = record.stack_hi.saturating_sub(walk.sp);
                if walk.needs == 0 || walk.needs > MAX_FRAME || walk.needs as u64 > room {
                    continue;
                }
                let len = window.max(walk.needs as u64).min(room);
                open.push((index, self.gather.add(walk.sp, len as usize)));
            }
            if open.is_empty() {
                break;
            }
            self.gather.read(memory)?;
            for (index, number) in open {
                let record = &mut self.records[index];
                let mut walk = record.walk;
                walk.needs = 0;
                if let Some(bytes) = self.gather.get(number) {
                    let frames = &mut self.frames[index * MAX_DEPTH..][..MAX_DEPTH];
                    let (waits, refs, conns) = (&mut self.waits, &mut self.refs, &mut self.conns);
                    self.unwinder.step(&mut walk, bytes, frames, &mut |frame| {
                        waits.visit(index as u32, record, frame);
                        refs.visit(index as u32, record, frame);
                        conns.visit(index as u32, record, frame);
                    });
                }
                record.walk = walk;
            }
        }
        Ok(())
    }

    /// Threads of goroutines that run or are in a system call: `g.m.procid`, when `m.curg` agrees.
    fn read_threads(&mut self, memory: &dyn Memory) -> Result<(), ReadError> {
        let o = self.process.offsets;
        let on_thread =
            |r: &Record| r.m != 0 && matches!(r.state, TaskState::Running | TaskState::Syscall);
        self.gather.clear();
        for record in self.records.iter().filter(|r| on_thread(r)) {
            self.gather
                .add(record.m.wrapping_add(u64::from(o.m_procid)), 8);
            self.gather
                .add(record.m.wrapping_add(u64::from(o.m_curg)), 8);
        }
        self.gather.read(memory)?;
        let word = |number: usize| u64_at(self.gather.get(number)?, 0);
        let mut number = 0;
        for record in self.records.iter_mut().filter(|r| on_thread(r)) {
            if word(number + 1) == Some(record.g) {
                record.tid = word(number).and_then(|tid| u32::try_from(tid).ok());
            }
            number += 2;
        }
        Ok(())
    }

    fn read_again(&mut self, memory: &dyn Memory) -> Result<(), ReadError> {
        let size = self.process.offsets.g_size();
        self.gather.clear();
        for record in &self.records {
            self.gather.add(record.g, size);
        }
        self.gather.read(memory)?;
        for (number, record) in self.records.iter_mut().enumerate() {
            let later = self
                .gather
                .get(number)
                .map(|bytes| decode(record.g, bytes, &self.process.offsets, self.process.minor));
            let same = matches!(&later, Some(Decoded::Task(later)) if record.unchanged(later));
            match record.state {
                TaskState::Waiting | TaskState::Syscall => {
                    record.torn |= !same || !self.last_try && record.is_cut();
                }
                // What was running or ready then, was so then; only its stack is from later.
                TaskState::Running | TaskState::Runnable => record.stackless = !same,
            }
        }
        Ok(())
    }
}

impl TaskCensus for GoCensus {
    fn take(&mut self, memory: &dyn Memory, now: Mono) -> Result<Known<Census>, Reason> {
        Self::take(self, memory, now).map(Known::Known)
    }

    fn watch(&mut self, addresses: &[u64]) {
        self.refs.watch(addresses);
        if self.refs.active() {
            self.unwinder.look_for_uses();
        }
    }

    fn connections_at_most(&self) -> usize {
        conns::MAX_WATCHED
    }

    fn watch_connections(&mut self, fds: &[i32]) {
        self.conns.watch(fds);
        self.unwinder.show_all(self.conns.active());
    }
}

fn is_system(starts: &mut AddressMap<bool>, unwinder: &Unwinder, start: u64) -> bool {
    if let Some(&known) = starts.get(&start) {
        return known;
    }
    if starts.len() >= MAX_STARTS {
        starts.clear();
    }
    // isSystemGoroutine, `src/runtime/traceback.go`.
    let system = unwinder.function_name(start).is_some_and(|name| {
        name.starts_with("runtime.") && !matches!(name, "runtime.main" | "runtime.handleAsyncEvent")
    });
    starts.insert(start, system);
    system
}

/// `runtime.cgocall` is what a goroutine entered its "system call" from (`src/runtime/cgocall.go`).
fn calls_c(known: &mut AddressMap<bool>, unwinder: &Unwinder, pc: u64) -> bool {
    if known.len() >= MAX_STARTS {
        known.clear();
    }
    *known
        .entry(pc)
        .or_insert_with(|| unwinder.function_name(pc) == Some("runtime.cgocall"))
}

fn task(r: &Record, system: bool) -> CensusTask {
    let reason = r.reason.filter(|_| r.state == TaskState::Waiting);
    CensusTask {
        id: r.goid,
        state: r.state,
        wait_reason: reason.map(|r| r.text),
        cause: reason.map(|r| r.cause),
        blocked: reason.is_some_and(|r| r.is_blocking),
        system,
        leaked: r.leaked,
        thread: r.tid.map(Tid),
        locked_to_thread: r.locked,
        parent: Some(r.parent).filter(|&id| id != 0),
        created_at: Some(r.gopc).filter(|&pc| pc != 0).map(|pc| pc - 1),
        entry: Some(r.startpc).filter(|&pc| pc != 0),
        stack: None,
        occasion: r.occasion(),
        ready_since: r.ready_since.map(Mono),
        age: None,
        waits: 0..0,
    }
}
