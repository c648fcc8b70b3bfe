//! Circles of tasks of one process that wait for each other and never moved.
//!
//! They never lead through another process: that a task serves a connection is known by its stack only, and
//! a connection whose ends both wait to read is what an idle one looks like.

use std::collections::{HashMap, HashSet};

use super::wait_graph::Named;
use crate::model::census::{Direction, WaitKind};
use crate::model::meeting::{Meeting, Side, User, UserEvidence};

/// Samples that a candidate for a deadlock needs.
const DEADLOCK_SAMPLES: u64 = 4;

/// The side of a meeting point at which a deadlock can be: those who wait to receive may just be
/// without work.
fn stuck_side(meeting: &Meeting) -> Option<&Side> {
    let side = meeting.sides.first()?;
    let kind = match meeting.kind {
        WaitKind::Mutex | WaitKind::RwMutex | WaitKind::Task => true,
        // Of futures it is known what they own, and not what lies behind an `Arc`.
        WaitKind::Channel => {
            let owns = |user: &User| user.evidence == UserEvidence::Owns;
            side.direction == Some(Direction::Send) && !meeting.users.iter().any(owns)
        }
        _ => false,
    };
    let still = !side.stuck.is_empty() && side.last == side.max && meeting.sides.len() == 1;
    let looked = meeting.conclusive && meeting.samples >= DEADLOCK_SAMPLES;
    (kind && still && looked && !meeting.users_cut && !meeting.users.is_empty()).then_some(side)
}

/// Meeting points where all who could end the waits, as far as stacks tell, are stuck at such meeting
/// points themselves. Where nobody is known to use one, nothing is said.
pub(super) fn deadlocks(meetings: &[Meeting], targets: &[Named]) -> Vec<String> {
    let mut left: HashMap<(usize, u64), (&Meeting, &Side)> = meetings
        .iter()
        .filter_map(|m| Some(((m.target, m.address), (m, stuck_side(m)?))))
        .collect();
    loop {
        let stuck: HashSet<(usize, u64)> = left
            .values()
            .flat_map(|(m, side)| side.stuck.iter().map(|id| (m.target, *id)))
            .collect();
        let before = left.len();
        left.retain(|_, (m, _)| {
            let is_stuck = |id: &u64| stuck.contains(&(m.target, *id));
            m.users
                .iter()
                .all(|user| user.count as usize == user.ids.len() && user.ids.iter().all(is_stuck))
                && m.doubts.iter().all(is_stuck)
        });
        if left.len() == before {
            break;
        }
    }
    let mut order: Vec<_> = left.keys().copied().collect();
    order.sort_unstable();
    let mut told: HashSet<(usize, u64)> = HashSet::new();
    let mut out = Vec::new();
    for key in order {
        if let Some((cycle, keys)) = follow(key, &left, targets)
            && keys.iter().all(|key| told.insert(*key))
        {
            out.push(cycle);
        }
    }
    out
}

/// Follows from a meeting point to one who could end the wait, to where that one is stuck, until the
/// way comes back; what lies before the cycle is left out.
fn follow(
    start: (usize, u64),
    left: &HashMap<(usize, u64), (&Meeting, &Side)>,
    targets: &[Named],
) -> Option<(String, Vec<(usize, u64)>)> {
    let mut path: Vec<((usize, u64), u64)> = Vec::new();
    let mut key = start;
    while !path.iter().any(|(known, _)| *known == key) {
        let (meeting, _) = left.get(&key)?;
        let id = *meeting.users.first()?.ids.first()?;
        path.push((key, id));
        key = left
            .iter()
            .filter(|(k, (_, side))| k.0 == key.0 && side.stuck.contains(&id))
            .map(|(k, _)| *k)
            .min()?;
    }
    let from = path.iter().position(|(known, _)| *known == key)?;
    let cycle = path.get(from..)?;
    let noun = targets.get(key.0).map_or("task", |t| t.noun);
    let (first, _) = left.get(&cycle.first()?.0)?;
    let steps = cycle
        .iter()
        .enumerate()
        .filter_map(|(at, ((_, address), id))| {
            let (meeting, _) = left.get(&(key.0, *address))?;
            let waiter = if at == 0 {
                cycle.last()?.1
            } else {
                cycle.get(at - 1)?.1
            };
            let verb = match meeting.kind {
                WaitKind::Task => {
                    return Some(format!("{noun} {waiter} waits for the end of {noun} {id}"));
                }
                WaitKind::Channel => "receives from",
                _ => "may hold",
            };
            Some(format!(
                "{noun} {waiter} waits{} {} {address:#x}, which {noun} {id} {verb}",
                match meeting.kind {
                    WaitKind::Channel => " to send on",
                    _ => " for",
                },
                meeting.kind.as_str(),
            ))
        });
    let steps = steps.collect::<Vec<_>>().join("; ");
    let samples = first.samples;
    let text = match noun {
        "goroutine" => {
            format!(
                "{steps}; neither moved in {samples} samples, and no other stack refers to these"
            )
        }
        _ => format!("{steps}; they were there in each of {samples} samples"),
    };
    Some((text, cycle.iter().map(|(key, _)| *key).collect()))
}
