//! The Go scheduler from outside: `runtime.sched` and the Ps (`src/runtime/runtime2.go`). Nothing here
//! stops the process, so that figures of one sample may be some microseconds apart.

use super::live::{u32_at, u64_at};
use super::offsets::KNOWN_MINORS;
use super::symbols::GoSymbols;
use super::{decode, dwarf};
use crate::model::Reason;
use crate::model::memory::{Memory, ReadError, ReadRequest};
use crate::model::scheduling::{DELAY_BUCKETS, Delays, SchedulerSample};
use crate::model::time::Mono;
use crate::sys::elf::{self, Elf};

/// More Ps than any machine allows.
const MAX_PROCS: u64 = 1 << 16;
/// More threads than a process can have (Linux `PID_MAX_LIMIT`).
const MAX_THREADS: u64 = 1 << 22;
/// Entries of a P's own queue (`len(p.runq)`, all versions).
const RUNQ: u32 = 256;
/// Bytes of `schedt` before the histogram that hold every field that is read.
const HEAD: usize = 192;
/// The first minor version whose histogram has [`DELAY_BUCKETS`] (`timeHistogram` in
/// `src/runtime/histogram.go`: Go 1.19.13 has 45 times 16 of them, Go 1.20.14 40 times 4).
const FIRST_MINOR: u32 = 20;
/// `p.id`, all versions: its index.
const P_ID: u64 = 0;

/// Where the fields lie, x86-64: measured from the DWARF of programs built with Go 1.20.14, 1.21.13, 1.22.10,
/// 1.23.9, 1.24.11, 1.25.5, 1.26.6 and 1.27.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedOffsets {
    /// `schedt.lastpoll`.
    pub lastpoll: u32,
    /// `schedt.lock`.
    pub lock: u32,
    /// `schedt.nmidle`.
    pub nmidle: u32,
    /// `schedt.mnext`.
    pub mnext: u32,
    /// `schedt.nmfreed`.
    pub nmfreed: u32,
    /// `schedt.npidle`.
    pub npidle: u32,
    /// `schedt.nmspinning`.
    pub nmspinning: u32,
    /// `schedt.runqsize` (Go 1.25 and later: `schedt.runq.size`).
    pub runqsize: u32,
    /// `schedt.timeToRun`.
    pub time_to_run: u32,
    /// `p.runqhead`; `runqtail` follows.
    pub p_runqhead: u32,
    /// `p.runnext`.
    pub p_runnext: u32,
}

/// Go 1.20.14, 1.21.13 and 1.22.10.
const V21: SchedOffsets = SchedOffsets {
    lastpoll: 8,
    lock: 24,
    nmidle: 40,
    mnext: 48,
    nmfreed: 64,
    npidle: 88,
    nmspinning: 92,
    runqsize: 120,
    time_to_run: 320,
    p_runqhead: 400,
    p_runnext: 2456,
};

/// Go 1.23.9 and 1.24.11.
const V23: SchedOffsets = SchedOffsets {
    p_runqhead: 392,
    p_runnext: 2448,
    ..V21
};

/// Go 1.25.5: `pollingNet` came in, and queues know their size.
const V25: SchedOffsets = SchedOffsets {
    lock: 32,
    nmidle: 48,
    mnext: 56,
    nmfreed: 72,
    npidle: 96,
    nmspinning: 100,
    runqsize: 128,
    time_to_run: 344,
    ..V23
};

/// Go 1.26.6 and 1.27.3.
const V26: SchedOffsets = SchedOffsets {
    nmidle: 64,
    mnext: 72,
    nmfreed: 88,
    npidle: 112,
    nmspinning: 116,
    runqsize: 144,
    time_to_run: 360,
    p_runqhead: 400,
    p_runnext: 2456,
    ..V25
};

/// The row of a minor version; `None` when it is not in the table.
pub fn by_minor(minor: u32) -> Option<SchedOffsets> {
    match minor {
        20..=22 => Some(V21),
        23 | 24 => Some(V23),
        25 => Some(V25),
        26 | 27 => Some(V26),
        _ => None,
    }
}

/// Offsets by the table, else (an unknown or development version) by debug information.
///
/// # Errors
/// The reason when neither knows them.
pub fn offsets(minor: u32, devel: bool, elf: &Elf<'_>) -> Result<SchedOffsets, Reason> {
    if minor < FIRST_MINOR {
        return Err(Reason::with(format!(
            "the scheduler is read from Go 1.{FIRST_MINOR} on; before, its histogram has other buckets"
        )));
    }
    if let Some(offsets) = by_minor(minor).filter(|_| !devel) {
        return Ok(offsets);
    }
    dwarf::sched_offsets(elf).map_err(|reason| {
        let last = KNOWN_MINORS.end();
        Reason::with(format!(
            "the layout of the scheduler is known for Go 1.{FIRST_MINOR} to 1.{last}; {reason}"
        ))
    })
}

/// Where the scheduler's variables lie: file virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedAnchors {
    /// `runtime.sched`, or `runtime.sched.lock`.
    sched: Sched,
    /// `runtime.allp`.
    allp: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sched {
    Variable(u64),
    Lock(u64),
}

impl SchedAnchors {
    /// From symbols, else from the code that uses them: `runtime.sysmon` begins by taking `sched.lock`,
    /// and the first word that `runtime.retake` loads is `allp` (Go 1.20 to 1.27, measured).
    pub fn find(elf: &Elf<'_>, symbols: &GoSymbols) -> Option<Self> {
        let code = |name: &str| {
            let function = symbols.pclntab()?.by_name(name)?;
            let size = usize::try_from(function.end.checked_sub(function.entry)?).ok()?;
            let code = elf::bytes_at(elf, function.entry)?;
            Some((&code[..code.len().min(size)], function.entry))
        };
        let variables = symbols.tables().variables;
        let sched = if let Some(sched) = variables.sched {
            Sched::Variable(sched)
        } else {
            let (bytes, at) = code("runtime.sysmon")?;
            Sched::Lock(decode::first_lea(bytes, at)?)
        };
        let allp = if let Some(allp) = variables.allp {
            allp
        } else {
            let (bytes, at) = code("runtime.retake")?;
            decode::first_load(bytes, at)?
        };
        Some(Self { sched, allp })
    }
}

/// Reads the scheduler of one process.
#[derive(Debug, Clone)]
pub struct SchedReader {
    sched: u64,
    allp: u64,
    offsets: SchedOffsets,
}

impl SchedReader {
    /// For a process with this load bias, checked on its memory.
    ///
    /// # Errors
    /// The reason why the scheduler can not be read.
    pub fn new(
        anchors: Option<SchedAnchors>,
        offsets: SchedOffsets,
        bias: u64,
        memory: &dyn Memory,
    ) -> Result<Self, Reason> {
        let anchors = anchors.ok_or(Reason::new(
            "the scheduler's variables could not be found in the executable",
        ))?;
        let at = |address: u64| bias.wrapping_add(address);
        let reader = Self {
            sched: match anchors.sched {
                Sched::Variable(sched) => at(sched),
                Sched::Lock(lock) => at(lock).wrapping_sub(u64::from(offsets.lock)),
            },
            allp: at(anchors.allp),
            offsets,
        };
        reader.read(memory)?;
        Ok(reader)
    }

    /// The scheduler now, and its count of delays since the program's start.
    ///
    /// # Errors
    /// The reason when it can not be read or makes no sense.
    pub fn read(&self, memory: &dyn Memory) -> Result<(SchedulerSample, Delays), Reason> {
        const ODD: Reason = Reason::new("the scheduler's figures make no sense: another layout?");
        let unreadable =
            |e: ReadError| Reason::with(format!("the scheduler could not be read: {e}"));
        let o = &self.offsets;
        let mut head = [0; HEAD];
        let mut histogram = [0; (DELAY_BUCKETS + 2) * 8];
        let mut ps = [0; 16];
        memory.read(self.sched, &mut head).map_err(unreadable)?;
        memory
            .read(
                self.sched.wrapping_add(u64::from(o.time_to_run)),
                &mut histogram,
            )
            .map_err(unreadable)?;
        memory.read(self.allp, &mut ps).map_err(unreadable)?;
        let word = |at: u32| u64_at(&head, at as usize).unwrap_or(0);
        let half = |at: u32| u32_at(&head, at as usize).unwrap_or(0);
        let (array, slots) = (u64_at(&ps, 0).unwrap_or(0), u64_at(&ps, 8).unwrap_or(0));
        if slots == 0 || slots > MAX_PROCS || array == 0 {
            return Err(ODD);
        }
        let slot_queues = self.slot_queues(memory, array, slots)?;
        let threads = word(o.mnext).wrapping_sub(word(o.nmfreed));
        let sample = SchedulerSample {
            slots: slots as u32,
            idle_slots: half(o.npidle),
            shared_queue: u64::from(half(o.runqsize)),
            slot_queues,
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            idle_threads: half(o.nmidle),
            spinning_threads: half(o.nmspinning),
            polled: Some(word(o.lastpoll)).filter(|at| *at != 0).map(Mono),
        };
        let fits = threads > 0
            && threads <= MAX_THREADS
            && u64::from(sample.idle_slots) <= slots
            && u64::from(sample.idle_threads) <= threads
            && u64::from(sample.spinning_threads) <= threads
            && sample.shared_queue <= super::live::MAX_LISTED;
        if !fits {
            return Err(ODD);
        }
        let mut delays = Delays::default();
        for (bucket, count) in delays.counts.iter_mut().enumerate() {
            *count = u64_at(&histogram, bucket * 8).unwrap_or(0);
        }
        // Durations below zero, which it counts apart, say nothing.
        delays.beyond = u64_at(&histogram, (DELAY_BUCKETS + 1) * 8).unwrap_or(0);
        Ok((sample, delays))
    }

    /// Goroutines in the queues of the Ps. Each P must have its place as its number.
    fn slot_queues(&self, memory: &dyn Memory, array: u64, slots: u64) -> Result<u64, Reason> {
        let unreadable = |e: ReadError| Reason::with(format!("a P could not be read: {e}"));
        let slots = slots as usize;
        let mut pointers = vec![0; slots * 8];
        memory.read(array, &mut pointers).map_err(unreadable)?;
        let mut bytes = vec![0; slots * 20];
        let mut requests = Vec::with_capacity(slots * 3);
        for (index, piece) in bytes.chunks_exact_mut(20).enumerate() {
            let p = u64_at(&pointers, index * 8).unwrap_or(0);
            let (id, rest) = piece.split_at_mut(4);
            let (queue, next) = rest.split_at_mut(8);
            let parts = [
                (P_ID, id),
                (u64::from(self.offsets.p_runqhead), queue),
                (u64::from(self.offsets.p_runnext), next),
            ];
            requests.extend(parts.map(|(offset, buf)| ReadRequest {
                addr: p.wrapping_add(offset),
                buf,
                ok: false,
            }));
        }
        memory.read_batch(&mut requests).map_err(unreadable)?;
        let whole = requests.iter().all(|request| request.ok);
        drop(requests);
        if !whole {
            return Err(Reason::new("a P could not be read"));
        }
        let mut queued = 0;
        for (index, piece) in bytes.chunks_exact(20).enumerate() {
            let half = |at: usize| u32_at(piece, at).unwrap_or(0);
            let length = half(8).wrapping_sub(half(4));
            if half(0) as usize != index {
                return Err(Reason::new("a P is not where it was expected"));
            }
            // Head and tail are not read in one instant: more than fits is a queue in motion.
            queued += u64::from(length.min(RUNQ)) + u64::from(u64_at(piece, 12) != Some(0));
        }
        Ok(queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::go::census::fake::Bytes;

    const SCHED: u64 = 0x1000;
    const ALLP: u64 = 0x9000;

    fn put(bytes: &mut [u8], at: u32, value: &[u8]) {
        bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
    }

    /// A process with two Ps, of which the second has three goroutines queued and one next.
    fn process(change: impl Fn(&mut Vec<u8>, &mut Vec<u8>)) -> Bytes {
        let o = V26;
        let mut sched = vec![0; 4096];
        put(&mut sched, o.mnext, &9_u64.to_le_bytes());
        put(&mut sched, o.nmfreed, &2_u64.to_le_bytes());
        put(&mut sched, o.nmidle, &3_u32.to_le_bytes());
        put(&mut sched, o.npidle, &1_u32.to_le_bytes());
        put(&mut sched, o.runqsize, &5_u32.to_le_bytes());
        put(&mut sched, o.lastpoll, &777_u64.to_le_bytes());
        put(&mut sched, o.time_to_run + 8 * 40, &6_u64.to_le_bytes());
        put(&mut sched, o.time_to_run + 8 * 161, &1_u64.to_le_bytes());
        let mut second = vec![0; 4096];
        put(&mut second, 0, &1_u32.to_le_bytes());
        put(&mut second, o.p_runqhead, &(u32::MAX - 1).to_le_bytes());
        put(&mut second, o.p_runqhead + 4, &1_u32.to_le_bytes());
        put(&mut second, o.p_runnext, &0xc000_u64.to_le_bytes());
        change(&mut sched, &mut second);
        let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect();
        Bytes::new(&[
            (SCHED, sched),
            (ALLP, words(&[0xa000, 2, 2])),
            (0xa000, words(&[0x2_0000, 0x3_0000])),
            (0x2_0000, vec![0; 4096]),
            (0x3_0000, second),
        ])
    }

    fn anchors() -> SchedAnchors {
        SchedAnchors {
            sched: Sched::Lock(SCHED + 32),
            allp: ALLP,
        }
    }

    #[test]
    fn a_scheduler_is_read() {
        let memory = process(|_, _| {});
        let reader = SchedReader::new(Some(anchors()), V26, 0, &memory).unwrap();
        let (sample, delays) = reader.read(&memory).unwrap();
        let expected = SchedulerSample {
            slots: 2,
            idle_slots: 1,
            shared_queue: 5,
            slot_queues: 4,
            threads: 7,
            idle_threads: 3,
            spinning_threads: 0,
            polled: Some(Mono(777)),
        };
        assert_eq!(sample, expected);
        assert_eq!(
            (delays.counts[40], delays.beyond, delays.count()),
            (6, 1, 7)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>)| {
            let memory = process(change);
            SchedReader::new(Some(anchors()), V26, 0, &memory)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        let text = refused(&|sched, _| put(sched, V26.npidle, &3_u32.to_le_bytes()));
        assert!(text.contains("make no sense"), "{text}");
        let text = refused(&|sched, _| put(sched, V26.mnext, &0_u64.to_le_bytes()));
        assert!(text.contains("make no sense"), "{text}");
        let text = refused(&|_, p| put(p, 0, &7_u32.to_le_bytes()));
        assert!(text.contains("not where it was expected"), "{text}");
        let memory = process(|_, _| {});
        assert!(SchedReader::new(None, V26, 0, &memory).is_err());
        assert!(SchedReader::new(Some(anchors()), V26, 1 << 40, &memory).is_err());
        assert!(by_minor(FIRST_MINOR - 1).is_none() && by_minor(28).is_none());
    }
}
