//! Polls that keep their worker: the same task inside a poll at every look at a thread. Looks are
//! free where something happens anyway (switches) or come with the sampling clock; between two of
//! them nothing is known, so bounds are kept, not durations.

use aya_ebpf::EbpfContext;
use observer_common::config::{TOKIO_HAS_BUDGET, TargetConfig};
use observer_common::counters::Counter;
use observer_common::events::hold::{Hold, HoldRecord, OnCpu};
use observer_common::events::inflight::InFlight;
use observer_common::events::wait::{WAIT_NEW_THREAD, WAIT_SEEDED};
use observer_common::kind::Kind;
use observer_common::task::{TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IN_POLL, Task};

use crate::emit::{self, count};
use crate::maps::ON_CPU;

/// The tokio EnterRuntime byte of a thread that is not inside a runtime.
const NOT_ENTERED: u8 = 2;
/// Polls that were on a CPU for at least this long are sent.
const LONG_NS: u64 = 1_000_000;

/// Whether the polls of a target can be followed.
#[inline(always)]
pub fn followed(target: &TargetConfig) -> bool {
    target.flags & TOKIO_HAS_BUDGET != 0
}

/// Whether a task is inside a poll that must not block.
#[inline(always)]
fn in_poll(task: &Task) -> bool {
    task.flags & TASK_IN_POLL != 0
        && (task.flags & TASK_HAS_ENTERED == 0 || task.detail != NOT_ENTERED)
}

#[inline(always)]
fn slot() -> Option<&'static mut OnCpu> {
    let slot = ON_CPU.get_ptr_mut(0)?;
    // SAFETY: points into a per-CPU map value; the programs that use it do not interrupt each other
    // (sched_switch runs with interrupts off, and samples are interrupts).
    Some(unsafe { &mut *slot })
}

/// The running thread leaves its CPU while `task` runs on it. Gives what is to be kept meanwhile.
#[inline(always)]
pub fn leave<C: EbpfContext>(ctx: &C, ids: (u32, u32), task: &Task, now: u64, into: &mut Hold) {
    let Some(slot) = slot() else {
        return;
    };
    if slot.tid == ids.1 {
        *into = slot.hold;
        slot.tid = 0;
    }
    look(ctx, ids, into, task, now);
}

/// The running thread ends.
#[inline(always)]
pub fn gone() {
    if let Some(slot) = slot() {
        slot.tid = 0;
    }
}

/// A thread gets this CPU.
#[inline(always)]
pub fn arrive(tid: u32, entry: &InFlight, now: u64) {
    const NEW: u32 = WAIT_NEW_THREAD as u32;
    const SEEDED: u32 = WAIT_SEEDED as u32;
    if entry.key.task.flags & TASK_HAS_BUDGET == 0 && entry.flags & (NEW | SEEDED) == 0 {
        return;
    }
    let Some(slot) = slot() else {
        return;
    };
    slot.tid = tid;
    slot.tgid = entry.key.tgid;
    slot.hold = entry.hold;
    let hold = &mut slot.hold;
    if hold.first != 0 {
        let ready = if entry.woken != 0 { entry.woken } else { now };
        hold.blocked_ns += ready.saturating_sub(entry.start);
        hold.run_queue_ns += now.saturating_sub(ready);
        hold.last = now;
    } else if entry.flags & SEEDED == 0 {
        // It left outside of a poll, and has not run since.
        hold.last = now;
    }
}

/// A tick of the sampling clock hit the running thread.
#[inline(always)]
pub fn sample<C: EbpfContext>(ctx: &C, ids: (u32, u32), task: &Task, now: u64) {
    let Some(slot) = slot() else {
        return;
    };
    if slot.tid != ids.1 {
        // It has not been seen to get the CPU: it was on it when observation began.
        slot.tid = ids.1;
        slot.tgid = ids.0;
        slot.hold = Hold::default();
    }
    look(ctx, ids, &mut slot.hold, task, now);
    if slot.hold.first != 0 {
        slot.hold.samples += 1;
    }
}

#[inline(always)]
fn look<C: EbpfContext>(ctx: &C, ids: (u32, u32), hold: &mut Hold, task: &Task, now: u64) {
    let inside = in_poll(task);
    if hold.first != 0 {
        if inside && hold.task.id == task.id && hold.task.kind == task.kind {
            hold.last = now;
            return;
        }
        close(ctx, ids, hold, now);
    }
    hold.before = hold.last;
    hold.last = now;
    hold.first = 0;
    if inside {
        hold.task = *task;
        hold.first = now;
        hold.blocked_ns = 0;
        hold.run_queue_ns = 0;
        hold.samples = 0;
    }
}

#[inline(always)]
fn close<C: EbpfContext>(ctx: &C, (tgid, tid): (u32, u32), hold: &Hold, now: u64) {
    let on_cpu = hold
        .last
        .saturating_sub(hold.first)
        .saturating_sub(hold.blocked_ns)
        .saturating_sub(hold.run_queue_ns);
    if hold.samples == 0 || on_cpu < LONG_NS {
        return;
    }
    let record = HoldRecord {
        header: emit::header::<HoldRecord>(Kind::Hold, tgid, tid, now),
        hold: *hold,
    };
    if !emit::send(ctx, &record, false) {
        count(Counter::LostHold);
    }
}
