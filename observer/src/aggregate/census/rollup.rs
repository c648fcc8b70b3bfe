//! From folded censuses to what is shown: groups by place, meeting points with their users.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::meetings::{DIRECTIONS, Key, Tally};
use super::things::Things;
use super::users::{same_place, users};
use super::{CensusLedger, Group, GroupKey};
use crate::model::census::{Direction, TaskState, WaitKind};
use crate::model::meeting::{Meeting, Side, SideSite};
use crate::model::names::CensusNames;
use crate::model::view::{CensusGroup, Nature, Scheduler, TaskCounts};
use crate::model::{Cause, Frame, Known, Resource};

/// Meeting points that are shown.
const MAX_MEETINGS: usize = 64;
/// Places shown of one side.
const MAX_SITES: usize = 8;
/// Ids of one group that are shown.
const SAMPLE_IDS: usize = 8;
/// Groups of users of one meeting point.
const MAX_USERS: usize = 16;

/// What the censuses of one target say.
#[derive(Debug)]
pub struct CensusRollup {
    /// Groups, most tasks first.
    pub groups: Vec<CensusGroup>,
    /// Meeting points, most waiting tasks first.
    pub meetings: Vec<Meeting>,
    /// Who has to do with connections that other targets wait on.
    pub connections: Vec<crate::model::connection::Users>,
    /// Tasks at the last sample, the runtime's own left out.
    pub counts: TaskCounts,
    /// Ready tasks against those that can run.
    pub scheduler: Scheduler,
}

/// Rolls the censuses of the target with this index up.
pub fn roll_up(ledger: &CensusLedger, target: usize, names: &dyn CensusNames) -> CensusRollup {
    let states = ledger.states();
    let last = |state: TaskState| {
        let at = TaskState::ALL.iter().position(|s| *s == state)?;
        Some(states.counts.get(at)?.last as u64)
    };
    CensusRollup {
        groups: groups(ledger, target, names),
        meetings: meetings(ledger, target, names),
        connections: super::connections::roll_up(ledger, names),
        counts: TaskCounts {
            seen: states.all.max as u64,
            running: last(TaskState::Running),
            runnable: last(TaskState::Runnable),
            waiting: last(TaskState::Waiting),
            in_syscall: last(TaskState::Syscall),
        },
        scheduler: ledger.scheduling().roll_up(states, ledger.samples()),
    }
}

/// Where tasks of a group are. Names are looked up once per stack.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<(Option<u32>, Option<u64>), Known<Frame>>);

impl Places {
    pub(super) fn of(
        &mut self,
        ledger: &CensusLedger,
        key: &GroupKey,
        names: &dyn CensusNames,
    ) -> Known<Frame> {
        let id = (key.stack, key.entry);
        if let Some(known) = self.0.get(&id) {
            return known.clone();
        }
        let site = match (key.stack, key.state) {
            (Some(stack), _) => names.site(ledger.stack(stack)),
            (None, TaskState::Running) => {
                Known::unknown("the stack of a running task can not be read from outside")
            }
            (None, _) => Known::unknown("its stack could not be read"),
        };
        self.0.insert(id, site.clone());
        site
    }
}

/// `main.f (file.go:7)`.
pub(super) fn text(frame: &Frame) -> Option<String> {
    let function = frame.function.as_deref()?;
    Some(match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{function} ({file}:{line})"),
        _ => function.to_owned(),
    })
}

fn nature(key: &GroupKey) -> Nature {
    if key.system || key.cause == Some(Cause::Idle) {
        Nature::System
    } else if key.state != TaskState::Waiting {
        Nature::Active
    } else if key.blocked {
        Nature::Blocked
    } else {
        Nature::Resting
    }
}

fn groups(ledger: &CensusLedger, target: usize, names: &dyn CensusNames) -> Vec<CensusGroup> {
    let mut places = Places::default();
    let mut merged: HashMap<_, (CensusGroup, Things)> = HashMap::new();
    for group in ledger.groups() {
        let key = &group.key;
        let place = places.of(ledger, key, names);
        let site = match (place.known().and_then(text), key.entry) {
            (Some(site), _) => Some(site),
            // Running: at least whose task it is.
            (None, Some(entry)) => names.start(entry),
            (None, None) => None,
        };
        let created_by = key.created_at.and_then(|at| function(names, at));
        let same = (
            (key.state, key.reason, key.cause, nature(key), site.clone()),
            (created_by.clone(), key.kind, key.direction, key.address),
        );
        let shown = CensusGroup {
            place: place.known().cloned(),
            ..shown(ledger, target, names, group, site, created_by)
        };
        match merged.get_mut(&same) {
            Some((into, things)) => {
                merge(into, shown);
                things.merge(&group.things);
            }
            None => {
                merged.insert(same, (shown, group.things.clone()));
            }
        }
    }
    let mut out: Vec<CensusGroup> = merged
        .into_iter()
        .map(|(((..), (_, kind, _, address)), (mut group, things))| {
            group.resource = resource(ledger, names, kind, address, &things);
            group.fds_whole = things.unknown == 0 && things.count == things.fds.len() as u64;
            group.fds = things.fds;
            group
        })
        .collect();
    out.sort_by(|a, b| {
        let order = |g: &CensusGroup| {
            let rest = matches!(g.nature, Nature::Resting | Nature::System);
            (rest, Reverse(g.count), Reverse((g.mean * 1e3) as u64))
        };
        order(a)
            .cmp(&order(b))
            .then_with(|| {
                (&a.state, &a.wait_reason, &a.site).cmp(&(&b.state, &b.wait_reason, &b.site))
            })
            .then_with(|| a.sample_ids.cmp(&b.sample_ids))
    });
    out
}

pub(super) fn function(names: &dyn CensusNames, address: u64) -> Option<String> {
    names
        .function(address)
        .known()
        .and_then(|f| f.function.as_deref().map(ToOwned::to_owned))
}

fn shown(
    ledger: &CensusLedger,
    target: usize,
    names: &dyn CensusNames,
    group: &Group,
    site: Option<String>,
    created_by: Option<String>,
) -> CensusGroup {
    let (key, samples) = (&group.key, ledger.samples());
    CensusGroup {
        target,
        state: key.state.as_str().to_owned(),
        wait_reason: key.reason.map(str::to_owned),
        cause: key.cause,
        count: group.count.last as u64,
        mean: group.count.mean(samples),
        max: group.count.max as u64,
        share: group.share.mean(samples),
        share_error: group.share.error(samples),
        nature: nature(key),
        oldest_ns: group.oldest_ns,
        site,
        stack: key
            .stack
            .map(|stack| names.frames(ledger.stack(stack)))
            .unwrap_or_default(),
        created_by,
        resource: None,
        place: None,
        fds: Vec::new(),
        fds_whole: false,
        connections: Vec::new(),
        sample_ids: group.sample_ids.clone(),
    }
}

/// Stacks that differ only where nobody looks are one group. The error of a sum is at most the sum of
/// the errors, and so is the maximum.
fn merge(into: &mut CensusGroup, other: CensusGroup) {
    let larger = other.mean > into.mean;
    into.count += other.count;
    into.mean += other.mean;
    into.max += other.max;
    into.share += other.share;
    into.share_error = into.share_error.zip(other.share_error).map(|(a, b)| a + b);
    into.oldest_ns = into.oldest_ns.max(other.oldest_ns);
    into.sample_ids.extend(other.sample_ids);
    into.sample_ids.truncate(SAMPLE_IDS);
    if larger {
        into.stack = other.stack;
    }
}

fn resource(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    kind: Option<WaitKind>,
    address: Option<u64>,
    things: &Things,
) -> Option<Resource> {
    // A sleep is said by its reason.
    let kind = kind.filter(|kind| *kind != WaitKind::Timer)?;
    let plain = Resource {
        kind: kind.as_str(),
        ..Resource::default()
    };
    let fds = things.fds.as_slice();
    Some(match (kind, address, things.count) {
        (_, Some(address), _) => meeting_resource(ledger, (kind, address)),
        (WaitKind::Descriptor, None, 1..) if things.unknown > 0 => Resource {
            state: Some(format!(
                "{} known, of {} wait{} not",
                things.count,
                things.unknown,
                if things.unknown == 1 { "" } else { "s" }
            )),
            ..in_common(fds.iter().map(|fd| names.descriptor(*fd))).unwrap_or(plain)
        },
        (WaitKind::Descriptor, None, 1) => match fds {
            [fd, ..] => names.descriptor(*fd),
            [] => plain,
        },
        (WaitKind::Descriptor, None, n @ 2..) => {
            let looked_at = match fds.len() as u64 {
                known if known < n => format!(", {known} of them looked at"),
                _ => String::new(),
            };
            Resource {
                state: Some(format!("{n} different ones{looked_at}")),
                ..in_common(fds.iter().map(|fd| names.descriptor(*fd))).unwrap_or(plain)
            }
        }
        (_, None, 1) => match things.address {
            Some(address) => meeting_resource(ledger, (kind, address)),
            None => plain,
        },
        (_, None, 0) => plain,
        (_, None, n) => Resource {
            state: Some(format!("{n} different ones")),
            ..plain
        },
    })
}

/// What descriptors have in common: sockets of one service, or to one.
fn in_common(mut all: impl Iterator<Item = Resource>) -> Option<Resource> {
    let first = all.next()?;
    let common = all.try_fold(first, |mut common, other| {
        common.keep_common(&other);
        (common.kind == other.kind).then_some(common)
    })?;
    (common.local.is_some() || common.peer.is_some() || common.path.is_some())
        .then_some(Resource { fd: None, ..common })
}

pub(super) fn meeting_resource(ledger: &CensusLedger, key: Key) -> Resource {
    let tally = ledger.meetings().tallies().find(|(k, _)| **k == key);
    let fill = tally.and_then(|(_, tally)| Some((tally.len?, tally.capacity?)));
    let state = match key.0 {
        // The runtime's list has it: its id says more than its address. Another task may have been there later.
        WaitKind::Task => tally
            .filter(|(_, tally)| tally.referrers.len() == 1)
            .and_then(|(_, tally)| tally.referrers.keys().next())
            .map(|id| format!("id {id}")),
        _ => fill.map(|(len, capacity)| fill_text(len, capacity)),
    };
    Resource {
        kind: key.0.as_str(),
        address: Some(key.1),
        state,
        ..Resource::default()
    }
}

/// `unbuffered`, `3 of 8 buffered`.
fn fill_text(len: u64, capacity: u64) -> String {
    match capacity {
        0 => "unbuffered".to_owned(),
        _ => format!("{len} of {capacity} buffered"),
    }
}

fn meetings(ledger: &CensusLedger, target: usize, names: &dyn CensusNames) -> Vec<Meeting> {
    let samples = ledger.samples();
    // One task that waits at its own channel is in the groups: here is where several meet.
    let mut order: Vec<(&Key, &Tally)> = ledger
        .meetings()
        .tallies()
        .filter(|(_, tally)| tally.shared || !tally.referrers.is_empty())
        .collect();
    order.sort_by(|a, b| {
        let mean = |tally: &Tally| tally.main_side(samples).1;
        mean(b.1).total_cmp(&mean(a.1)).then_with(|| a.0.cmp(b.0))
    });
    order.truncate(MAX_MEETINGS);
    let mut places = Places::default();
    let mut meetings: Vec<Meeting> = order
        .into_iter()
        .map(|(key, tally)| meeting(ledger, target, names, &mut places, *key, tally))
        .collect();
    meetings.extend(super::answers::roll_up(ledger, target, names, &mut places));
    let mean = |meeting: &Meeting| {
        meeting
            .sides
            .iter()
            .map(|side| side.mean)
            .fold(0.0, f64::max)
    };
    meetings.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    meetings
}

fn meeting(
    ledger: &CensusLedger,
    target: usize,
    names: &dyn CensusNames,
    places: &mut Places,
    (kind, address): Key,
    tally: &Tally,
) -> Meeting {
    let samples = ledger.samples();
    let mut sides: Vec<Side> = DIRECTIONS
        .iter()
        .enumerate()
        .filter(|(at, _)| tally.sides[*at].count.max > 0.0)
        .map(|(at, direction)| side(ledger, names, places, tally, at, *direction))
        .collect();
    sides.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    let users = users(ledger, names, places, kind, tally, &sides);
    Meeting {
        target,
        kind,
        address,
        len: tally.len,
        capacity: tally.capacity,
        samples,
        conclusive: ledger.conclusive(address),
        doubts: tally.doubts.iter().copied().collect(),
        users_cut: tally.cut || users.len() > MAX_USERS,
        users: users.into_iter().take(MAX_USERS).collect(),
        sides,
    }
}

fn side(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    tally: &Tally,
    at: usize,
    direction: Option<Direction>,
) -> Side {
    let samples = ledger.samples();
    let side = &tally.sides[at];
    let mut sites: Vec<SideSite> = Vec::new();
    let mut groups: Vec<(&u32, &u64)> = side.groups.iter().collect();
    groups.sort_unstable();
    for (index, sum) in groups {
        let Some(group) = ledger.groups().get(*index as usize) else {
            continue;
        };
        let site = places.of(ledger, &group.key, names);
        let created_by = group.key.created_at.and_then(|at| function(names, at));
        let mean = *sum as f64 / samples.max(1) as f64;
        match sites
            .iter_mut()
            .find(|s| same_place(&s.site, &site) && s.created_by == created_by)
        {
            Some(known) => known.mean += mean,
            None => sites.push(SideSite {
                site,
                created_by,
                mean,
            }),
        }
    }
    sites.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    sites.truncate(MAX_SITES);
    let mut stuck: Vec<u64> = tally
        .waiters
        .iter()
        .filter(|(_, w)| samples >= 2 && w.steady == samples && w.samples[at] == samples)
        .map(|(id, _)| *id)
        .collect();
    stuck.sort_unstable();
    Side {
        direction,
        last: side.count.last as u64,
        mean: side.count.mean(samples),
        max: side.count.max as u64,
        oldest_ns: side.oldest_ns,
        sites,
        sample_ids: side.sample_ids.clone(),
        stuck,
    }
}
