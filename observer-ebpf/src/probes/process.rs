//! What happens to target processes: exec, exit, fork. Hook contract:
//! sched_process_exec (p, old_pid, bprm), sched_process_exit (p), sched_process_fork (parent, child).

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_EXIST;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext, TracePointContext};
use observer_common::config::{TARGET_COPY_STACKS, TargetConfig};
use observer_common::counters::Counter;
use observer_common::events::process::ProcessRecord;
use observer_common::kind::Kind;

use crate::maps::TARGETS;
use crate::{emit, filter, kernel, user_probes};

macro_rules! entries {
    ($try_fn:ident: $event:literal, $btf:ident, $raw:ident, $tp:ident) => {
        #[btf_tracepoint(function = $event)]
        pub fn $btf(ctx: BtfTracePointContext) -> i32 {
            $try_fn(&ctx);
            0
        }

        #[raw_tracepoint(tracepoint = $event)]
        pub fn $raw(ctx: RawTracePointContext) -> i32 {
            $try_fn(&ctx);
            0
        }

        #[tracepoint(category = "sched", name = $event)]
        pub fn $tp(ctx: TracePointContext) -> u32 {
            $try_fn(&ctx);
            0
        }
    };
}

entries!(try_exec: "sched_process_exec", sched_process_exec_btf, sched_process_exec_raw, sched_process_exec_tp);
entries!(try_exit: "sched_process_exit", sched_process_exit_btf, sched_process_exit_raw, sched_process_exit_tp);

#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork_btf(ctx: BtfTracePointContext) -> i32 {
    let child = ctx.arg::<u64>(1);
    try_fork(&ctx, kernel::tgid_of(child));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork_raw(ctx: RawTracePointContext) -> i32 {
    let child = ctx.arg::<u64>(1);
    try_fork(&ctx, kernel::tgid_of(child));
    0
}

#[inline(always)]
fn send<C: EbpfContext>(ctx: &C, kind: Kind, ids: (u32, u32), child: u32) {
    let record = ProcessRecord {
        header: emit::header::<ProcessRecord>(kind, ids.0, ids.1, emit::now()),
        child,
        pad: 0,
    };
    if !emit::send(ctx, &record, true) {
        emit::count(Counter::LostProcessRecord);
    }
}

/// The new program is not the one whose offsets we hold: threads only, with
/// copied stacks, which suit every program, until the user side knows.
#[inline(always)]
fn try_exec<C: EbpfContext>(ctx: &C) {
    let ids = filter::current_ids();
    if filter::control().is_none() || filter::target(ids.0).is_none() {
        return;
    }
    // It fails when the user side has just removed the target: then there is nothing to reset.
    let config = &TargetConfig {
        flags: TARGET_COPY_STACKS,
        ..TargetConfig::default()
    };
    let _ = TARGETS.insert(ids.0, config, BPF_EXIST as u64);
    user_probes::forget(ids.0);
    debug!(ctx, "target {} called exec", ids.0);
    send(ctx, Kind::Exec, ids, 0);
}

#[inline(always)]
fn try_exit<C: EbpfContext>(ctx: &C) {
    let ids = filter::current_ids();
    if ids.0 != ids.1 || filter::control().is_none() || filter::target(ids.0).is_none() {
        return;
    }
    debug!(ctx, "main thread of target {} exited", ids.0);
    send(ctx, Kind::Exit, ids, 0);
}

/// A target makes a thread (nothing to do) or a child process (which is not observed: said).
#[inline(always)]
fn try_fork<C: EbpfContext>(ctx: &C, child: Option<u32>) {
    let ids = filter::current_ids();
    let (Some(_), Some(_), Some(child)) = (filter::control(), filter::target(ids.0), child) else {
        return;
    };
    if child != ids.0 {
        send(ctx, Kind::Fork, ids, child);
    }
}
