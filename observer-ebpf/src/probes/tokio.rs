//! Probes in tokio programs' own code. Hook contract: first instruction of
//! `tokio::runtime::task::raw::poll::<T, S>` and `raw::schedule::<S>`, which are reached through the
//! task's vtable; first argument: pointer to the task's `Header`.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::{polls, user_probes};

#[uprobe]
pub fn tokio_poll(ctx: ProbeContext) -> u32 {
    if let Some(hit) = user_probes::hit(&ctx)
        && let Some(header) = ctx.arg::<u64>(0)
    {
        // SAFETY: the context of a probe is the registers.
        let sp = unsafe { (*ctx.regs).rsp };
        polls::begin(&ctx, &hit, header, sp);
    }
    0
}

#[uprobe]
pub fn tokio_schedule(ctx: ProbeContext) -> u32 {
    if let Some(hit) = user_probes::hit(&ctx)
        && let Some(header) = ctx.arg::<u64>(0)
    {
        polls::woken(&hit, header);
    }
    0
}
