//! Goroutines as followed by the probe in `runtime.casgstatus`: states, sums, places, wakers.

use crate::events::wait::BUCKETS;
use crate::pod;

/// States as the runtime numbers them (Go `src/runtime/runtime2.go`, `_Gidle` and following; the
/// same in 1.21 to 1.27).
pub const STATE_IDLE: u8 = 0;
/// Ready, not running.
pub const STATE_RUNNABLE: u8 = 1;
/// Running.
pub const STATE_RUNNING: u8 = 2;
/// In a system call.
pub const STATE_SYSCALL: u8 = 3;
/// Waiting.
pub const STATE_WAITING: u8 = 4;
/// Not in use: ended, or not begun.
pub const STATE_DEAD: u8 = 6;
/// Its stack is being moved.
pub const STATE_COPYSTACK: u8 = 8;
/// Stopped by the collector.
pub const STATE_PREEMPTED: u8 = 9;
/// Of a thread that C code made, while it runs no Go (Go 1.26).
pub const STATE_DEAD_EXTRA: u8 = 11;

/// Kinds of sums beyond the states. A change of state was not seen: the time since the last one.
pub const KIND_UNSEEN: u8 = 32;
/// Goroutines that were made, by the place of their `go` statement.
pub const KIND_CREATED: u8 = 33;
/// Goroutines that ended, by the same place; durations are their lives.
pub const KIND_ENDED: u8 = 34;

/// It was in this state, or alive, before the probe was in: durations are lower bounds.
pub const GO_BEFORE: u8 = 1;

/// No place.
pub const NO_PLACE: u64 = 0;
/// The places of many rows, folded for want of room.
pub const FOLDED_PLACE: u64 = u64::MAX;

/// What the programs need to know of one attachment: offsets in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct GoProbeConfig {
    /// `g.m`.
    pub g_m: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.waitreason`.
    pub g_waitreason: u32,
    /// `g.gopc`.
    pub g_gopc: u32,
    /// `g.sched.pc`.
    pub g_sched_pc: u32,
    /// `g.sched.bp`.
    pub g_sched_bp: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// 1: system calls go through `casgstatus` (before Go 1.26).
    pub syscalls: u32,
}

const _: () = assert!(size_of::<GoProbeConfig>() == 32);
pod!(GoProbeConfig);

/// A goroutine of an attachment: by the address of its `g`, which the runtime never frees.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GoKey {
    /// Address of its `g`.
    pub g: u64,
    /// Attachment.
    pub slot: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<GoKey>() == 16);
pod!(GoKey);

/// The state that a goroutine is in.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct GoState {
    /// Since when.
    pub since: u64,
    /// When it was made; 0: before the probe was in.
    pub born: u64,
    /// Waiting: the place, see [`walk`].
    pub place: u64,
    /// `STATE_*`.
    pub state: u8,
    /// Waiting: the runtime's wait reason. Runnable: the state that it was in before.
    pub reason: u8,
    /// `GO_*`.
    pub flags: u8,
    /// Always 0.
    pub pad: [u8; 5],
}

const _: () = assert!(size_of::<GoState>() == 32);
pod!(GoState);

/// What the time of goroutines is grouped by.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GoSumKey {
    /// Waiting: id of the stack in `GO_STACKS`. Made or ended: address of the `go` statement.
    pub place: u64,
    /// Attachment.
    pub slot: u32,
    /// `STATE_*` or `KIND_*`.
    pub kind: u8,
    /// See [`GoState::reason`].
    pub reason: u8,
    /// `GO_*`.
    pub flags: u8,
    /// Always 0.
    pub pad: u8,
}

const _: () = assert!(size_of::<GoSumKey>() == 16);
pod!(GoSumKey);

/// Sums over the stretches of one key.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GoSum {
    /// Stretches.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The goroutine whose it was; 0: not read.
    pub max_goid: u64,
    /// Counts by duration; see [`crate::events::wait::bucket_of`].
    pub buckets: [u32; BUCKETS],
}

const _: () = assert!(size_of::<GoSum>() == 32 + 4 * BUCKETS);
pod!(GoSum);

/// Woken by a goroutine.
pub const WOKEN_BY_GOROUTINE: u8 = 1;
/// Woken by the runtime's scheduler, which runs no goroutine then: a timer, the network poller.
pub const WOKEN_BY_SCHEDULER: u8 = 2;

/// Who ended waits, by place.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GoWakeKey {
    /// The place of the wait.
    pub place: u64,
    /// The place of the waker.
    pub waker: u64,
    /// Attachment.
    pub slot: u32,
    /// The wait's reason.
    pub reason: u8,
    /// `WOKEN_BY_*`.
    pub by: u8,
    /// Always 0.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<GoWakeKey>() == 24);
pod!(GoWakeKey);

/// How often.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct GoWake {
    /// Times.
    pub count: u64,
    /// The goroutine that did it last; 0: none.
    pub goid: u64,
}

const _: () = assert!(size_of::<GoWake>() == 16);
pod!(GoWake);

/// What could not be followed, for one attachment.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GoLosses {
    /// Changes of state of goroutines for which the table had no room.
    pub untracked: u64,
    /// Stretches of time for which the sums had no room.
    pub sums: u64,
    /// Sums whose place was folded.
    pub folded: u64,
    /// Stacks for which there was no room: these waits have no place.
    pub stacks: u64,
    /// Wakers for which there was no room.
    pub wakers: u64,
    /// A goroutine was not in the state in which it was left: a change was not seen.
    pub unseen: u64,
    /// Goroutines whose first change that was seen was none of these: not made since, not listed.
    pub unlisted: u64,
    /// A goroutine's memory could not be read.
    pub unreadable: u64,
}

const _: () = assert!(size_of::<GoLosses>() == 64);
pod!(GoLosses);

/// Return addresses of a place, at most.
pub const PLACE_FRAMES: usize = 32;

/// The addresses of a place, nearest first; 0 after the last.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct GoStack {
    /// Addresses.
    pub frames: [u64; PLACE_FRAMES],
}

const _: () = assert!(size_of::<GoStack>() == 8 * PLACE_FRAMES);
pod!(GoStack);

/// Walks frame pointers from `pc` and `bp` into `stack`, which is all zeros; returns the id of what
/// was found. `read` reads the two words at an address: the caller's frame pointer and the return
/// address.
#[inline(always)]
pub fn walk(
    stack: &mut GoStack,
    slot: u32,
    pc: u64,
    mut bp: u64,
    mut read: impl FnMut(u64) -> Option<[u64; 2]>,
) -> u64 {
    let mut id = mix(first(slot), pc);
    stack.frames[0] = pc;
    let mut at = 1;
    while at < PLACE_FRAMES {
        if bp == 0 || bp & 7 != 0 {
            break;
        }
        let Some([next, address]) = read(bp) else {
            break;
        };
        if address == 0 {
            break;
        }
        stack.frames[at] = address;
        id = mix(id, address);
        // Stacks grow down: a caller's frame lies higher.
        if next <= bp {
            break;
        }
        bp = next;
        at += 1;
    }
    last(id)
}

/// The id that [`walk`] gives to these addresses.
pub fn place_id(slot: u32, frames: &[u64]) -> u64 {
    last(frames.iter().fold(first(slot), |id, frame| mix(id, *frame)))
}

#[inline(always)]
const fn first(slot: u32) -> u64 {
    0x9e37_79b9 ^ slot as u64
}

#[inline(always)]
const fn last(id: u64) -> u64 {
    if id == NO_PLACE || id == FOLDED_PLACE {
        1
    } else {
        id
    }
}

#[inline(always)]
const fn mix(id: u64, word: u64) -> u64 {
    let mixed = (id ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(words: &[(u64, [u64; 2])], bp: u64) -> (GoStack, u64) {
        let mut stack = GoStack {
            frames: [0; PLACE_FRAMES],
        };
        let read = |at| words.iter().find(|w| w.0 == at).map(|w| w.1);
        let id = walk(&mut stack, 3, 0x1000, bp, read);
        (stack, id)
    }

    #[test]
    fn a_walk_ends_at_the_root_at_a_cycle_and_at_unreadable_memory() {
        let chain = [(0x10, [0x20, 0x2000]), (0x20, [0, 0x3000])];
        let (stack, whole) = walked(&chain, 0x10);
        assert_eq!(stack.frames[..4], [0x1000, 0x2000, 0x3000, 0]);
        assert_eq!(whole, place_id(3, &stack.frames[..3]));
        assert_ne!(whole, place_id(4, &stack.frames[..3]));
        let (stack, cut) = walked(&chain[..1], 0x10);
        assert_eq!(stack.frames[..3], [0x1000, 0x2000, 0]);
        assert_ne!(whole, cut);
        let (stack, _) = walked(&[(0x10, [0x10, 0x2000])], 0x10);
        assert_eq!(stack.frames[..3], [0x1000, 0x2000, 0]);
        let (stack, _) = walked(&[(0x11, [0x20, 0x2000])], 0x11);
        assert_eq!(stack.frames[1], 0, "not aligned");
    }

    #[test]
    fn a_walk_fills_the_stack_and_no_more() {
        let words: [_; 100] =
            core::array::from_fn(|i| (8 * i as u64, [8 * i as u64 + 8, 0x7000 + i as u64]));
        let (stack, _) = walked(&words, 8);
        assert_eq!(
            stack.frames[PLACE_FRAMES - 1],
            0x7000 + PLACE_FRAMES as u64 - 1
        );
    }
}
