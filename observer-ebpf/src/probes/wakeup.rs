//! Wake-ups. sched_waking runs on the waker's CPU, in its context; sched_wakeup, which others use,
//! can run on the woken thread's CPU, where the running thread is not the waker.
//! Hook contract: tp_btf and raw: (struct task_struct *p); tracepoint: field pid.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint, tracepoint};
use aya_ebpf::programs::tracing::StackIdContext;
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext, TracePointContext};
use observer_common::counters::Counter;
use observer_common::events::wait::{CLASS_RUN_QUEUE, WAIT_NEW_THREAD};
use observer_common::task::{TASK_THREAD, Task};

use crate::{emit, filter, kernel, waits};

#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking_btf(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
    if kernel::typed_tgid_of(task).is_some_and(filter::is_target) {
        try_waking(&ctx, kernel::typed_tid_of(task));
    }
    0
}

#[raw_tracepoint(tracepoint = "sched_waking")]
pub fn sched_waking_raw(ctx: RawTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
    if kernel::tgid_of(task).is_some_and(filter::is_target) {
        try_waking(&ctx, kernel::tid_of(task));
    }
    0
}

#[tracepoint(category = "sched", name = "sched_waking")]
pub fn sched_waking_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offset comes from the tracepoint's format file.
    let tid = unsafe { ctx.read_at::<u32>(kernel::tp_wakeup_pid()) }.ok();
    try_waking(&ctx, tid);
    0
}

#[inline(always)]
fn try_waking<C: StackIdContext>(ctx: &C, tid: Option<u32>) {
    let (Some(control), Some(tid)) = (filter::control(), tid) else {
        return;
    };
    waits::woken(ctx, control, tid);
}

#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new_btf(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
    try_wakeup_new(&ctx, kernel::tgid_of(task), kernel::tid_of(task));
    0
}

#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
pub fn sched_wakeup_new_raw(ctx: RawTracePointContext) -> i32 {
    let task = ctx.arg::<u64>(0);
    try_wakeup_new(&ctx, kernel::tgid_of(task), kernel::tid_of(task));
    0
}

/// A new thread of a target waits for its first CPU. (The classic tracepoint does not tell the
/// process of the new thread, so there is no third form of this hook.)
#[inline(always)]
fn try_wakeup_new<C: StackIdContext>(ctx: &C, tgid: Option<u32>, tid: Option<u32>) {
    let (Some(control), Some(tgid), Some(tid)) = (filter::control(), tgid, tid) else {
        return;
    };
    if filter::target(tgid).is_none() {
        return;
    }
    emit::count(Counter::Seen);
    let now = emit::now();
    let Some(entry) = waits::open(ctx, control, tid) else {
        return;
    };
    waits::blank(entry, tgid, CLASS_RUN_QUEUE);
    entry.key.task = Task {
        id: tid as u64,
        kind: TASK_THREAD,
        ..Task::default()
    };
    entry.woken = now;
    entry.flags = WAIT_NEW_THREAD as u32;
    waits::publish(entry, now);
}
