//! Short descriptions of who woke a task.

use super::ledger::WakerKey;
use crate::model::cause::Cause;
use crate::model::event::{Identity, WakerContext};
use crate::model::names::Names;
use crate::model::task::TaskKind;

/// A wake-up that no thread is behind.
const INTERRUPT: &str = "interrupt: timer, disk or network";

/// A task for people: `goroutine 7`.
pub fn identity(identity: &Identity) -> String {
    match identity {
        Identity::Task(task) => match task.kind {
            TaskKind::Goroutine => format!("goroutine {}", task.id),
            TaskKind::TokioTask => format!("tokio task {}", task.id),
            TaskKind::TokioTaskOf(copy) => format!(
                "tokio task {} of tokio copy {}",
                task.id,
                u32::from(copy) + 1
            ),
            TaskKind::Thread => format!("thread {}", task.id),
        },
        Identity::Idle => "an idle runtime thread".to_owned(),
        Identity::Unreadable | Identity::Mismatch | Identity::Missed => {
            "an unknown task".to_owned()
        }
        Identity::Folded => "other tasks".to_owned(),
    }
}

/// A waker for people, and the function in which it woke the waiter, when known.
pub fn waker(waker: &WakerKey, cause: Cause, names: &dyn Names) -> (String, Option<String>) {
    let site = waker
        .stack
        .and_then(|id| names.kernel_side_stack(Some(waker.pid), id))
        .and_then(|stack| {
            names
                .site(stack)
                .known()
                .and_then(|frame| frame.function.as_deref().map(ToOwned::to_owned))
        });
    let name = || {
        names
            .process_name(waker.pid)
            .unwrap_or_else(|| format!("pid {}, which has ended", waker.pid))
    };
    // Deferred interrupt work runs on whatever thread was there. Only over loopback is that thread
    // the cause, as the sender: so it is named for network waits alone.
    let network = matches!(
        cause,
        Cause::Recv | Cause::Send | Cause::Accept | Cause::Connect | Cause::Epoll | Cause::NetWait
    );
    let who = match (waker.context, &waker.identity) {
        (WakerContext::Interrupt, _) => INTERRUPT.to_owned(),
        (WakerContext::SoftIrq, _) if !network || waker.pid.0 == 0 => INTERRUPT.to_owned(),
        (WakerContext::SoftIrq, Some(task)) => {
            format!("{} (network work on its thread)", identity(task))
        }
        (WakerContext::SoftIrq, None) => format!("{} (network work on its thread)", name()),
        (_, Some(task)) => identity(task),
        (_, None) if waker.pid.0 == 0 => "the kernel, on an idle CPU".to_owned(),
        (_, None) => name(),
    };
    (who, site)
}
