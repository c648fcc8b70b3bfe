//! Waits: records, aggregates and in-flight entries.

use observer_common::events::inflight::InFlight;
use observer_common::events::wait::{
    self as wire, CLASS_KERNEL, CLASS_PAGE_FAULT, CLASS_RUN_QUEUE, CLASS_SYSCALL, WAIT_SEEDED,
    WAIT_STACK_COPIED, WAKER_INTERRUPT, WAKER_SOFTIRQ, WAKER_TASK,
};
use observer_common::task::{
    self, TASK_GOROUTINE, TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL,
    TASK_MISMATCH, TASK_TOKIO, TASK_UNREADABLE,
};

use crate::model::event::{
    BUCKETS, Identity, OpenWait, Tally, WaitClass, WaitEvent, WaitKey, WakerContext, WakerSeen,
};
use crate::model::task::{Legality, TaskKind, TaskRef};
use crate::model::{Mono, Pid, Tid};

/// The tokio EnterRuntime byte of a thread that is not inside a runtime (tokio 1.54,
/// `src/runtime/context/runtime.rs`: spawn_blocking and block_in_place leave the runtime).
const NOT_ENTERED: u8 = 2;

const _: () = assert!(
    BUCKETS == wire::BUCKETS,
    "both sides must bucket durations alike"
);

/// Who was on a thread.
pub fn identity(task: &task::Task) -> Identity {
    if task.flags & TASK_UNREADABLE != 0 {
        return Identity::Unreadable;
    }
    if task.flags & TASK_MISMATCH != 0 {
        return Identity::Mismatch;
    }
    if task.flags & TASK_IDLE != 0 {
        return Identity::Idle;
    }
    let kind = match task.kind {
        TASK_GOROUTINE => TaskKind::Goroutine,
        TASK_TOKIO => TaskKind::tokio(task.reason),
        _ => TaskKind::Thread,
    };
    Identity::Task(TaskRef { kind, id: task.id })
}

/// Whether tokio allows blocking where this task was.
pub(super) fn legality(task: &task::Task) -> Legality {
    if task.flags & TASK_HAS_ENTERED == 0 {
        return if task.kind == TASK_TOKIO {
            Legality::Unknown
        } else {
            Legality::NoRule
        };
    }
    if task.detail == NOT_ENTERED {
        // A task id without an entered runtime: spawn_blocking or block_in_place. No id: a thread
        // that tokio knows nothing of.
        return if task.kind == TASK_TOKIO {
            Legality::MayBlock
        } else {
            Legality::NoRule
        };
    }
    if task.flags & TASK_HAS_BUDGET != 0 && task.flags & TASK_IN_POLL == 0 {
        // Inside the runtime, but not inside a budgeted poll: the runtime's own code, or a future
        // that opted out of the budget.
        return if task.kind == TASK_TOKIO {
            Legality::InPoll
        } else {
            Legality::Unknown
        };
    }
    Legality::InPoll
}

/// A stack id, unless none was taken.
pub fn stack(id: i32) -> Option<u32> {
    u32::try_from(id).ok()
}

fn mono(ns: u64) -> Option<Mono> {
    (ns != 0).then_some(Mono(ns))
}

/// What kept a thread off its CPU.
pub fn class(class: u8, syscall: i32) -> WaitClass {
    match (class, u32::try_from(syscall)) {
        (CLASS_SYSCALL, Ok(nr)) => WaitClass::Syscall(nr),
        (CLASS_RUN_QUEUE, _) => WaitClass::RunQueue,
        (CLASS_PAGE_FAULT, _) => WaitClass::PageFault,
        (CLASS_KERNEL, _) => WaitClass::Kernel,
        _ => WaitClass::Unknown,
    }
}

/// A key of the kernel's aggregates.
pub fn key(wire: &wire::WaitKey) -> WaitKey {
    let class = class(wire.class, wire.syscall);
    let identity = if wire.folded == 0 {
        identity(&wire.task)
    } else {
        Identity::Folded
    };
    WaitKey {
        pid: Pid(wire.tgid),
        identity,
        class,
        subject: wire.subject,
        legality: legality(&wire.task),
        go_status: (wire.task.kind == TASK_GOROUTINE).then_some(wire.task.detail),
        user_ip: wire.user_ip,
        user_stack: stack(wire.user_stack),
        seeded: wire.flags & WAIT_SEEDED != 0,
    }
}

/// A sum of the kernel's aggregates.
pub fn tally(wire: &wire::WaitSum) -> Tally {
    let mut buckets = [0; BUCKETS];
    for (to, from) in buckets.iter_mut().zip(wire.buckets) {
        *to = u64::from(from);
    }
    Tally {
        count: wire.count,
        total_ns: wire.total_ns,
        run_queue_ns: wire.run_queue_ns,
        max_ns: wire.max_ns,
        buckets,
    }
}

fn waker(wire: &wire::Waker) -> Option<WakerSeen> {
    let context = match wire.context {
        0 => return None,
        WAKER_TASK => WakerContext::Task,
        WAKER_SOFTIRQ => WakerContext::SoftIrq,
        WAKER_INTERRUPT => WakerContext::Interrupt,
        _ => WakerContext::Unknown,
    };
    // The kernel side fills the task in only for targets; an all-zero task means it did not.
    let identity = (wire.task != task::Task::default()).then(|| identity(&wire.task));
    Some(WakerSeen {
        pid: Pid(wire.tgid),
        tid: Tid(wire.tid),
        identity,
        user_stack: stack(wire.user_stack),
        context,
    })
}

/// A record of one wait.
pub fn event(record: &wire::WaitRecord) -> WaitEvent {
    WaitEvent {
        key: key(&record.key),
        tid: Tid(record.header.tid),
        start: Mono(record.start),
        end: Mono(record.header.ktime),
        woken: mono(record.woken),
        args: record.args,
        waker: waker(&record.waker),
        kernel_stack: stack(record.kernel_stack),
    }
}

/// An entry of the in-flight map.
pub fn open(tid: Tid, wire: &InFlight) -> OpenWait {
    let mut key = key(&wire.key);
    key.seeded = wire.flags & u32::from(WAIT_SEEDED) != 0;
    OpenWait {
        key,
        tid,
        start: Mono(wire.start),
        woken: mono(wire.woken),
        args: wire.args,
        ip: wire.user_ip,
        sp: wire.user_sp,
        bp: wire.user_bp,
        kernel_stack: stack(wire.kernel_stack),
        copied: wire.flags & u32::from(WAIT_STACK_COPIED) != 0,
        task_at: wire.task_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{bucket_floor, bucket_of};

    #[test]
    fn both_sides_bucket_durations_alike() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_floor(bucket), wire::bucket_floor(bucket));
        }
        for shift in 0..63 {
            for extra in [0_u64, 1, 511, 12_345] {
                let ns = (1_u64 << shift) + extra;
                assert_eq!(bucket_of(ns), wire::bucket_of(ns), "{ns} ns");
            }
        }
    }
}
