//! Polls of tokio tasks as probes in the program's code see them. Each costs one hit: a poll lasts
//! until the next one at the same depth of the stack begins on its thread, or until the thread is
//! seen to switch without it. No probe on its return: an instruction that returns can not be
//! emulated by the kernel and would cost the target more than ten times as much.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use observer_common::config::{CONTROL_DELAYS, CONTROL_POLLS, Control};
use observer_common::counters::Counter;
use observer_common::events::inflight::InFlight;
use observer_common::events::poll::{
    DelayRecord, LONG_DELAY_NS, LONG_POLL_NS, POLL_DEPTH, PollFrame, PollKey, PollRecord, PollSum,
    Polls, Spread, Woken, WokenKey,
};
use observer_common::events::wait::{BUCKETS, bucket_of};
use observer_common::kind::Kind;
use observer_common::task::{TASK_HAS_ENTERED, TASK_TOKIO, Task};

use crate::current::NOT_ENTERED;
use crate::emit;
use crate::maps::{POLL_TYPES, POLLS, WOKEN, ZERO_POLLS};
use crate::user_probes::{Hit, count};

/// futex on x86-64 (Linux `arch/x86/entry/syscalls/syscall_64.tbl`).
const NR_FUTEX: i32 = 202;

/// A task, as a probe finds it: `Header` is state, queue_next, vtable (tokio `task/core.rs`, 1.21 on).
pub struct Found {
    vtable: u64,
    id: u64,
    sum: *mut PollSum,
}

/// Reads the task whose header is at `header`. `None` (counted): not one of the attachment's types.
#[inline(always)]
fn task_at(slot: u32, header: u64) -> Option<Found> {
    let found = read_task(slot, header);
    if found.is_none() {
        count(Counter::PollUnknown);
    }
    found
}

#[inline(always)]
fn read_task(slot: u32, header: u64) -> Option<Found> {
    use aya_ebpf::helpers::bpf_probe_read_user;
    const VTABLE: u64 = 16;
    // The id is near, as a rule, and each read is a call. A task is larger than what is read of it.
    // SAFETY: the helper checks the address and fails instead of faulting.
    let words: [u64; 4] =
        unsafe { bpf_probe_read_user(header.wrapping_add(VTABLE) as *const [u64; 4]) }.ok()?;
    let vtable = words[0];
    let sum = POLL_TYPES.get_ptr_mut(PollKey {
        vtable,
        slot,
        pad: 0,
    })?;
    // SAFETY: points into a map value; the offset is written before the first hit and stays.
    let offset = unsafe { (*sum).id_offset };
    let id = match offset.wrapping_sub(VTABLE) {
        8 => words[1],
        16 => words[2],
        24 => words[3],
        // SAFETY: as above.
        _ => unsafe { bpf_probe_read_user(header.wrapping_add(offset) as *const u64) }.ok()?,
    };
    Some(Found { vtable, id, sum })
}

#[inline(always)]
fn add(spread: *mut Spread, ns: u64) {
    // SAFETY: points into a map value; programs change it by atomic additions only.
    unsafe {
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*spread).count, 1);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*spread).total_ns, ns);
        let bucket = bucket_of(ns);
        if bucket < BUCKETS {
            let bucket = (&raw mut (*spread).buckets).cast::<u32>().add(bucket);
            atomic_xadd::<u32, u32, { Relaxed }>(bucket, 1);
        }
        // Two threads at once can lose the larger one; long ones are sent as records too.
        if (*spread).max_ns < ns {
            (*spread).max_ns = ns;
        }
    }
}

/// The polls of a thread; `None` (counted) when there is no room.
#[inline(always)]
fn polls_of(tid: u32) -> Option<&'static mut Polls> {
    let polls = match POLLS.get_ptr_mut(tid) {
        Some(polls) => polls,
        None => {
            let zero = ZERO_POLLS.get(0)?;
            // When there is no room nothing is found below.
            let _ = POLLS.insert(tid, zero, BPF_NOEXIST as u64);
            let Some(polls) = POLLS.get_ptr_mut(tid) else {
                count(Counter::LostPollThread);
                return None;
            };
            polls
        }
    };
    // SAFETY: points into a map value that only programs on behalf of this thread write.
    Some(unsafe { &mut *polls })
}

/// One of the polls. The index is masked where the verifier sees it, and not where the compiler would
/// know that this changes nothing.
#[inline(always)]
fn frame(polls: &mut Polls, index: usize) -> &mut PollFrame {
    const { assert!(POLL_DEPTH.is_power_of_two()) };
    let index = core::hint::black_box(index) & (POLL_DEPTH - 1);
    // SAFETY: the index is less than the number of frames.
    unsafe { polls.frames.get_unchecked_mut(index) }
}

/// Adds a poll that ended at `now`; true when it is long.
#[inline(always)]
fn sum(frame: &PollFrame, now: u64) -> bool {
    let key = PollKey {
        vtable: frame.vtable,
        slot: frame.slot,
        pad: 0,
    };
    sum_to(frame, POLL_TYPES.get_ptr_mut(key), now)
}

#[inline(always)]
fn sum_to(frame: &PollFrame, sum: Option<*mut PollSum>, now: u64) -> bool {
    let ns = now.saturating_sub(frame.start);
    if let Some(sum) = sum {
        // SAFETY: points into a map value.
        add(unsafe { &raw mut (*sum).polls }, ns);
    }
    ns >= LONG_POLL_NS
}

/// A poll of the task at `header` begins; `sp`: the stack pointer at its first instruction.
#[inline(always)]
pub fn begin<C: EbpfContext>(ctx: &C, hit: &Hit, header: u64, sp: u64) {
    let Some(found) = task_at(hit.slot, header) else {
        return;
    };
    let now = emit::now();
    if let Some(polls) = polls_of(hit.tid) {
        enter(ctx, hit, polls, &found, sp, now);
    }
    // After what it waited behind, so that this is known when the delay is.
    if crate::filter::control().is_some_and(|control| control.flags & CONTROL_DELAYS != 0) {
        waited(ctx, hit, header, &found, now);
    }
}

#[inline(always)]
fn enter<C: EbpfContext>(ctx: &C, hit: &Hit, polls: &mut Polls, found: &Found, sp: u64, now: u64) {
    if polls.slot != hit.slot || polls.tgid != hit.tgid {
        // Of an earlier attachment, or of a thread whose id was used again.
        polls.depth = 0;
        polls.slot = hit.slot;
        polls.tgid = hit.tgid;
    }
    let mut depth = polls.depth as usize;
    for _ in 0..POLL_DEPTH {
        if depth == 0 || depth > POLL_DEPTH {
            break;
        }
        let frame = frame(polls, depth - 1);
        // The stack grows down: what began at or below this place has returned.
        if frame.sp > sp {
            break;
        }
        // As a rule the next task is of the same type.
        let is_long = if frame.vtable == found.vtable && frame.slot == hit.slot {
            sum_to(frame, Some(found.sum), now)
        } else {
            sum(frame, now)
        };
        if is_long {
            let record = PollRecord {
                header: emit::header::<PollRecord>(Kind::Poll, hit.tgid, hit.tid, now),
                frame: *frame,
            };
            if !emit::send(ctx, &record, false) {
                count(Counter::LostPoll);
            }
        }
        depth -= 1;
    }
    if depth >= POLL_DEPTH {
        count(Counter::PollTooDeep);
        return;
    }
    *frame(polls, depth) = PollFrame {
        vtable: found.vtable,
        id: found.id,
        start: now,
        sp,
        slot: hit.slot,
        ..PollFrame::default()
    };
    polls.depth = depth as u32 + 1;
}

/// The task that is polled now: how long it waited since it was woken.
#[inline(always)]
fn waited<C: EbpfContext>(ctx: &C, hit: &Hit, header: u64, found: &Found, now: u64) {
    let key = WokenKey {
        header,
        slot: hit.slot,
        pad: 0,
    };
    // SAFETY: copied at once; a task is woken again only when this poll has begun.
    let Some(woken) = (unsafe { WOKEN.get(key) }).copied() else {
        return;
    };
    let _ = WOKEN.remove(key);
    // Memory of a task that ended is used again.
    if woken.id != found.id {
        return;
    }
    let ns = now.saturating_sub(woken.at);
    // SAFETY: points into a map value.
    add(unsafe { &raw mut (*found.sum).delays }, ns);
    if ns < LONG_DELAY_NS {
        return;
    }
    let record = DelayRecord {
        header: emit::header::<DelayRecord>(Kind::Delay, hit.tgid, hit.tid, now),
        woken,
        slot: hit.slot,
        pad: 0,
    };
    if !emit::send(ctx, &record, false) {
        count(Counter::LostDelay);
    }
}

/// The task at `header` is made ready by a wake-up.
#[inline(always)]
pub fn woken(hit: &Hit, header: u64) {
    let Some(found) = task_at(hit.slot, header) else {
        return;
    };
    let key = WokenKey {
        header,
        slot: hit.slot,
        pad: 0,
    };
    let woken = Woken {
        at: emit::now(),
        id: found.id,
        vtable: found.vtable,
    };
    if WOKEN.insert(key, woken, BPF_ANY as u64).is_err() {
        count(Counter::LostWoken);
    }
}

/// A thread leaves its CPU with `task` on it: polls of other tasks have ended.
#[inline(always)]
pub fn leave<C: EbpfContext>(
    ctx: &C,
    control: &Control,
    (tgid, tid): (u32, u32),
    task: &Task,
    now: u64,
) {
    if control.flags & CONTROL_POLLS != 0 {
        left(ctx, tgid, tid, task, now);
    }
}

/// Apart: most sessions have no probes.
#[inline(never)]
fn left<C: EbpfContext>(ctx: &C, tgid: u32, tid: u32, task: &Task, now: u64) {
    let Some(polls) = POLLS.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: as in `polls_of`.
    let polls = unsafe { &mut *polls };
    if polls.tgid != tgid {
        return;
    }
    let given_up = task.flags & TASK_HAS_ENTERED != 0 && task.detail == NOT_ENTERED;
    // In block_in_place the worker has gone on elsewhere.
    let polled = if task.kind == TASK_TOKIO && !given_up {
        task.id
    } else {
        0
    };
    for _ in 0..POLL_DEPTH {
        // By way of memory, so that the verifier does not tell the turns apart.
        // SAFETY: a valid reference.
        let depth = unsafe { core::ptr::read_volatile(&raw const polls.depth) } as usize;
        if depth == 0 || depth > POLL_DEPTH {
            break;
        }
        let frame = frame(polls, depth - 1);
        if frame.id == polled {
            break;
        }
        if sum(frame, now) && !emit::send_body(ctx, Kind::Poll, (tgid, tid), now, frame) {
            count(Counter::LostPoll);
        }
        polls.depth = depth as u32 - 1;
    }
}

/// A thread gets a CPU again after a wait.
#[inline(always)]
pub fn arrive(control: &Control, tid: u32, entry: &InFlight, duration: u64, run_queue: u64) {
    if control.flags & CONTROL_POLLS != 0 && entry.key.task.kind == TASK_TOKIO {
        arrived(tid, entry, duration, run_queue);
    }
}

/// As `left`.
#[inline(never)]
fn arrived(tid: u32, entry: &InFlight, duration: u64, run_queue: u64) {
    let Some(polls) = POLLS.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: as in `polls_of`.
    let polls = unsafe { &mut *polls };
    let depth = polls.depth as usize;
    if depth == 0 || depth > POLL_DEPTH || polls.tgid != entry.key.tgid {
        return;
    }
    let frame = frame(polls, depth - 1);
    let blocked = duration.saturating_sub(run_queue);
    frame.run_queue_ns += run_queue;
    if entry.key.syscall == NR_FUTEX {
        frame.lock_ns += blocked;
    } else {
        frame.blocked_ns += blocked;
    }
}

/// A thread ends.
#[inline(always)]
pub fn gone(control: &Control, tid: u32) {
    if control.flags & CONTROL_POLLS != 0 {
        // Threads that never polled have no entry.
        let _ = POLLS.remove(tid);
    }
}
