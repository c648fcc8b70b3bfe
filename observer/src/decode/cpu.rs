//! What the sampling clock saw.

use observer_common::events::hold::Hold;
use observer_common::events::user_stack::{CPU_IN_KERNEL, UserStackHead};

use super::wait::{identity, legality, stack};
use crate::model::event::{CpuSampleEvent, HoldEvent};
use crate::model::{Mono, Pid, Tid};

/// A sample of a running thread; `bytes` is its stack, if that was copied.
pub fn sample<'a>(head: &UserStackHead, bytes: &'a [u8]) -> CpuSampleEvent<'a> {
    CpuSampleEvent {
        pid: Pid(head.header.tgid),
        tid: Tid(head.header.tid),
        at: Mono(head.header.ktime),
        identity: identity(&head.task),
        legality: legality(&head.task),
        in_kernel: head.class == CPU_IN_KERNEL,
        ip: head.ip,
        sp: head.sp,
        bp: head.bp,
        user_stack: stack(head.user_stack),
        bytes,
    }
}

/// A poll that kept its worker; `after`: the first look that saw something else.
pub fn hold((pid, tid): (Pid, Tid), hold: &Hold, after: Option<Mono>) -> HoldEvent {
    HoldEvent {
        pid,
        tid,
        identity: identity(&hold.task),
        first: Mono(hold.first),
        last: Mono(hold.last),
        before: (hold.before != 0).then_some(Mono(hold.before)),
        after,
        blocked_ns: hold.blocked_ns,
        run_queue_ns: hold.run_queue_ns,
        samples: hold.samples,
    }
}
