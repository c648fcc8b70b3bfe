//! System call entry and exit. Attaching these makes every system call of the host slower, so they
//! belong to a tier of their own.
//! Hook contract: tp_btf and raw: sys_enter(struct pt_regs *regs, long id),
//! sys_exit(struct pt_regs *regs, long ret).

use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::tracing::StackIdContext;
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};

use crate::{filter, syscalls};

#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter_btf(ctx: BtfTracePointContext) -> i32 {
    try_enter(ctx.arg::<u64>(1) as i32);
    0
}

#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter_raw(ctx: RawTracePointContext) -> i32 {
    try_enter(ctx.arg::<u64>(1) as i32);
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit_btf(ctx: BtfTracePointContext) -> i32 {
    try_exit(&ctx, ctx.arg::<u64>(1) as i64);
    0
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_raw(ctx: RawTracePointContext) -> i32 {
    try_exit(&ctx, ctx.arg::<u64>(1) as i64);
    0
}

#[inline(always)]
fn try_enter(nr: i32) {
    let ids = filter::current_ids();
    // Before anything else: all other processes end here.
    if !filter::is_target(ids.0) {
        return;
    }
    if let (Some(control), Some(target)) = (filter::control(), filter::target(ids.0)) {
        syscalls::enter(target, ids, nr, control);
    }
}

#[inline(always)]
fn try_exit<C: StackIdContext>(ctx: &C, result: i64) {
    let ids = filter::current_ids();
    if !filter::is_target(ids.0) {
        return;
    }
    if let (Some(control), Some(target)) = (filter::control(), filter::target(ids.0)) {
        syscalls::exit(ctx, (control, target), ids, result);
    }
}
