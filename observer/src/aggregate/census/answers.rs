//! Who waits for an answer (a channel for one value), and what those do who are to give it. Such channels are
//! many and live shortly, so they are counted by the places of both.

use std::collections::{BTreeMap, HashMap};

use super::meetings::Meetings;
use super::people::{Doings, People, Person, Sums};
use super::rollup::{Places, function, text};
use super::{CensusLedger, Group, Spread, users};
use crate::model::census::{Census, CensusTask, Direction, Reference, WaitKind, WaitsOn};
use crate::model::hashing::QuickMap;
use crate::model::meeting::{Meeting, Side, SideSite, UserEvidence};
use crate::model::names::CensusNames;

/// Pairs of places that are remembered.
const MAX_PAIRS: usize = 1024;
/// Tasks that are to answer and are remembered, for each pair.
const MAX_OWNERS: usize = 256;
/// Ids of waiting tasks that a pair keeps of one sample.
const SAMPLE_IDS: usize = 8;
/// Places of those who wait that are shown.
const MAX_SHOWN: usize = 16;

/// Tasks of one group that wait for those that keep the other end at one place.
#[derive(Debug, Clone, Default)]
struct Pair {
    waiting: Spread,
    /// Of the sample that is being added.
    now: u64,
    sample_ids: Vec<u64>,
    /// One of the channels.
    address: u64,
    /// Samples in which a task kept such an end, by its id.
    owners: QuickMap<u64, u64>,
    doings: Doings,
    /// There were more owners.
    cut: bool,
}

/// Waits for answers of one process.
#[derive(Debug, Default)]
pub struct Answers {
    /// By the group of those who wait and an instruction (or place) of those who are to answer.
    pairs: QuickMap<(u32, u64), Pair>,
    /// This sample's channels: who waits there.
    waiting: QuickMap<u64, (u32, u64)>,
    /// There were more pairs.
    cut: bool,
}

impl Answers {
    /// Starts a sample.
    pub(super) fn begin(&mut self) {
        self.waiting.clear();
        for pair in self.pairs.values_mut() {
            pair.now = 0;
        }
    }

    /// Adds one task of the sample.
    pub(super) fn task(&mut self, task: &CensusTask, waits: &[WaitsOn], group: Option<u32>) {
        let answer = |wait: &&WaitsOn| wait.kind == WaitKind::Oneshot;
        if let Some(group) = group.filter(|_| task.blocked) {
            let channels = waits.iter().filter(answer).filter_map(|wait| wait.address);
            self.waiting
                .extend(channels.map(|address| (address, (group, task.id))));
        }
    }

    /// Ends a sample.
    pub(super) fn end(&mut self, census: &Census, meetings: &Meetings) {
        let sends = census
            .mentions
            .iter()
            .filter(|mention| mention.how == Reference::Owned && mention.uses.sends);
        for mention in sends {
            let Some(&(group, task)) = self.waiting.get(&mention.address) else {
                continue;
            };
            let key = (group, mention.pc);
            if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&key) {
                self.cut = true;
                continue;
            }
            let pair = self.pairs.entry(key).or_default();
            if pair.now == 0 {
                pair.sample_ids.clear();
            }
            pair.now += 1;
            pair.address = mention.address;
            if pair.sample_ids.len() < SAMPLE_IDS {
                pair.sample_ids.push(task);
            }
            if pair.owners.len() >= MAX_OWNERS && !pair.owners.contains_key(&mention.task) {
                pair.cut = true;
                continue;
            }
            *pair.owners.entry(mention.task).or_default() += 1;
            if let Some(doing) = meetings.doing_of(mention.task) {
                pair.doings.add(doing);
            }
        }
        for pair in self.pairs.values_mut() {
            pair.waiting.last = pair.now as f64;
            if pair.now > 0 {
                pair.waiting.add(pair.now as f64);
            }
        }
    }

    /// Descriptors that those who are to answer waited on.
    pub(super) fn fds(&self) -> impl Iterator<Item = i32> + '_ {
        self.pairs.values().flat_map(|pair| pair.doings.fds())
    }
}

/// A group of those who wait at one place; instructions of those who are to answer, and what is known of both.
type AtPlace<'l> = (&'l Group, Vec<(u64, &'l Pair)>);

/// Waits for answers, by the place of those who wait; most first.
pub(super) fn roll_up(
    ledger: &CensusLedger,
    target: usize,
    names: &dyn CensusNames,
    places: &mut Places,
) -> Vec<Meeting> {
    let mut by_place: BTreeMap<String, AtPlace<'_>> = BTreeMap::new();
    let mut pairs: Vec<_> = ledger.answers.pairs.iter().collect();
    pairs.sort_unstable_by_key(|(key, _)| **key);
    for ((group, pc), pair) in pairs {
        let Some(group) = ledger.groups().get(*group as usize) else {
            continue;
        };
        let site = places.of(ledger, &group.key, names);
        let place = site.known().and_then(text).unwrap_or_default();
        let found = by_place.entry(place).or_insert_with(|| (group, Vec::new()));
        found.1.push((*pc, pair));
    }
    let mut out: Vec<Meeting> = by_place
        .into_values()
        .map(|at| meeting(ledger, target, names, places, &at))
        .collect();
    out.sort_by(|a, b| {
        let mean = |m: &Meeting| m.sides.first().map_or(0.0, |side| side.mean);
        mean(b).total_cmp(&mean(a))
    });
    out.truncate(MAX_SHOWN);
    out
}

fn meeting(
    ledger: &CensusLedger,
    target: usize,
    names: &dyn CensusNames,
    places: &mut Places,
    (group, pairs): &AtPlace<'_>,
) -> Meeting {
    let samples = ledger.samples();
    let sum = |of: &dyn Fn(&Pair) -> f64| pairs.iter().map(|(_, pair)| of(pair)).sum::<f64>();
    let mean = sum(&|pair| pair.waiting.mean(samples));
    let ids = pairs.iter().flat_map(|(_, pair)| &pair.sample_ids);
    let site = SideSite {
        site: places.of(ledger, &group.key, names),
        created_by: group.key.created_at.and_then(|at| function(names, at)),
        mean,
    };
    let side = Side {
        direction: Some(Direction::Receive),
        last: sum(&|pair| pair.waiting.last) as u64,
        mean,
        max: sum(&|pair| pair.waiting.max) as u64,
        oldest_ns: None,
        sites: vec![site],
        sample_ids: ids.take(SAMPLE_IDS).copied().collect(),
        stuck: Vec::new(),
    };
    let mut owners: HashMap<(u64, u64), u64> = HashMap::new();
    let mut doings: HashMap<u64, Sums> = HashMap::new();
    for (pc, pair) in pairs {
        for (id, seen) in &pair.owners {
            *owners.entry((*id, *pc)).or_default() += seen;
        }
        doings.entry(*pc).or_default().add(pair.doings.iter());
    }
    let mut owners: Vec<_> = owners.into_iter().collect();
    owners.sort_unstable();
    let mut people: People<Sums> = People::new();
    for ((id, pc), seen) in owners {
        let sums = people.add(Person {
            id,
            direction: Some(Direction::Send),
            function: names.function(pc),
            evidence: UserEvidence::Owns,
            seen: (seen, seen),
        });
        // Those of one place are alike: what they do is kept of all of them at once.
        if let Some(found) = doings.remove(&pc) {
            sums.add(found.0.iter().map(|(doing, n)| (doing, *n)));
        }
    }
    Meeting {
        target,
        kind: WaitKind::Oneshot,
        address: pairs.first().map_or(0, |(_, pair)| pair.address),
        len: None,
        capacity: None,
        samples,
        conclusive: false,
        doubts: Vec::new(),
        users_cut: ledger.answers.cut || pairs.iter().any(|(_, pair)| pair.cut),
        users: people.finish(|user, sums| users::doing(ledger, names, places, (sums, user.seen.1))),
        sides: vec![side],
    }
}
