//! The life of a wait: begun at switch-out, woken, ended at switch-in, summed, perhaps sent.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::programs::tracing::StackIdContext;
use observer_common::config::{
    Control, TARGET_COPY_STACKS, TARGET_NO_FRAME_POINTERS, TargetConfig,
};
use observer_common::counters::Counter;
use observer_common::events::inflight::InFlight;
use observer_common::events::syscall::ROLE_SUBJECT;
use observer_common::events::wait::{
    CLASS_KERNEL, CLASS_PAGE_FAULT, CLASS_RUN_QUEUE, CLASS_SYSCALL, CLASS_UNKNOWN, NO_STACK,
    NO_SYSCALL, WAIT_SEEDED, WAIT_STACK_COPIED, WAIT_UNINTERRUPTIBLE, WAKER_INTERRUPT, WaitKey,
    WaitRecord, Waker,
};
use observer_common::kind::Kind;
use observer_common::task::{TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL, Task};

use crate::emit::{self, count, count_many};
use crate::kernel::UserRegisters;
use crate::maps::{INFLIGHT, ROLES, ZERO_INFLIGHT};
use crate::{current, filter, holds, kernel, paths, polls, stacks, sums, wait_samples};

/// Scheduler states (Linux `include/linux/sched.h`).
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
/// See [`TASK_UNINTERRUPTIBLE`].
pub const TASK_DEAD: u32 = 0x80;

const NR_VFORK: i32 = 58;
/// Syscalls in which tokio parks a worker.
const NR_FUTEX: i32 = 202;
const NR_EPOLL_WAIT: i32 = 232;
const NR_EPOLL_PWAIT: i32 = 281;

/// What a syscall does with its first argument: `ROLE_*`.
#[inline(always)]
pub fn role_of(nr: i32) -> u8 {
    if nr < 0 {
        return 0;
    }
    ROLES.get(nr as u32).copied().unwrap_or(0)
}

/// A tokio worker outside of any poll that waits in futex or epoll is parked: it has nothing to do.
#[inline(always)]
pub fn tokio_parked(task: &Task, nr: i32) -> bool {
    task.flags & (TASK_HAS_ENTERED | TASK_HAS_BUDGET) == TASK_HAS_ENTERED | TASK_HAS_BUDGET
        && task.detail != current::NOT_ENTERED
        && task.flags & TASK_IN_POLL == 0
        && (nr == NR_FUTEX || nr == NR_EPOLL_WAIT || nr == NR_EPOLL_PWAIT)
}

/// The entry of a thread; a new one when `tid` was not seen before.
#[inline(always)]
pub fn entry_of(tid: u32) -> Option<&'static mut InFlight> {
    let entry = match INFLIGHT.get_ptr_mut(tid) {
        Some(entry) => entry,
        None => {
            let zero = ZERO_INFLIGHT.get(0)?;
            // When there is no room nothing is found below.
            let _ = INFLIGHT.insert(tid, zero, BPF_NOEXIST as u64);
            INFLIGHT.get_ptr_mut(tid)?
        }
    };
    // SAFETY: points into a map value. Only the CPU that switches the thread in or out, and while it
    // sleeps its first waker, write it; these follow each other.
    Some(unsafe { &mut *entry })
}

/// Opens the entry of a thread for a new wait, which is to be written whole: [`blank`] or [`park`].
/// `None` when there is no room (counted). Ended by [`publish`].
#[inline(always)]
pub fn open<C: EbpfContext>(ctx: &C, control: &Control, tid: u32) -> Option<&'static mut InFlight> {
    let Some(entry) = entry_of(tid) else {
        count(Counter::LostInflightFull);
        return None;
    };
    if entry.start != 0 {
        end_unseen(ctx, control, tid, entry);
    }
    // SAFETY: valid references; volatile, because the order of these two and what follows matters.
    unsafe {
        core::ptr::write_volatile(&raw mut entry.start, 0);
        core::ptr::write_volatile(&raw mut entry.check, 0);
    }
    Some(entry)
}

/// A thread runs, but the end of its wait was not seen. When it was woken is known, as a rule: the wait
/// is counted until then, and lost is how long the thread was ready.
#[inline(never)]
fn end_unseen<C: EbpfContext>(ctx: &C, control: &Control, tid: u32, entry: &mut InFlight) {
    debug!(
        ctx,
        "thread {} left its CPU, but was thought to be off it", tid
    );
    if entry.woken <= entry.start {
        count(Counter::LostEnd);
        holds::lost(entry);
        return;
    }
    let woken = entry.woken;
    count(Counter::EndAtWakeUp);
    finish(ctx, control, tid, entry, woken);
    // Since when it has run is not known.
    entry.thread.since = 0;
}

/// From here on others see the wait, which began at `start`.
#[inline(always)]
pub fn publish(entry: &mut InFlight, start: u64) {
    // SAFETY: as in `open`.
    unsafe {
        core::ptr::write_volatile(&raw mut entry.check, start);
        core::ptr::write_volatile(&raw mut entry.start, start);
    }
}

/// Closes the wait of a thread that began at `start`, without counting it. False when that wait is
/// not open any more.
#[inline(always)]
pub fn take_back(tid: u32, start: u64) -> bool {
    let Some(entry) = INFLIGHT.get_ptr_mut(tid) else {
        return false;
    };
    // SAFETY: points into a map value.
    unsafe {
        if (*entry).start != start {
            return false;
        }
        core::ptr::write_volatile(&raw mut (*entry).start, 0);
    }
    true
}

/// Everything but the marks of an entry.
#[inline(always)]
pub fn blank(entry: &mut InFlight, tgid: u32, class: u8) {
    entry.key = WaitKey {
        tgid,
        syscall: NO_SYSCALL,
        user_stack: NO_STACK,
        class,
        ..WaitKey::default()
    };
    entry.woken = 0;
    entry.args = [0; 6];
    entry.user_ip = 0;
    entry.user_sp = 0;
    entry.user_bp = 0;
    entry.waker = Waker {
        user_stack: NO_STACK,
        ..Waker::default()
    };
    entry.flags = 0;
    entry.kernel_stack = NO_STACK;
    entry.task_at = 0;
}

/// An idle thread is counted by its pool, not by place, and about half of all waits are its own: no
/// more is written than what others look at.
#[inline(always)]
fn park(entry: &mut InFlight, tgid: u32, task: &Task, syscall: Option<i32>) {
    entry.key = WaitKey {
        task: Task {
            id: 0,
            flags: task.flags | TASK_IDLE,
            ..*task
        },
        tgid,
        syscall: syscall.unwrap_or(NO_SYSCALL),
        user_stack: NO_STACK,
        class: CLASS_SYSCALL,
        ..WaitKey::default()
    };
    entry.woken = 0;
    entry.flags = 0;
    entry.kernel_stack = NO_STACK;
}

/// Fills in syscall, arguments and user registers. Returns what the syscall does with its arguments:
/// `ROLE_*`.
#[inline(always)]
pub fn describe(entry: &mut InFlight, regs: Option<UserRegisters>, state: u32) -> u8 {
    if state & TASK_UNINTERRUPTIBLE != 0 {
        entry.flags |= WAIT_UNINTERRUPTIBLE as u32;
    }
    let Some(regs) = regs else {
        entry.key.class = CLASS_UNKNOWN;
        return 0;
    };
    entry.user_ip = regs.ip();
    entry.user_sp = regs.sp();
    entry.user_bp = regs.bp();
    match regs.syscall() {
        Some(nr) => {
            entry.key.class = CLASS_SYSCALL;
            entry.key.syscall = nr;
            entry.args = regs.arguments();
            let role = role_of(nr);
            // The first argument says what the wait is for.
            if role & ROLE_SUBJECT != 0 {
                entry.key.subject = entry.args[0];
            }
            return role;
        }
        None if state & TASK_UNINTERRUPTIBLE != 0 => entry.key.class = CLASS_PAGE_FAULT,
        None => entry.key.class = CLASS_KERNEL,
    }
    0
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
    let tid = ids.1;
    count(Counter::Seen);
    if state & TASK_DEAD != 0 {
        exited(ctx, control, tid);
        return;
    }
    let Some(entry) = open(ctx, control, tid) else {
        return;
    };
    current::read_task(target, tid, &mut entry.key.task);
    // SAFETY: a valid reference; volatile, so that it is read from where it was written.
    let task = unsafe { core::ptr::read_volatile(&raw const entry.key.task) };
    holds::leave(ctx, ids, target, (entry, &task), now);
    polls::leave(ctx, control, ids, &task, now);
    if ready {
        blank(entry, ids.0, CLASS_RUN_QUEUE);
        if holds::is_new_outside(entry, &task) {
            // A loop that is never without work asks for events in between, without waiting.
            let nr = kernel::current_registers().and_then(UserRegisters::syscall);
            if nr == Some(NR_EPOLL_WAIT) || nr == Some(NR_EPOLL_PWAIT) {
                holds::parks(entry, &task);
            }
        }
        entry.key.task = holds::own_loop(entry.thread.own_loop, task, tid);
        entry.woken = now;
        publish(entry, now);
        return;
    }
    let regs = kernel::current_registers();
    let nr = regs.and_then(UserRegisters::syscall);
    if task.flags & TASK_IDLE != 0
        || (tokio_parked(&task, nr.unwrap_or(NO_SYSCALL))
            && holds::may_be_loop(entry.thread.own_loop, &task))
    {
        holds::parks(entry, &task);
        park(entry, ids.0, &task, nr);
        publish(entry, now);
        return;
    }
    blank(entry, ids.0, CLASS_RUN_QUEUE);
    entry.key.task = holds::own_loop(entry.thread.own_loop, task, tid);
    let role = describe(entry, regs, state);
    paths::name(entry, role);
    // vfork has taken its return address off the stack, where a walk would miss its caller.
    if target.flags & TARGET_NO_FRAME_POINTERS == 0 && entry.key.syscall != NR_VFORK {
        entry.key.user_stack = stacks::user(ctx);
    } else {
        entry.key.user_ip = entry.user_ip;
    }
    if !current::in_go_code(target, entry.user_ip) {
        entry.task_at = current::goroutine_in_c(target);
    }
    let weight = wait_samples::due(control, target, entry, now);
    if weight != 0 {
        sample(ctx, target, entry, now, weight);
    }
    publish(entry, now);
}

/// Takes the stacks of the wait that begins at `now` and stands for `weight` waits. Apart, as all that is
/// seldom run: a switch finds cold caches, as a rule.
#[inline(never)]
fn sample<C: StackIdContext>(
    ctx: &C,
    target: &TargetConfig,
    entry: &mut InFlight,
    now: u64,
    weight: u32,
) {
    let Some(control) = filter::control() else {
        return;
    };
    entry.kernel_stack = stacks::kernel(ctx, control);
    // Of a stack that is Go's alone the walk by frame pointers has all.
    if target.flags & TARGET_COPY_STACKS != 0
        && !current::in_go_code(target, entry.user_ip)
        && crate::probes::copy_user_stack(ctx, target, entry, now, weight)
    {
        entry.flags |= WAIT_STACK_COPIED as u32;
    }
}

/// A target thread has left its CPU for good.
#[inline(never)]
fn exited<C: EbpfContext>(ctx: &C, control: &Control, tid: u32) {
    count(Counter::Exited);
    if let Some(entry) = INFLIGHT.get_ptr_mut(tid) {
        // SAFETY: as in `entry_of`.
        let entry = unsafe { &mut *entry };
        if entry.start != 0 {
            // As in `open`: this thread ran, so its last wait did end.
            end_unseen(ctx, control, tid, entry);
        }
        // It may have been removed meanwhile.
        let _ = INFLIGHT.remove(tid);
    }
    polls::gone(control, tid);
    if kernel::traces_syscalls() {
        crate::syscalls::forget(tid);
    }
}

/// A thread gets a CPU, now unless told: its wait, if it had one, ends.
#[inline(always)]
pub fn end<C: EbpfContext>(ctx: &C, control: &Control, tid: u32, at: Option<u64>) {
    let Some(entry) = INFLIGHT.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: as in `entry_of`: a thread ends its wait on one CPU only.
    let entry = unsafe { &mut *entry };
    if entry.start == 0 {
        return;
    }
    let now = match at {
        Some(at) => at,
        None => emit::now(),
    };
    finish(ctx, control, tid, entry, now);
}

/// Counts and closes the wait of `entry`, which ends at `now`.
#[inline(never)]
fn finish<C: EbpfContext>(ctx: &C, control: &Control, tid: u32, entry: &mut InFlight, now: u64) {
    let duration = now.saturating_sub(entry.start);
    let run_queue = if entry.woken != 0 {
        now.saturating_sub(entry.woken).min(duration)
    } else {
        0
    };
    holds::arrive(entry, now, duration, run_queue);
    polls::arrive(control, tid, entry, duration, run_queue);
    if entry.key.task.flags & TASK_IDLE != 0 {
        count(Counter::Aggregated);
        count_many(Counter::IdleNs, duration);
        // SAFETY: as in `open`.
        unsafe { core::ptr::write_volatile(&raw mut entry.start, 0) };
        return;
    }
    entry.key.epoch = control.epoch;
    entry.key.flags = (entry.flags as u8) & WAIT_SEEDED;
    let summed = sums::add_wait(&mut entry.key, duration, run_queue);
    let sent = duration >= control.min_ns && send(ctx, entry, tid, now);
    if summed {
        count(if sent {
            Counter::Emitted
        } else {
            Counter::Aggregated
        });
    }
    // SAFETY: as in `open`.
    unsafe { core::ptr::write_volatile(&raw mut entry.start, 0) };
}

/// Sends the record of a wait that ended at `now`. False when there was no room (counted).
#[inline(never)]
fn send<C: EbpfContext>(ctx: &C, entry: &InFlight, tid: u32, now: u64) -> bool {
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
    let sent = emit::send(ctx, &record, false);
    if !sent {
        count(Counter::LostRecord);
    }
    sent
}

/// A thread is woken: by whom, and when.
#[inline(always)]
pub fn woken<C: StackIdContext>(ctx: &C, control: &Control, tid: u32) {
    let Some(entry) = INFLIGHT.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: the waiter sleeps, so only wakers touch the entry, and the first one wins.
    let entry = unsafe { &mut *entry };
    if entry.start == 0 || entry.woken != 0 {
        return;
    }
    let now = emit::now();
    entry.woken = now;
    // Who woke it matters for waits that become records; one that is long only because it waited for
    // a CPU afterwards was not held up by its waker.
    if entry.key.task.flags & TASK_IDLE == 0 && now.saturating_sub(entry.start) >= control.min_ns {
        note_waker(ctx, entry);
    }
}

/// The running thread ends a long wait.
#[inline(never)]
fn note_waker<C: StackIdContext>(ctx: &C, entry: &mut InFlight) {
    let (tgid, tid) = filter::current_ids();
    let context = kernel::context();
    entry.waker.context = context;
    entry.waker.tgid = tgid;
    entry.waker.tid = tid;
    if context == WAKER_INTERRUPT {
        return;
    }
    if let Some(target) = filter::target(tgid) {
        current::read_task(target, tid, &mut entry.waker.task);
        entry.waker.task = holds::of_running(entry.waker.task, tid);
        if target.flags & TARGET_NO_FRAME_POINTERS == 0 {
            entry.waker.user_stack = stacks::user(ctx);
        }
    }
}
