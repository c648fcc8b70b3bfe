//! Probes in tokio programs' own code. Hook contract: first instruction of
//! `tokio::runtime::task::raw::poll::<T, S>`, and an instruction that `raw::schedule::<S>` always
//! executes; both are reached through the task's vtable. First argument of both: pointer to the task's
//! `Header`; the cookie tells where it is by then.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use observer_common::events::poll::ARGUMENT_ON_STACK;

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
        && let Some(header) = argument(&ctx, hit.data)
    {
        polls::woken(&hit, header);
    }
    0
}

/// The argument of a function that has come some way.
#[inline(always)]
fn argument(ctx: &ProbeContext, place: u32) -> Option<u64> {
    // SAFETY: the context of a probe is the registers.
    let regs: &pt_regs = unsafe { &*ctx.regs };
    if place & ARGUMENT_ON_STACK != 0 {
        let at = regs.rsp.wrapping_add((place & 0xffff) as u64);
        // SAFETY: the helper checks the address and fails instead of faulting.
        return unsafe { bpf_probe_read_user(at as *const u64) }.ok();
    }
    // All of them, each at its constant place: the verifier allows no other access to the context.
    macro_rules! all {
        ($($name:ident)+) => {
            // SAFETY: fields of the context.
            unsafe { [$(core::ptr::read_volatile(&raw const regs.$name)),+] }
        };
    }
    let values = all!(rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15);
    Some(values[core::hint::black_box(place as usize) & 15])
}
