//! Polls that keep their worker: the same task inside a poll at every look at a thread. Looks are
//! free where something happens anyway (switches) or come with the sampling clock; between two of
//! them nothing is known, so bounds are kept, not durations.

use aya_ebpf::EbpfContext;
use observer_common::config::{READER_TOKIO, TargetConfig};
use observer_common::counters::Counter;
use observer_common::events::hold::{Hold, LOOP_WITHOUT_TASK};
use observer_common::events::inflight::InFlight;
use observer_common::events::wait::{CLASS_RUN_QUEUE, WAIT_SEEDED};
use observer_common::kind::Kind;
use observer_common::task::{
    TASK_FOREIGN, TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL, TASK_THREAD,
    TASK_TOKIO, Task,
};

use crate::current::NOT_ENTERED;
use crate::emit::{self, count};
use crate::maps::INFLIGHT;
use crate::{kernel, waits};

/// Polls that were on a CPU for at least this long are sent.
const LONG_NS: u64 = 1_000_000;

/// Whether the polls of a target can be followed.
#[inline(always)]
pub fn followed(target: &TargetConfig) -> bool {
    target.reader == READER_TOKIO
}

/// Whether a thread is inside a runtime.
#[inline(always)]
fn entered(task: &Task) -> bool {
    task.flags & TASK_HAS_ENTERED != 0 && task.detail != NOT_ENTERED
}

/// Whether a task is inside a poll that must not block.
#[inline(always)]
fn in_poll(task: &Task) -> bool {
    task.flags & TASK_IN_POLL != 0
        && (task.flags & TASK_HAS_ENTERED == 0 || task.detail != NOT_ENTERED)
}

/// The running thread leaves its CPU, with the task that was just read into its entry.
#[inline(always)]
pub fn leave<C: EbpfContext>(
    ctx: &C,
    ids: (u32, u32),
    target: &TargetConfig,
    (entry, task): (&mut InFlight, &Task),
    now: u64,
) {
    let thread = &mut entry.thread;
    if thread.since != 0 {
        thread.on_cpu_ns += now.saturating_sub(thread.since);
        thread.since = 0;
    }
    if followed(target) {
        look(ctx, ids, &mut thread.hold, task, now);
        if entered(task) {
            if thread.fsbase == 0 {
                thread.fsbase = kernel::fsbase_of(kernel::current()).unwrap_or(0);
            }
            if is_outside(task) {
                thread.launcher = task.id;
            }
            if task.kind == TASK_THREAD {
                thread.own_loop = LOOP_WITHOUT_TASK;
            }
        }
    }
}

/// A worker parks: what it shows now is the task that its own loop is in. Not learned outside of any
/// budget: futures that are run without one (`tokio::task::unconstrained`) are in a task of their own.
#[inline(always)]
pub fn parks(entry: &mut InFlight, task: &Task) {
    if task.kind == TASK_TOKIO {
        entry.thread.own_loop = task.id;
    }
}

/// Whether a task outside of any budget may be a thread's own loop. A thread that was inside a runtime
/// without a task drives it by `block_on`: it is none of the blocking pool, where loops run in tasks, and
/// never becomes one. A task without a budget there is one that opted out of it.
#[inline(always)]
pub fn may_be_loop(own: u64, task: &Task) -> bool {
    own != LOOP_WITHOUT_TASK || task.kind != TASK_TOKIO
}

/// The same for what runs now.
#[inline(always)]
pub fn running_may_be_loop(task: &Task, tid: u32) -> bool {
    match INFLIGHT.get_ptr(tid) {
        // SAFETY: as in `of_running`.
        Some(entry) => may_be_loop(unsafe { (*entry).thread.own_loop }, task),
        None => true,
    }
}

/// Whether a task is outside of any budget: a worker's own loop, or a future that is run without one.
#[inline(always)]
fn is_outside(task: &Task) -> bool {
    task.kind == TASK_TOKIO && task.flags & (TASK_HAS_BUDGET | TASK_IN_POLL) == TASK_HAS_BUDGET
}

/// Whether a task is outside of a budget that is not known to be the worker's own loop.
#[inline(always)]
pub fn is_new_outside(entry: &InFlight, task: &Task) -> bool {
    let own = entry.thread.own_loop;
    is_outside(task) && task.id != own && may_be_loop(own, task) && entered(task)
}

/// Who waits: a worker's own loop is no task of the program, but its thread.
#[inline(always)]
pub fn own_loop(own: u64, task: Task, tid: u32) -> Task {
    if !is_outside(&task) || task.id != own {
        return task;
    }
    Task {
        id: tid as u64,
        kind: TASK_THREAD,
        flags: TASK_FOREIGN,
        detail: NOT_ENTERED,
        reason: 0,
        pad: 0,
    }
}

/// The same for what runs now.
#[inline(always)]
pub fn of_running(task: Task, tid: u32) -> Task {
    if !is_outside(&task) {
        return task;
    }
    match INFLIGHT.get_ptr(tid) {
        // SAFETY: points into a map value; the running thread is off no CPU, so nobody writes it.
        Some(entry) => own_loop(unsafe { (*entry).thread.own_loop }, task, tid),
        None => task,
    }
}

/// A thread gets a CPU after a wait.
#[inline(always)]
pub fn arrive(entry: &mut InFlight, now: u64, duration: u64, run_queue: u64) {
    let thread = &mut entry.thread;
    let blocked = duration.saturating_sub(run_queue);
    thread.since = now;
    thread.run_queue_ns += run_queue;
    if entry.key.task.flags & TASK_IDLE != 0 {
        thread.idle_ns += blocked;
    } else if in_poll(&entry.key.task) {
        thread.held_ns += blocked;
    } else {
        thread.other_ns += blocked;
    }
    let hold = &mut thread.hold;
    if hold.first != 0 {
        hold.blocked_ns += blocked;
        hold.run_queue_ns += run_queue;
        hold.last = now;
    } else if entry.flags & WAIT_SEEDED as u32 == 0 {
        // It left outside of a poll, and has not run since.
        hold.last = now;
    }
}

/// The switch-in after the thread's last switch-out was not seen: all time since counts as off the CPU.
#[inline(always)]
pub fn lost(entry: &mut InFlight) {
    let thread = &mut entry.thread;
    thread.since = 0;
    let off = emit::now().saturating_sub(entry.start);
    if entry.key.class == CLASS_RUN_QUEUE {
        thread.hold.run_queue_ns += off;
    } else {
        thread.hold.blocked_ns += off;
    }
}

/// A tick of the sampling clock hit the running thread.
#[inline(always)]
pub fn sample<C: EbpfContext>(ctx: &C, ids: (u32, u32), task: &Task, now: u64) {
    let Some(entry) = waits::entry_of(ids.1) else {
        return;
    };
    entry.key.tgid = ids.0;
    let hold = &mut entry.thread.hold;
    look(ctx, ids, hold, task, now);
    if hold.first != 0 {
        hold.samples += 1;
    }
}

#[inline(always)]
fn look<C: EbpfContext>(ctx: &C, ids: (u32, u32), hold: &mut Hold, task: &Task, now: u64) {
    let inside = in_poll(task);
    if hold.first != 0 {
        if inside
            && hold.task.id == task.id
            && hold.task.kind == task.kind
            && hold.task.reason == task.reason
        {
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
    if hold.samples != 0 && on_cpu >= LONG_NS {
        send(ctx, tgid, tid, hold, now);
    }
}

/// Apart: it is seldom run.
#[inline(never)]
fn send<C: EbpfContext>(ctx: &C, tgid: u32, tid: u32, hold: &Hold, now: u64) {
    if !emit::send_body(ctx, Kind::Hold, (tgid, tid), now, hold) {
        count(Counter::LostHold);
    }
}
