//! Goroutines: what the probe in Go's runtime has summed.

use std::collections::BTreeMap;

use observer_common::goroutines::{
    GO_BEFORE, GoLosses, GoState, GoSum, GoSumKey, KIND_CREATED, KIND_ENDED, KIND_UNSEEN,
    STATE_COPYSTACK, STATE_DEAD, STATE_DEAD_EXTRA, STATE_IDLE, STATE_PREEMPTED, STATE_RUNNABLE,
    STATE_RUNNING, STATE_SYSCALL, STATE_WAITING,
};

use crate::model::event::Tally;
use crate::model::transitions::{After, What};

/// What a sum is of.
pub fn what(key: &GoSumKey) -> What {
    match key.kind {
        KIND_CREATED => What::Created,
        KIND_ENDED => What::Ended,
        KIND_UNSEEN => What::Unseen,
        state => in_state(state, key.reason, key.flags),
    }
}

/// What a goroutine is doing that has not left its state; `None`: it is none.
pub fn open(state: &GoState) -> Option<What> {
    match state.state {
        STATE_IDLE | STATE_DEAD | STATE_DEAD_EXTRA => None,
        other => Some(in_state(other, state.reason, state.flags)),
    }
}

fn in_state(state: u8, reason: u8, flags: u8) -> What {
    match state {
        STATE_WAITING => What::Waiting(reason),
        STATE_RUNNABLE => What::Runnable(match reason {
            _ if flags & GO_BEFORE != 0 => After::Other,
            STATE_WAITING => After::Wait,
            STATE_RUNNING => After::Running,
            STATE_SYSCALL => After::Syscall,
            STATE_DEAD | STATE_DEAD_EXTRA => After::Creation,
            _ => After::Other,
        }),
        STATE_RUNNING => What::State("running"),
        STATE_SYSCALL => What::State("in a system call"),
        STATE_COPYSTACK => What::State("moving its stack"),
        STATE_PREEMPTED => What::State("stopped by the collector"),
        _ => What::State("another state"),
    }
}

/// A sum, and the goroutine whose the longest stretch was.
pub fn sum(sum: &GoSum) -> (Tally, Option<u64>) {
    let tally = Tally {
        count: sum.count,
        total_ns: sum.total_ns,
        run_queue_ns: 0,
        max_ns: sum.max_ns,
        buckets: sum.buckets.map(u64::from),
    };
    (tally, (sum.max_goid != 0).then_some(sum.max_goid))
}

/// What could not be followed, without what did not happen.
pub fn losses(losses: &GoLosses) -> BTreeMap<&'static str, u64> {
    [
        ("goroutine_table_full", losses.untracked),
        ("sums_full", losses.sums),
        ("places_folded", losses.folded),
        ("stacks_full", losses.stacks),
        ("wakers_full", losses.wakers),
        ("change_not_seen", losses.unseen),
        ("not_listed", losses.unlisted),
        ("memory_unreadable", losses.unreadable),
    ]
    .into_iter()
    .filter(|(_, n)| *n > 0)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_told_apart() {
        let state = |state, reason| {
            open(&GoState {
                state,
                reason,
                ..GoState::default()
            })
        };
        assert_eq!(state(STATE_DEAD, 0), None);
        assert_eq!(state(STATE_DEAD_EXTRA, 0), None);
        assert_eq!(state(STATE_WAITING, 19), Some(What::Waiting(19)));
        assert_eq!(
            state(STATE_RUNNABLE, STATE_WAITING),
            Some(What::Runnable(After::Wait))
        );
        assert_eq!(state(77, 0), Some(What::State("another state")));
        let created = GoSumKey {
            kind: KIND_CREATED,
            ..GoSumKey::default()
        };
        assert_eq!(what(&created), What::Created);
    }

    #[test]
    fn only_what_was_lost_is_listed() {
        let found = losses(&GoLosses {
            unseen: 3,
            ..GoLosses::default()
        });
        assert_eq!(found, BTreeMap::from([("change_not_seen", 3)]));
    }
}
