//! Copies the top of a user stack, for code that is not Go's.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::programs::tracing::StackIdContext;
use observer_common::config::TargetConfig;
use observer_common::counters::Counter;
use observer_common::events::inflight::InFlight;
use observer_common::events::user_stack::{
    STACK_BYTES, STACK_PIECE, TASK_STACK_BYTES, UserStackHead, UserStackRecord,
};
use observer_common::kind::Kind;

use crate::emit::{self, count};
use crate::{current, filter};

/// Sends registers and stack of the running thread. False when that was not possible (counted).
#[inline(always)]
pub fn copy_user_stack<C: StackIdContext>(
    ctx: &C,
    target: &TargetConfig,
    entry: &InFlight,
    start: u64,
    weight: u32,
) -> bool {
    if entry.user_sp == 0 {
        return false;
    }
    let (_, tid) = filter::current_ids();
    let (task_sp, task_pc) = current::left_stack(target, entry.task_at).unwrap_or_default();
    let head = UserStackHead {
        header: emit::header::<UserStackRecord>(Kind::UserStack, entry.key.tgid, tid, start),
        ip: entry.user_ip,
        sp: entry.user_sp,
        bp: entry.user_bp,
        len: current::stack_room(target, entry.user_sp),
        subject: entry.key.subject,
        syscall: entry.key.syscall,
        class: entry.key.class as u32,
        user_stack: entry.key.user_stack,
        kernel_stack: entry.kernel_stack,
        task: entry.key.task,
        task_sp,
        task_pc,
        task_len: 0,
        weight,
    };
    let sent = send(ctx, head);
    if !sent {
        count(Counter::StackCopyLost);
    }
    sent
}

/// Copies from `sp` up to the bytes `from..to` of the record, in pieces, so that the end of the
/// stack's mapping does not void the whole copy, and no more than `room` needs. The number of bytes is
/// returned.
#[inline(always)]
fn copy(record: *mut UserStackRecord, sp: u64, room: u64, from: usize, to: usize) -> u64 {
    let mut at = from;
    while at + STACK_PIECE <= to && ((at - from) as u64) < room {
        // SAFETY: `at + STACK_PIECE <= to <= STACK_BYTES`; the helper checks the user address.
        let failed = unsafe {
            let to = (&raw mut (*record).bytes).cast::<u8>().add(at);
            bpf_probe_read_user(
                to.cast(),
                STACK_PIECE as u32,
                sp.wrapping_add((at - from) as u64) as *const _,
            )
        };
        if failed != 0 {
            break;
        }
        at += STACK_PIECE;
    }
    (at - from) as u64
}

/// The thread's stack, and the task's own when it has one, in the last part of the record. Until now
/// `head.len` says how far the thread's stack can reach: what lies above it would be copied for
/// nothing, and cold memory is what a copy costs.
#[inline(always)]
pub fn fill(record: *mut UserStackRecord, mut head: UserStackHead) {
    const TASK: usize = STACK_BYTES - TASK_STACK_BYTES;
    if head.task_sp == 0 {
        head.len = copy(record, head.sp, head.len, 0, STACK_BYTES);
    } else {
        head.len = copy(record, head.sp, head.len, 0, TASK);
        head.task_len = copy(record, head.task_sp, u64::MAX, TASK, STACK_BYTES) as u32;
    }
    // SAFETY: `record` points at room for a whole record.
    unsafe { (&raw mut (*record).head).write(head) };
}

/// Sends a record with a copy of the stack at `head.sp`. False when there was no room.
#[cfg(feature = "ring")]
#[inline(always)]
pub fn send<C: StackIdContext>(_ctx: &C, head: UserStackHead) -> bool {
    let Some(mut entry) = crate::maps::RECORDS.reserve::<UserStackRecord>(0) else {
        return false;
    };
    fill(entry.as_mut_ptr(), head);
    entry.submit(emit::wake_flags(false));
    true
}

#[cfg(feature = "perf")]
#[inline(always)]
fn send<C: StackIdContext>(ctx: &C, head: UserStackHead) -> bool {
    let Some(record) = crate::maps::STACK_SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    fill(record, head);
    emit::send_bytes(ctx, record.cast(), size_of::<UserStackRecord>() as u64)
}
