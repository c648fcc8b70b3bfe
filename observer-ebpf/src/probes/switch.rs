//! sched_switch: one thread leaves a CPU, another gets it. Hook contract:
//! tp_btf and raw: (bool preempt, struct task_struct *prev, struct task_struct *next,
//! unsigned int prev_state since 5.19); tracepoint: fields prev_state, next_pid.

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint, tracepoint};
use aya_ebpf::programs::tracing::StackIdContext;
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext, TracePointContext};

use crate::{emit, filter, kernel, waits};

/// The value of the tracepoint's prev_state from which on the thread was preempted
/// (Linux `include/trace/events/sched.h`: TASK_REPORT_MAX).
const TRACEPOINT_PREEMPTED: u64 = 0x100;

#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch_btf(ctx: BtfTracePointContext) -> i32 {
    let prev = kernel::typed_tgid_of(ctx.arg::<u64>(1)).is_some_and(filter::is_target);
    let next = ctx.arg::<u64>(2);
    let next_tid = match kernel::typed_tgid_of(next) {
        Some(tgid) if filter::is_target(tgid) => kernel::typed_tid_of(next),
        _ => None,
    };
    // Most switches of a host are none of ours: they end here.
    if !prev && next_tid.is_none() {
        return 0;
    }
    let preempt = ctx.arg::<u64>(0) & 0xff != 0;
    let state = if kernel::switch_has_state() {
        Some(ctx.arg::<u64>(3) as u32)
    } else {
        None
    };
    try_switch(&ctx, preempt, state, next_tid);
    0
}

#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn sched_switch_raw(ctx: RawTracePointContext) -> i32 {
    let preempt = ctx.arg::<u64>(0) & 0xff != 0;
    let next = ctx.arg::<u64>(2);
    let state = if kernel::switch_has_state() {
        Some(ctx.arg::<u64>(3) as u32)
    } else {
        None
    };
    try_switch(&ctx, preempt, state, target_thread(next));
    0
}

#[tracepoint(category = "sched", name = "sched_switch")]
pub fn sched_switch_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the tracepoint's format file.
    let next = unsafe { ctx.read_at::<u32>(kernel::tp_switch_next_pid()) }.ok();
    // SAFETY: as above.
    let shown = unsafe { ctx.read_at::<u64>(kernel::tp_switch_prev_state()) }.unwrap_or(0);
    try_switch(
        &ctx,
        shown >= TRACEPOINT_PREEMPTED,
        Some(shown as u32),
        next,
    );
    0
}

/// The thread id of a task that belongs to a target.
#[inline(always)]
fn target_thread(task: u64) -> Option<u32> {
    if filter::is_target(kernel::tgid_of(task)?) {
        kernel::tid_of(task)
    } else {
        None
    }
}

/// The running thread is the one that leaves: the tracepoint fires before the switch.
#[inline(always)]
fn try_switch<C: StackIdContext>(ctx: &C, preempt: bool, state: Option<u32>, next: Option<u32>) {
    let Some(control) = filter::control() else {
        return;
    };
    let ids = filter::current_ids();
    let mut at = None;
    if ids.1 != 0
        && let Some(target) = filter::target(ids.0)
    {
        let state = match state {
            Some(state) => state,
            None => kernel::state_of(kernel::current()).unwrap_or(0),
        };
        let ready = preempt || state == 0;
        // One time for both threads: what is done here for the one that leaves is no wait of the other.
        let now = emit::now();
        at = Some(now);
        waits::begin(ctx, (control, target), ids, ready, state, now);
    }
    if let Some(next) = next
        && next != 0
    {
        waits::end(ctx, control, next, at);
    }
}
