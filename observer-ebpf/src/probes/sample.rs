//! The sampling clock: which target threads are on a CPU, with which task, where.
//! Hook contract: perf event, software CPU clock, one for each CPU, in an interrupt on that CPU.

use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::PerfEventContext;
use observer_common::config::{
    READER_GO, TARGET_COPY_STACKS, TARGET_NO_FRAME_POINTERS, TargetConfig,
};
use observer_common::counters::Counter;
use observer_common::events::user_stack::{
    CPU_IN_KERNEL, CPU_IN_USER, UserStackHead, UserStackRecord,
};
use observer_common::events::wait::{NO_STACK, NO_SYSCALL};
use observer_common::kind::Kind;

#[cfg(feature = "perf")]
use super::user_stack::fill;
#[cfg(feature = "ring")]
use super::user_stack::send as send_stack;
use crate::emit::{self, count};
use crate::maps::CONTROL;
use crate::{current, filter, holds, kernel, stacks};

#[perf_event]
pub fn cpu_sample(ctx: PerfEventContext) -> u32 {
    let ids = filter::current_ids();
    if ids.1 != 0
        && filter::control().is_some()
        && let Some(target) = filter::target(ids.0)
    {
        try_sample(&ctx, target, ids);
    }
    0
}

/// Instruction, stack and frame pointer in user code, and whether that is what the tick hit.
#[inline(always)]
fn registers(ctx: &PerfEventContext) -> Option<(u64, u64, u64, bool)> {
    // Requested privilege level 3 in the code segment selector: user mode (Intel SDM vol. 3, 5.5).
    const USER: u64 = 3;
    // SAFETY: the context of a perf event program is valid; the verifier checks the access.
    let cs = unsafe { (&raw const (*ctx.ctx).regs.cs).read_volatile() };
    // Coming from user code the interrupt saved that code's registers where a system call would.
    let regs = kernel::current_registers()?;
    Some((regs.ip(), regs.sp(), regs.bp(), cs & USER == USER))
}

#[inline(always)]
fn try_sample(ctx: &PerfEventContext, target: &TargetConfig, (tgid, tid): (u32, u32)) {
    count(Counter::CpuSamples);
    let now = emit::now();
    let task = current::task(target, tid);
    if holds::followed(target) {
        holds::sample(ctx, (tgid, tid), &task, now);
    }
    let (ip, sp, bp, user) = registers(ctx).unwrap_or((0, 0, 0, false));
    let mut head = UserStackHead {
        header: emit::header::<UserStackHead>(Kind::CpuSample, tgid, tid, now),
        ip,
        sp,
        bp,
        len: 0,
        subject: 0,
        syscall: NO_SYSCALL,
        class: if user { CPU_IN_USER } else { CPU_IN_KERNEL },
        user_stack: NO_STACK,
        kernel_stack: NO_STACK,
        task,
        task_sp: 0,
        task_pc: 0,
        task_len: 0,
        weight: 1,
    };
    if target.flags & TARGET_NO_FRAME_POINTERS == 0 {
        head.user_stack = stacks::user(ctx);
    }
    // Go code is walked by frame pointers; it has no tables to unwind a copy by.
    let go = target.reader == READER_GO && current::in_go_code(target, ip);
    let copy = target.flags & TARGET_COPY_STACKS != 0 && !go && sp != 0 && may_copy();
    let sent = if copy {
        head.len = current::stack_room(target, sp);
        head.header = emit::header::<UserStackRecord>(Kind::CpuStack, tgid, tid, now);
        send_stack(ctx, head)
    } else {
        emit::send(ctx, &head, false)
    };
    if !sent {
        count(Counter::CpuSampleLost);
    }
}

/// Whether one more stack may be copied in this slice of time. A bound, not a count: two CPUs may
/// take the same unit.
#[inline(always)]
fn may_copy() -> bool {
    let Some(control) = CONTROL.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: points into a map value.
    let left = unsafe { &mut (*control).cpu_copies };
    if *left == 0 {
        count(Counter::CpuNotCopied);
        return false;
    }
    *left -= 1;
    true
}

#[cfg(feature = "perf")]
#[inline(always)]
fn send_stack(ctx: &PerfEventContext, head: UserStackHead) -> bool {
    let Some(record) = crate::maps::SAMPLE_SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    fill(record, head);
    emit::send_bytes(ctx, record.cast(), size_of::<UserStackRecord>() as u64)
}
