//! Who uses a meeting point without waiting there with the crowd, and what they do instead.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::CensusLedger;
use super::meetings::{Tally, Waiter};
use super::people::{People, Person, Sums};
use super::rollup::{Places, meeting_resource};
use crate::model::census::{Direction, Reference, TaskState, Uses, WaitKind};
use crate::model::meeting::{Doing, Side, Source, User, UserEvidence};
use crate::model::names::CensusNames;
use crate::model::{Frame, Known, Resource};

/// Different things that users do and are shown.
const MAX_DOINGS: usize = 8;
/// Descriptors of one thing that users do.
const MAX_FDS: usize = 64;

pub(super) fn same_place(a: &Known<Frame>, b: &Known<Frame>) -> bool {
    match (a, b) {
        (Known::Known(a), Known::Known(b)) => {
            (&a.function, &a.file, a.line) == (&b.function, &b.file, b.line)
        }
        (Known::Unknown(a), Known::Unknown(b)) => a == b,
        _ => false,
    }
}

/// What one task does at a meeting point, as far as that is known.
struct Use {
    id: u64,
    direction: Option<Direction>,
    function: Known<Frame>,
    evidence: UserEvidence,
    seen: u64,
}

pub(super) fn users(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    kind: WaitKind,
    tally: &Tally,
    sides: &[Side],
) -> Vec<User> {
    let main = sides.first().and_then(|side| side.direction);
    let mut uses: Vec<Use> = Vec::new();
    for (id, waiter) in &tally.waiters {
        if let Some(direction) = other_way(waiter, main, kind) {
            uses.push(Use {
                id: *id,
                direction: Some(direction),
                function: waits_at(ledger, names, places, tally, *id, direction),
                evidence: UserEvidence::SeenWaiting,
                seen: waiter.samples.iter().sum(),
            });
        }
    }
    let own: Vec<&str> = sides
        .first()
        .map(|side| side.sites.iter().filter_map(|s| s.site.known()))
        .into_iter()
        .flatten()
        .filter_map(|frame| frame.function.as_deref())
        .collect();
    for (id, referrer) in &tally.referrers {
        if uses.iter().any(|known| known.id == *id) {
            continue;
        }
        let function = names.function(referrer.pc);
        let direction = direction_of(kind, referrer.uses);
        // Somebody on their way to or from the crowded side is no user of the other.
        let name = function.known().and_then(|f| f.function.as_deref());
        let on_main_side = kind == WaitKind::Channel
            && (direction == main && main.is_some() || name.is_some_and(|n| own.contains(&n)));
        if on_main_side {
            continue;
        }
        uses.push(Use {
            id: *id,
            direction,
            function,
            evidence: match referrer.how {
                Reference::Itself => UserEvidence::IsTask,
                Reference::Guard => UserEvidence::HasGuard,
                Reference::Owned => UserEvidence::Owns,
                Reference::Direct => UserEvidence::StackRefers,
                Reference::Through | Reference::Near => UserEvidence::ObjectRefers,
            },
            seen: referrer.samples,
        });
    }
    gather(ledger, names, places, (kind, tally), uses)
}

/// The direction in which a task waited, when that is not the one of the crowd.
fn other_way(waiter: &Waiter, main: Option<Direction>, kind: WaitKind) -> Option<Direction> {
    if kind != WaitKind::Channel {
        return None;
    }
    let [sent, received, _] = waiter.samples;
    let direction = if sent > received {
        Direction::Send
    } else if received > 0 {
        Direction::Receive
    } else {
        return None;
    };
    (Some(direction) != main).then_some(direction)
}

/// What a function that refers to a channel does with it; `None` when it may do either.
fn direction_of(kind: WaitKind, uses: Uses) -> Option<Direction> {
    if kind != WaitKind::Channel || uses.selects {
        return None;
    }
    match (uses.receives, uses.sends) {
        (true, false) => Some(Direction::Receive),
        (false, true) => Some(Direction::Send),
        _ => None,
    }
}

/// The place at which a task waits on its side: that of the side's groups it is most often in.
fn waits_at(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    tally: &Tally,
    id: u64,
    direction: Direction,
) -> Known<Frame> {
    let side = &tally.sides[super::meetings::side_index(Some(direction))];
    let mine = ledger.meetings().of(id).and_then(|tracked| {
        let groups = tracked.doings.iter();
        groups
            .filter(|(doing, _)| side.groups.contains_key(&doing.group))
            .max_by_key(|(doing, n)| (*n, doing.group))
            .map(|(doing, _)| doing.group)
    });
    let most = || side.groups.iter().max_by_key(|(g, n)| (**n, **g));
    let group = mine.or_else(|| most().map(|(group, _)| *group));
    match group.and_then(|group| ledger.groups().get(group as usize)) {
        Some(group) => places.of(ledger, &group.key, names),
        None => Known::unknown("where it waits was not kept"),
    }
}

fn gather(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    (kind, tally): (WaitKind, &Tally),
    mut uses: Vec<Use>,
) -> Vec<User> {
    uses.sort_by_key(|u| u.id);
    let mut people: People<Vec<u64>> = People::new();
    for one in uses {
        // A task is followed from the sample after the one in which it was found.
        let listed = ledger.meetings().of(one.id).map_or(0, |t| t.samples) + 1;
        let ids = people.add(Person {
            id: one.id,
            direction: one.direction,
            function: one.function,
            evidence: one.evidence,
            seen: (one.seen, listed.max(one.seen)),
        });
        ids.push(one.id);
    }
    people.finish(|_, ids| {
        // A lock goes from hand to hand: what counts is what they do while they may hold it.
        let parts = if kind == WaitKind::Channel {
            followed(ledger, &ids)
        } else {
            while_referring(tally, &ids)
        };
        doing(ledger, names, places, parts)
    })
}

/// What tasks did since they were followed: samples by thing, and in all.
fn followed(ledger: &CensusLedger, ids: &[u64]) -> (Sums, u64) {
    let (mut sums, mut samples) = (Sums::default(), 0);
    for tracked in ids.iter().filter_map(|id| ledger.meetings().of(*id)) {
        samples += tracked.samples;
        sums.add(tracked.doings.iter());
    }
    (sums, samples)
}

/// The same for the samples in which they referred to the meeting point and did not wait there.
fn while_referring(tally: &Tally, ids: &[u64]) -> (Sums, u64) {
    let (mut sums, mut samples) = (Sums::default(), 0);
    for referrer in ids.iter().filter_map(|id| tally.referrers.get(id)) {
        samples += referrer.samples;
        sums.add(referrer.doings.iter());
    }
    (sums, samples)
}

/// Adds a descriptor to those of one thing that tasks do; counts it when there is no room.
fn keep(fd: i32, doing: &mut Doing, left_out: &mut BTreeSet<i32>) {
    if doing.fds.contains(&fd) {
        return;
    }
    if doing.fds.len() < MAX_FDS {
        doing.fds.push(fd);
    } else {
        left_out.insert(fd);
        doing.fds_left_out = left_out.len() as u64;
    }
}

/// What tasks did, as parts of the samples.
pub(super) fn doing(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    (sums, samples): (Sums, u64),
) -> Vec<Doing> {
    let mut out: Vec<Doing> = Vec::new();
    // By index into `out`.
    let mut left_out: HashMap<usize, BTreeSet<i32>> = HashMap::new();
    let mut sums: Vec<_> = sums.0.into_iter().collect();
    sums.sort_by_key(|(key, n)| (Reverse(*n), key.group, key.fd, key.at));
    for (key, n) in sums {
        let Some(group) = ledger.groups().get(key.group as usize) else {
            continue;
        };
        let what = group
            .key
            .reason
            .unwrap_or_else(|| group.key.state.as_str())
            .to_owned();
        let site = places.of(ledger, &group.key, names);
        let at = key.at.or(group.key.kind.zip(group.key.address));
        let resource = match (key.fd, at) {
            (Some(fd), _) => Some(names.descriptor(fd)),
            (None, Some(at)) => Some(meeting_resource(ledger, at)),
            (None, None) => None,
        };
        let share = n as f64 / samples.max(1) as f64;
        let place = |r: &Option<Resource>| r.clone().map(|r| (r.kind, r.path, r.peer, r.address));
        let known = out.iter().position(|d| {
            d.what == what && same_place(&d.site, &site) && place(&d.resource) == place(&resource)
        });
        match known.and_then(|at| Some((at, out.get_mut(at)?))) {
            Some((at, known)) => {
                known.share += share;
                if let Some(fd) = key.fd {
                    keep(fd, known, left_out.entry(at).or_default());
                }
                // Connections to one service: what they have in common.
                if let (Some(ours), Some(theirs)) = (&mut known.resource, &resource) {
                    ours.keep_common(theirs);
                }
            }
            None => out.push(Doing {
                peer_target: resource.as_ref().and_then(|r| names.peer_target(r)),
                active: matches!(group.key.state, TaskState::Running | TaskState::Runnable),
                what,
                site,
                resource,
                share,
                total_ns: None,
                source: Source::Census,
                fds: key.fd.into_iter().collect(),
                fds_left_out: 0,
                connections: Vec::new(),
            }),
        }
    }
    out.sort_by(|a, b| b.share.total_cmp(&a.share));
    out.truncate(MAX_DOINGS);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_without_room_are_counted_once_each() {
        let mut doing = Doing {
            what: "IO wait".to_owned(),
            site: Known::unknown("not asked"),
            resource: None,
            share: 0.5,
            total_ns: None,
            source: Source::Census,
            active: false,
            peer_target: None,
            fds: vec![0],
            fds_left_out: 0,
            connections: Vec::new(),
        };
        let mut left_out = BTreeSet::new();
        for _ in 0..2 {
            for fd in 0..MAX_FDS as i32 {
                keep(fd, &mut doing, &mut left_out);
            }
            assert_eq!((doing.fds.len(), doing.fds_left_out), (MAX_FDS, 0));
        }
        for _ in 0..2 {
            for fd in 100..103 {
                keep(fd, &mut doing, &mut left_out);
            }
            assert_eq!((doing.fds.len(), doing.fds_left_out), (MAX_FDS, 3));
        }
    }
}
