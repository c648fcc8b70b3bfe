//! Stacks of the running thread: by frame pointers into the stack map, or as a copy for unwinding.

use aya_ebpf::bindings::BPF_F_USER_STACK;
use aya_ebpf::programs::tracing::StackIdContext;
use observer_common::config::{CONTROL_NO_KERNEL_STACKS, Control};
use observer_common::counters::Counter;
use observer_common::events::wait::NO_STACK;

use crate::emit::count;
use crate::maps::STACKS;

const EEXIST: i32 = -17;
const ENOMEM: i32 = -12;

#[inline(always)]
fn checked(result: Result<i64, i32>, failed: Counter) -> i32 {
    match result {
        Ok(id) => id as i32,
        Err(EEXIST) => {
            count(Counter::StackCollision);
            NO_STACK
        }
        Err(ENOMEM) => {
            count(Counter::StackMapFull);
            NO_STACK
        }
        Err(_) => {
            count(failed);
            NO_STACK
        }
    }
}

/// Id of the user stack.
#[inline(always)]
pub fn user<C: StackIdContext>(ctx: &C) -> i32 {
    checked(
        ctx.get_stackid(&STACKS, BPF_F_USER_STACK as u64),
        Counter::UserStackFailed,
    )
}

/// Id of the kernel stack.
#[inline(always)]
pub fn kernel<C: StackIdContext>(ctx: &C, control: &Control) -> i32 {
    if control.flags & CONTROL_NO_KERNEL_STACKS != 0 {
        return NO_STACK;
    }
    checked(ctx.get_stackid(&STACKS, 0), Counter::KernelStackFailed)
}
