//! A `g` as it was read.

use super::super::live::{STATUS_MASK, u32_at, u64_at};
use super::super::offsets::GoOffsets;
use super::super::waitreason::{self, WaitReason};
use super::unwind::{MAX_DEPTH, Walk};
use crate::model::census::{Direction, TaskState, WaitKind, WaitsOn, fingerprint};

/// One goroutine on its way into the census.
#[derive(Debug, Clone)]
pub struct Record {
    /// Address of its `g`.
    pub g: u64,
    /// `g.goid`.
    pub goid: u64,
    /// What it does.
    pub state: TaskState,
    /// `_Gleaked`.
    pub leaked: bool,
    /// Wait reason, when it waits.
    pub reason: Option<WaitReason>,
    /// Saved stack pointer and program counter (`g.sched`, in system calls `g.syscallsp`).
    pub sp: u64,
    /// See `sp`.
    pub pc: u64,
    /// End of its stack.
    pub stack_hi: u64,
    /// `g.m`.
    pub m: u64,
    /// `g.lockedm` is set.
    pub locked: bool,
    /// `g.parentGoid`.
    pub parent: u64,
    /// `g.gopc`.
    pub gopc: u64,
    /// `g.startpc`.
    pub startpc: u64,
    /// `g.waiting`.
    pub waiting: u64,
    /// `g.trackingSeq`.
    pub tracking: u8,
    /// `g.trackingStamp`, when the runtime tracks it and it is ready: since when it is.
    pub ready_since: Option<u64>,
    /// `g.sleepWhen`.
    pub sleep_when: Option<u64>,
    /// `g.timer`.
    pub timer: u64,
    /// The walk over its stack.
    pub walk: Walk,
    /// Whom a semaphore belongs to, by the stack.
    pub owner: Option<(WaitKind, Option<Direction>)>,
    /// What it waits on, when that is one thing other than a channel.
    pub found: Option<WaitsOn>,
    /// The thread that runs it.
    pub tid: Option<u32>,
    /// It changed while it was read.
    pub torn: bool,
    /// Its stack was read while it moved.
    pub stackless: bool,
}

/// What a record's bytes say.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once per goroutine and census, where a box would be an allocation each"
)]
pub enum Decoded {
    /// A goroutine.
    Task(Record),
    /// A free or new entry.
    Ended,
    /// Between two states, or garbage.
    Torn,
}

/// Reads a record. Never fails on any bytes: what makes no sense is torn.
pub fn decode(g: u64, bytes: &[u8], o: &GoOffsets, minor: u32) -> Decoded {
    decode_all(g, bytes, o, minor).unwrap_or(Decoded::Torn)
}

fn decode_all(g: u64, bytes: &[u8], o: &GoOffsets, minor: u32) -> Option<Decoded> {
    let word = |at: u32| u64_at(bytes, at as usize);
    let byte = |at: u32| bytes.get(at as usize).copied();
    let (mut leaked, mut reason) = (false, None);
    // `src/runtime/runtime2.go`, `_Gidle` to `_Gdeadextra`.
    let state = match u32_at(bytes, o.g_status as usize)? & STATUS_MASK {
        0 | 6 | 11 => return Some(Decoded::Ended),
        1 => TaskState::Runnable,
        2 => TaskState::Running,
        3 => TaskState::Syscall,
        status @ (4 | 9 | 10) => {
            leaked = status == 10;
            // `_Gpreempted` keeps the number of an older wait.
            reason = if status == 9 {
                Some(waitreason::classify("preempted"))
            } else {
                waitreason::lookup(minor, byte(o.g_waitreason)?)
            };
            TaskState::Waiting
        }
        _ => return Some(Decoded::Torn),
    };
    let (sp_at, pc_at) = if state == TaskState::Syscall {
        (o.g_syscallsp, o.g_syscallsp + 8)
    } else {
        (o.g_sched, o.g_sched + 8)
    };
    let (lo, hi, sp) = (word(o.g_stack)?, word(o.g_stack + 8)?, word(sp_at)?);
    // Without a plausible stack there is nothing to walk.
    let walkable = state != TaskState::Running && lo < hi && (lo..hi).contains(&sp);
    Some(Decoded::Task(Record {
        g,
        goid: word(o.g_goid)?,
        state,
        leaked,
        reason,
        sp: if walkable { sp } else { 0 },
        pc: word(pc_at)?,
        stack_hi: hi,
        m: word(o.g_m)?,
        locked: word(o.g_lockedm)? != 0,
        parent: o.g_parent.and_then(word).unwrap_or(0),
        gopc: word(o.g_gopc)?,
        startpc: word(o.g_startpc)?,
        waiting: word(o.g_waiting)?,
        tracking: byte(o.g_tracking)?,
        ready_since: ready_since(bytes, state, o),
        sleep_when: o.g_sleep_when.and_then(word),
        timer: word(o.g_timer)?,
        walk: Walk::default(),
        owner: None,
        found: None,
        tid: None,
        torn: false,
        stackless: false,
    }))
}

/// Every eighth time that a goroutine stops running, the runtime notes when it becomes ready
/// (`src/runtime/proc.go`, casgstatus; Go 1.17 to 1.27). `g.tracking` lies before `g.trackingSeq`,
/// `g.trackingStamp` is the next word after.
fn ready_since(bytes: &[u8], state: TaskState, o: &GoOffsets) -> Option<u64> {
    let sequence = o.g_tracking as usize;
    let tracked = *bytes.get(sequence.checked_sub(1)?)? == 1;
    let stamp = u64_at(bytes, (sequence + 1).next_multiple_of(8))?;
    (state == TaskState::Runnable && tracked && stamp != 0).then_some(stamp)
}

impl Record {
    /// The same as long as the goroutine has not run.
    pub fn occasion(&self) -> u64 {
        let words = [
            self.state as u64,
            self.reason.map_or(0, |r| r.text.as_ptr() as u64),
            u64::from(self.tracking),
            // Relative: the stack may be moved while its owner waits.
            self.stack_hi.wrapping_sub(self.sp),
            self.pc,
            self.waiting,
        ];
        fingerprint(words.into_iter())
    }

    /// Whether the stack of a wait ends too early: a sign that it was read while the goroutine ran.
    pub fn is_cut(&self) -> bool {
        let depth = self.walk.depth;
        self.state == TaskState::Waiting && !self.walk.whole && (1..MAX_DEPTH).contains(&depth)
    }

    /// Whether `later`, the same entry read again, is still in the same wait.
    pub fn unchanged(&self, later: &Self) -> bool {
        let key = |r: &Self| {
            (
                r.goid,
                r.state,
                r.tracking,
                r.stack_hi.wrapping_sub(r.sp),
                r.pc,
                r.waiting,
            )
        };
        key(self) == key(later) && self.sp == later.sp
    }
}
