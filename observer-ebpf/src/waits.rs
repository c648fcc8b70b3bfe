//! The life of a wait: begun at switch-out, woken, ended at switch-in, summed, perhaps sent.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST, pt_regs};
use aya_ebpf::programs::tracing::StackIdContext;
use observer_common::config::{
    Control, TARGET_COPY_STACKS, TARGET_NO_FRAME_POINTERS, TargetConfig,
};
use observer_common::counters::Counter;
use observer_common::events::hold::Hold;
use observer_common::events::inflight::InFlight;
use observer_common::events::wait::{
    BUCKETS, CLASS_KERNEL, CLASS_PAGE_FAULT, CLASS_RUN_QUEUE, CLASS_SYSCALL, CLASS_UNKNOWN,
    NO_STACK, NO_SYSCALL, WAIT_SEEDED, WAIT_STACK_COPIED, WAIT_UNINTERRUPTIBLE, WaitKey,
    WaitRecord, WaitSum, Waker, bucket_of,
};
use observer_common::kind::Kind;
use observer_common::task::{TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL, Task};

use crate::emit::{self, count, count_many};
use crate::maps::{INFLIGHT, SUBJECTS, SWITCH_SCRATCH, WAITS, ZERO_SUM};
use crate::{current, holds, kernel, stacks};

/// Scheduler states (Linux `include/linux/sched.h`).
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
/// See [`TASK_UNINTERRUPTIBLE`].
pub const TASK_DEAD: u32 = 0x80;

/// The tokio EnterRuntime byte of a thread that is not inside a runtime.
const NOT_ENTERED: u8 = 2;
/// Syscalls in which tokio parks a worker.
const NR_FUTEX: i32 = 202;
const NR_EPOLL_WAIT: i32 = 232;
const NR_EPOLL_PWAIT: i32 = 281;

/// Whether the first argument of a syscall says what the wait is for.
#[inline(always)]
fn has_subject(nr: i32) -> bool {
    nr >= 0 && matches!(SUBJECTS.get(nr as u32), Some(1))
}

/// A tokio worker outside of any poll that waits in futex or epoll is parked: it has nothing to do.
#[inline(always)]
fn tokio_parked(task: &Task, nr: i32) -> bool {
    task.flags & (TASK_HAS_ENTERED | TASK_HAS_BUDGET) == TASK_HAS_ENTERED | TASK_HAS_BUDGET
        && task.detail != NOT_ENTERED
        && task.flags & TASK_IN_POLL == 0
        && (nr == NR_FUTEX || nr == NR_EPOLL_WAIT || nr == NR_EPOLL_PWAIT)
}

/// An entry for a thread that leaves its CPU or waits for its first one.
#[inline(always)]
pub fn blank(tgid: u32, class: u8, now: u64) -> InFlight {
    InFlight {
        key: WaitKey {
            tgid,
            syscall: NO_SYSCALL,
            user_stack: NO_STACK,
            class,
            ..WaitKey::default()
        },
        start: now,
        woken: 0,
        args: [0; 6],
        user_ip: 0,
        user_sp: 0,
        user_bp: 0,
        waker: Waker {
            user_stack: NO_STACK,
            ..Waker::default()
        },
        flags: 0,
        kernel_stack: NO_STACK,
        hold: Hold::default(),
    }
}

/// Fills in syscall, arguments and user registers.
#[inline(always)]
pub fn describe(entry: &mut InFlight, regs: Option<pt_regs>, state: u32) {
    if state & TASK_UNINTERRUPTIBLE != 0 {
        entry.flags |= WAIT_UNINTERRUPTIBLE as u32;
    }
    let Some(regs) = regs else {
        entry.key.class = CLASS_UNKNOWN;
        return;
    };
    entry.user_ip = regs.rip;
    entry.user_sp = regs.rsp;
    entry.user_bp = regs.rbp;
    match kernel::syscall_of(&regs) {
        Some(nr) => {
            entry.key.class = CLASS_SYSCALL;
            entry.key.syscall = nr;
            entry.args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
            if has_subject(nr) {
                entry.key.subject = regs.rdi;
            }
        }
        None if state & TASK_UNINTERRUPTIBLE != 0 => entry.key.class = CLASS_PAGE_FAULT,
        None => entry.key.class = CLASS_KERNEL,
    }
}

/// A target thread leaves its CPU at `now`.
#[inline(always)]
pub fn begin<C: StackIdContext>(
    ctx: &C,
    (control, target): (&Control, &TargetConfig),
    ids: (u32, u32),
    ready: bool,
    state: u32,
    now: u64,
) {
    let (tgid, tid) = ids;
    count(Counter::Seen);
    if state & TASK_DEAD != 0 {
        count(Counter::Exited);
        holds::gone();
        return;
    }
    let Some(entry) = SWITCH_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: points into a per-CPU map value that only sched_switch uses, which runs with
    // interrupts off and so is never interrupted by itself.
    let entry = unsafe { &mut *entry };
    *entry = blank(tgid, CLASS_RUN_QUEUE, now);
    entry.key.task = current::task(target, tid);
    if holds::followed(target) {
        let task = entry.key.task;
        holds::leave(ctx, ids, &task, now, &mut entry.hold);
    }
    if ready {
        entry.woken = now;
    } else {
        describe(entry, kernel::current_registers(), state);
        if tokio_parked(&entry.key.task, entry.key.syscall) {
            entry.key.task.flags |= TASK_IDLE;
        }
        if entry.key.task.flags & TASK_IDLE != 0 {
            // Idle is counted by thread pool, not by place: one row.
            entry.key.subject = 0;
            entry.key.task.id = 0;
        } else {
            if target.flags & TARGET_NO_FRAME_POINTERS == 0 {
                entry.key.user_stack = stacks::user(ctx, control);
            } else {
                entry.key.user_ip = entry.user_ip;
            }
            if crate::probes::may_sample(target) {
                entry.kernel_stack = stacks::kernel(ctx, control);
                if target.flags & TARGET_COPY_STACKS != 0
                    && crate::probes::copy_user_stack(ctx, control, entry, tid)
                {
                    entry.flags |= WAIT_STACK_COPIED as u32;
                }
            }
        }
    }
    remember(ctx, tid, entry);
}

/// Puts a thread into the in-flight map.
#[inline(always)]
pub fn remember<C: EbpfContext>(ctx: &C, tid: u32, entry: &InFlight) {
    match INFLIGHT.insert(tid, entry, BPF_NOEXIST as u64) {
        Ok(()) => {}
        Err(-17) => {
            // The end of this thread's last wait was not seen: that one is lost, this one is not.
            count(Counter::LostEnd);
            aya_log_ebpf::debug!(
                ctx,
                "thread {} left its CPU, but was thought to be off it",
                tid
            );
            if INFLIGHT.insert(tid, entry, BPF_ANY as u64).is_err() {
                count(Counter::LostInflightFull);
            }
        }
        Err(_) => count(Counter::LostInflightFull),
    }
}

/// A thread gets a CPU, now unless told: its wait, if it had one, ends.
#[inline(always)]
pub fn end<C: EbpfContext>(ctx: &C, control: &Control, tid: u32, at: Option<u64>) {
    let Some(entry) = INFLIGHT.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: a thread ends its wait on one CPU only, and the entry is removed below.
    let entry = unsafe { &mut *entry };
    let now = match at {
        Some(at) => at,
        None => emit::now(),
    };
    holds::arrive(tid, entry, now);
    let duration = now.saturating_sub(entry.start);
    let run_queue = if entry.woken != 0 {
        now.saturating_sub(entry.woken)
    } else {
        0
    };
    entry.key.epoch = control.epoch;
    entry.key.flags = (entry.flags as u8) & WAIT_SEEDED;
    let summed = sum(&mut entry.key, duration, run_queue);
    let idle = entry.key.task.flags & TASK_IDLE != 0;
    let mut sent = false;
    if duration >= control.min_ns && !idle {
        let record = WaitRecord {
            header: emit::header::<WaitRecord>(Kind::Wait, entry.key.tgid, tid, now),
            key: entry.key,
            start: entry.start,
            woken: entry.woken,
            args: entry.args,
            waker: entry.waker,
            kernel_stack: entry.kernel_stack,
            pad: 0,
        };
        sent = emit::send(ctx, &record, false);
        if !sent {
            count(Counter::LostRecord);
        }
    }
    if summed {
        count(if sent {
            Counter::Emitted
        } else {
            Counter::Aggregated
        });
    }
    // The entry is there unless the user side removed a dead target's; either way it is gone now.
    if let Err(error) = INFLIGHT.remove(tid) {
        aya_log_ebpf::debug!(ctx, "thread {} could not be removed: {}", tid, error);
    }
}

/// Adds a wait to the aggregates. False when it is lost.
#[inline(always)]
fn sum(key: &mut WaitKey, duration: u64, run_queue: u64) -> bool {
    if let Some(slot) = slot(key) {
        add(slot, duration, run_queue);
        return true;
    }
    // No room for this task's row: fold it, so that the totals stay complete.
    key.task.id = 0;
    key.folded = 1;
    if let Some(slot) = slot(key) {
        count(Counter::FoldedTasks);
        add(slot, duration, run_queue);
        return true;
    }
    count(Counter::LostAggregateFull);
    count_many(Counter::LostAggregateNs, duration);
    false
}

#[inline(always)]
fn slot(key: &WaitKey) -> Option<*mut WaitSum> {
    if let Some(slot) = WAITS.get_ptr_mut(key) {
        return Some(slot);
    }
    let zero = ZERO_SUM.get(0)?;
    // Another CPU may insert the same key first: then that row is found below.
    let _ = WAITS.insert(key, zero, BPF_NOEXIST as u64);
    WAITS.get_ptr_mut(key)
}

#[inline(always)]
fn add(slot: *mut WaitSum, duration: u64, run_queue: u64) {
    // SAFETY: `slot` points into a map value, which stays allocated while the program runs; other
    // CPUs only change it by the same atomic additions.
    unsafe {
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).count, 1);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).total_ns, duration);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*slot).run_queue_ns, run_queue);
        let bucket = bucket_of(duration);
        if bucket < BUCKETS {
            let bucket = (&raw mut (*slot).buckets).cast::<u32>().add(bucket);
            atomic_xadd::<u32, u32, { Relaxed }>(bucket, 1);
        }
        // Two CPUs that end waits of one key at once can lose the larger maximum; records of long
        // waits carry it exactly.
        if (*slot).max_ns < duration {
            (*slot).max_ns = duration;
        }
    }
}

/// A thread is woken: by whom, and when.
#[inline(always)]
pub fn woken<C: StackIdContext>(ctx: &C, control: &Control, tid: u32) {
    let Some(entry) = INFLIGHT.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: the waiter sleeps, so only wakers touch the entry, and the first one wins.
    let entry = unsafe { &mut *entry };
    if entry.woken != 0 {
        return;
    }
    let now = emit::now();
    entry.woken = now;
    if entry.key.task.flags & TASK_IDLE != 0 {
        return;
    }
    let (tgid, waker_tid) = crate::filter::current_ids();
    let context = kernel::context();
    entry.waker.context = context;
    entry.waker.tgid = tgid;
    entry.waker.tid = waker_tid;
    if context == observer_common::events::wait::WAKER_INTERRUPT {
        return;
    }
    if let Some(target) = crate::filter::target(tgid) {
        entry.waker.task = current::task(target, waker_tid);
        if now.saturating_sub(entry.start) >= control.min_ns
            && target.flags & TARGET_NO_FRAME_POINTERS == 0
        {
            entry.waker.user_stack = stacks::user(ctx, control);
        }
    }
}
