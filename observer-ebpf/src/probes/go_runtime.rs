//! The Go runtime's own code. Hook contract: `runtime.casgstatus(gp *g, oldval, newval uint32)` at its
//! first instruction, arguments in rax, rbx, rcx, the running g in r14 (Go's ABIInternal, amd64,
//! Go 1.17 and later).

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;

use crate::goroutines::{self, Change};
use crate::maps::GO_PROBES;
use crate::user_probes;

#[uprobe]
pub fn go_casgstatus(ctx: ProbeContext) -> u32 {
    try_change(&ctx);
    0
}

#[inline(always)]
fn try_change(ctx: &ProbeContext) -> Option<()> {
    let hit = user_probes::hit(ctx)?;
    let config = GO_PROBES.get(hit.slot)?;
    // SAFETY: the context of a probe is the registers of the thread, valid while the program runs.
    let regs = unsafe { &*ctx.regs };
    goroutines::change(&Change {
        slot: hit.slot,
        config,
        regs,
        g: regs.rax,
        old: goroutines::told_apart(config, regs.rbx as u8),
        new: goroutines::told_apart(config, regs.rcx as u8),
    });
    Some(())
}
