//! Whether a wait was allowed where it happened, and how that is known.

use super::waiting;
use crate::model::event::{Identity, WaitClass, WaitKey};
use crate::model::names::Names;
use crate::model::stacks::StackId;
use crate::model::task::Legality;

/// What runs the jobs of `spawn_blocking`, as `TaskFacts` name it.
const BLOCKING_POOL: &str = "blocking_pool";

/// A job of the blocking pool may block also where it polls a future by `block_on`, as long as its
/// thread drives no other task meanwhile. `user`: the stack that stands for the wait; `own`: the same,
/// unless it is another task's.
pub(super) fn of(
    key: &WaitKey,
    user: Option<StackId>,
    own: Option<StackId>,
    names: &dyn Names,
) -> Legality {
    let Identity::Task(task) = key.identity else {
        return key.legality;
    };
    let is_job = || {
        names
            .task_facts(key.pid, task, own)
            .is_some_and(|facts| facts.scheduler == Some(BLOCKING_POOL))
    };
    if key.legality != Legality::InPoll || !is_job() {
        return key.legality;
    }
    match user.and_then(|stack| waiting::drives_tasks(names.frames(stack))) {
        Some(true) => Legality::InPoll,
        Some(false) => Legality::MayBlock,
        // Having no CPU is no fault of a job's in any case.
        None if key.class == WaitClass::RunQueue => Legality::MayBlock,
        None => Legality::Unknown,
    }
}

/// How the legality is known. `by_type`: by what the task is. `running`: most of the time the goroutine was
/// in state `running`.
pub(super) fn evidence(legality: Legality, by_type: bool, running: bool) -> Option<String> {
    match legality {
        Legality::MayBlock if by_type => Some(
            "a job of the blocking pool, by its type: its thread runs no other task".to_owned(),
        ),
        Legality::InPoll => Some(
            "the thread was inside the tokio runtime, polling (read from its thread-local context)"
                .to_owned(),
        ),
        Legality::MayBlock => Some(
            "the thread had left the tokio runtime: spawn_blocking or block_in_place (read from its thread-local context)"
                .to_owned(),
        ),
        Legality::NoRule => running.then(|| {
            "the goroutine was still `running`: a raw syscall or runtime lock, so its P could not be handed on"
                .to_owned()
        }),
        Legality::Unknown => Some("whether the runtime allows blocking there could not be read".to_owned()),
    }
}
