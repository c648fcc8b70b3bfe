//! System calls of targets one by one, and the waits for the network that they show: a descriptor
//! that answered "not ready" is waited for until the same task tries it again.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::programs::tracing::StackIdContext;
use observer_common::config::{Control, TARGET_NO_FRAME_POINTERS, TargetConfig};
use observer_common::counters::Counter;
use observer_common::events::syscall::{
    NET_READS, NET_WRITES, NetKey, NetOpen, NetOpenKey, ROLE_ASKS, ROLE_CLOSES, ROLE_CONNECTS,
    ROLE_READS, ROLE_WRITES, SyscallKey, SyscallOpen,
};
use observer_common::events::wait::{NO_STACK, WaitSum};
use observer_common::task::{
    TASK_FOLDED, TASK_FOREIGN, TASK_IDLE, TASK_MISMATCH, TASK_UNREADABLE, Task,
};

use crate::emit::{self, count};
use crate::maps::{NET_OPEN, NET_WAITS, SYSCALL_OPEN, SYSCALLS, ZERO_SUM};
use crate::{current, holds, kernel, stacks, sums, waits};

/// Linux `include/uapi/asm-generic/errno-base.h`.
const EAGAIN: u32 = 11;
/// Linux `include/uapi/asm-generic/errno.h`.
const EINPROGRESS: u32 = 115;
/// The largest error (Linux `include/linux/err.h`, MAX_ERRNO).
const MAX_ERRNO: i64 = 4095;

/// The running task, without what changes from call to call.
#[inline(always)]
fn caller(target: &TargetConfig, tid: u32, nr: i32) -> Task {
    let mut task = current::task(target, tid);
    if waits::tokio_parked(&task, nr) && holds::running_may_be_loop(&task, tid) {
        task.flags |= TASK_IDLE;
    } else {
        task = holds::of_running(task, tid);
    }
    task.flags &= TASK_IDLE | TASK_UNREADABLE | TASK_MISMATCH | TASK_FOREIGN;
    if task.flags & TASK_IDLE != 0 {
        task.id = 0;
    }
    task.detail = 0;
    task.reason = 0;
    task
}

/// A target thread enters a system call.
#[inline(always)]
pub fn enter(target: &TargetConfig, ids: (u32, u32), nr: i32, control: &Control) {
    let (tgid, tid) = ids;
    count(Counter::SyscallsEntered);
    let now = emit::now();
    let first = kernel::current_registers().map_or(0, |regs| regs.first_argument());
    let open = SyscallOpen {
        start: now,
        subject: first,
        tgid,
        nr,
    };
    match SYSCALL_OPEN.get_ptr_mut(tid) {
        // SAFETY: points into a map value that only the thread itself writes.
        Some(entry) => unsafe { *entry = open },
        None => {
            if SYSCALL_OPEN.insert(tid, open, BPF_ANY as u64).is_err() {
                count(Counter::LostSyscallThread);
            }
        }
    }
    let role = waits::role_of(nr);
    if role & ROLE_READS != 0 {
        tried(target, ids, first as i32, NET_READS, (control, now));
    }
    if role & (ROLE_WRITES | ROLE_ASKS) != 0 {
        tried(target, ids, first as i32, NET_WRITES, (control, now));
    }
}

/// A thread exits: the call that it is in never returns.
#[inline(always)]
pub fn forget(tid: u32) {
    if let Some(entry) = SYSCALL_OPEN.get_ptr_mut(tid) {
        // SAFETY: points into a map value that only the thread itself writes.
        if unsafe { (*entry).start } != 0 {
            count(Counter::SyscallsEnded);
        }
        let _ = SYSCALL_OPEN.remove(tid);
    }
}

/// A descriptor is tried (again): if the same task found it not ready before, that wait has ended.
#[inline(always)]
fn tried(
    target: &TargetConfig,
    (tgid, tid): (u32, u32),
    fd: i32,
    direction: u32,
    (control, now): (&Control, u64),
) {
    let key = NetOpenKey {
        tgid,
        fd,
        direction,
        pad: 0,
    };
    let Some(open) = NET_OPEN.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: points into a map value; entries are replaced whole, a torn one is summed under a key
    // that holds parts of two waits of one descriptor at worst.
    let open = unsafe { *open };
    let task = caller(target, tid, open.nr);
    if task.id == open.task.id && task.kind == open.task.kind {
        let key = NetKey {
            task,
            tgid,
            fd,
            nr: open.nr,
            user_stack: open.user_stack,
            epoch: control.epoch,
            pad: 0,
        };
        match net_slot(&key) {
            Some(slot) => sums::add(slot, now.saturating_sub(open.start), 0),
            None => count(Counter::LostNetWait),
        }
    } else {
        // Another task tries it: how long the first one waited is not known.
        count(Counter::NetWaitsUntimed);
    }
    let _ = NET_OPEN.remove(key);
}

/// A target thread returns from a system call.
#[inline(always)]
pub fn exit<C: StackIdContext>(
    ctx: &C,
    (control, target): (&Control, &TargetConfig),
    (tgid, tid): (u32, u32),
    result: i64,
) {
    let Some(entry) = SYSCALL_OPEN.get_ptr_mut(tid) else {
        count(Counter::SyscallsBefore);
        return;
    };
    // SAFETY: points into a map value that only the thread itself writes.
    let open = unsafe { *entry };
    if open.start == 0 {
        count(Counter::SyscallsBefore);
        return;
    }
    // SAFETY: as above.
    unsafe { (*entry).start = 0 };
    let now = emit::now();
    let errno = if (-MAX_ERRNO..0).contains(&result) {
        -result as u32
    } else {
        0
    };
    let task = caller(target, tid, open.nr);
    let mut key = SyscallKey {
        task,
        tgid,
        nr: open.nr,
        epoch: control.epoch,
        errno,
    };
    if sum(&mut key, now.saturating_sub(open.start)) {
        count(Counter::SyscallsSummed);
    }
    let role = waits::role_of(open.nr);
    let fd = open.subject as i32;
    if role & ROLE_CLOSES != 0 {
        for direction in [NET_READS, NET_WRITES] {
            // It is there only if somebody waited for it.
            let waited = NET_OPEN.remove(NetOpenKey {
                tgid,
                fd,
                direction,
                pad: 0,
            });
            if waited.is_ok() {
                count(Counter::NetWaitsUntimed);
            }
        }
        return;
    }
    let direction = if role & ROLE_READS != 0 && errno == EAGAIN {
        NET_READS
    } else if (role & ROLE_WRITES != 0 && errno == EAGAIN)
        || (role & ROLE_CONNECTS != 0 && errno == EINPROGRESS)
    {
        NET_WRITES
    } else {
        return;
    };
    let user_stack = if target.flags & TARGET_NO_FRAME_POINTERS == 0 {
        stacks::user(ctx)
    } else {
        NO_STACK
    };
    let key = NetOpenKey {
        tgid,
        fd,
        direction,
        pad: 0,
    };
    let open = NetOpen {
        start: now,
        task,
        nr: open.nr,
        user_stack,
    };
    // Two tasks were in a call on it at once, and the other one was told "not ready" first.
    if NET_OPEN.get_ptr_mut(key).is_some() {
        count(Counter::NetWaitsUntimed);
    }
    if NET_OPEN.insert(key, open, BPF_ANY as u64).is_err() {
        count(Counter::LostNetWait);
    }
}

/// Adds a call to the sums. False when it is lost (counted).
#[inline(always)]
fn sum(key: &mut SyscallKey, duration: u64) -> bool {
    if let Some(slot) = slot(key) {
        sums::add(slot, duration, 0);
        return true;
    }
    // No room for this task's row: fold it, so that the totals stay complete.
    key.task = Task {
        flags: key.task.flags & TASK_IDLE | TASK_FOLDED,
        ..Task::default()
    };
    if let Some(slot) = slot(key) {
        count(Counter::FoldedSyscalls);
        sums::add(slot, duration, 0);
        return true;
    }
    count(Counter::LostSyscallSum);
    false
}

#[inline(always)]
fn slot(key: &SyscallKey) -> Option<*mut WaitSum> {
    if let Some(slot) = SYSCALLS.get_ptr_mut(key) {
        return Some(slot);
    }
    // Another CPU may insert the same key first: then that row is found below.
    let _ = SYSCALLS.insert(key, ZERO_SUM.get(0)?, BPF_NOEXIST as u64);
    SYSCALLS.get_ptr_mut(key)
}

#[inline(always)]
fn net_slot(key: &NetKey) -> Option<*mut WaitSum> {
    if let Some(slot) = NET_WAITS.get_ptr_mut(key) {
        return Some(slot);
    }
    let _ = NET_WAITS.insert(key, ZERO_SUM.get(0)?, BPF_NOEXIST as u64);
    NET_WAITS.get_ptr_mut(key)
}
