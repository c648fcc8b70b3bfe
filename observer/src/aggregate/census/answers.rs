//! Who waits for an answer (a channel for one value), and what those do who are to give it, where these are
//! known. Such channels are many and live shortly, so they are counted by the places of both.

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
    /// This sample's channels: who waits there, and whether that was counted.
    waiting: QuickMap<u64, (u32, u64, bool)>,
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
                .extend(channels.map(|address| (address, (group, task.id, false))));
        }
    }

    /// Ends a sample.
    pub(super) fn end(&mut self, census: &Census, meetings: &Meetings) {
        let sends = census
            .mentions
            .iter()
            .filter(|mention| mention.how == Reference::Owned && mention.uses.sends);
        for mention in sends {
            let waiting = self.waiting.get_mut(&mention.address);
            let Some((group, task, counted)) = waiting.filter(|(_, task, _)| *task != mention.task)
            else {
                continue;
            };
            let key = (*group, mention.pc);
            if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&key) {
                self.cut = true;
                continue;
            }
            let pair = self.pairs.entry(key).or_default();
            if pair.now == 0 {
                pair.sample_ids.clear();
            }
            pair.address = mention.address;
            // Another one may have given its end away.
            if !std::mem::replace(counted, true) {
                pair.now += 1;
                if pair.sample_ids.len() < SAMPLE_IDS {
                    pair.sample_ids.push(*task);
                }
            }
            if let Some(doing) = meetings.doing_of(mention.task) {
                pair.doings.add(doing);
            }
            if pair.owners.len() >= MAX_OWNERS && !pair.owners.contains_key(&mention.task) {
                pair.cut = true;
                continue;
            }
            *pair.owners.entry(mention.task).or_default() += 1;
        }
        for pair in self.pairs.values_mut() {
            pair.waiting.last = pair.now as f64;
            if pair.now > 0 {
                pair.waiting.add(pair.now as f64);
            }
        }
    }

    /// What a bound left out.
    pub(super) fn left_out(&self) -> Option<String> {
        self.cut.then(|| {
            format!(
                "who is to answer some tasks was not followed: there were more than {MAX_PAIRS} pairs of places"
            )
        })
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
        // At least: the largest samples of the pairs may be different ones.
        max: pairs
            .iter()
            .map(|(_, pair)| pair.waiting.max)
            .fold(sum(&|pair| pair.waiting.last), f64::max) as u64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::census::tests::{FSYNC_AT, Names, RECEIVE_AT, S, SEND_AT, Sample};
    use crate::model::census::{Mention, TaskState, Uses};

    fn answer(address: u64) -> WaitsOn {
        WaitsOn {
            address: Some(address),
            direction: Some(Direction::Receive),
            ..WaitsOn::new(WaitKind::Oneshot)
        }
    }

    fn keeps(sample: &mut Sample, task: u64, address: u64, sends: bool) {
        sample.0.mentions.push(Mention {
            task,
            address,
            pc: SEND_AT,
            uses: Uses {
                sends,
                receives: !sends,
                ..Uses::default()
            },
            how: Reference::Owned,
        });
    }

    #[test]
    fn channels_that_live_for_one_sample_are_one_place() {
        let mut ledger = CensusLedger::default();
        for round in 0..10_u64 {
            let mut sample = Sample::at(round * S);
            for id in 1..=3 {
                let channel = round * 0x1000 + id * 0x10;
                sample.task(id, TaskState::Waiting, &[RECEIVE_AT], &[answer(channel)]);
                sample.task(10 + id, TaskState::Waiting, &[FSYNC_AT], &[]);
                keeps(&mut sample, 10 + id, channel, true);
            }
            // Nobody is to answer this one; and that one's receiver is none who answers.
            sample.task(4, TaskState::Waiting, &[RECEIVE_AT], &[answer(0x99)]);
            keeps(&mut sample, 4, 0x99, false);
            ledger.add(&mut sample.0);
        }
        let found = roll_up(&ledger, 0, &Names, &mut Places::default());
        let [meeting] = &found[..] else {
            panic!("{found:#?}");
        };
        assert_eq!(meeting.kind, WaitKind::Oneshot);
        let side = &meeting.sides[0];
        assert!((side.mean - 3.0).abs() < 1e-9, "{side:#?}");
        assert_eq!((side.last, side.max), (3, 3));
        assert_eq!(side.sample_ids, [1, 2, 3]);
        let [user] = &meeting.users[..] else {
            panic!("{meeting:#?}");
        };
        assert_eq!((&user.ids[..], user.seen), (&[11, 12, 13][..], (30, 30)));
        assert_eq!(user.evidence, UserEvidence::Owns);
        let [doing] = &user.doing[..] else {
            panic!("{user:#?}");
        };
        let site = doing.site.known().and_then(|f| f.function.as_deref());
        assert_eq!(site, Some("main.append"));
        assert!((doing.share - 1.0).abs() < 1e-9, "{doing:#?}");
    }

    #[test]
    fn pairs_and_owners_are_bounded() {
        let mut ledger = CensusLedger::default();
        for round in 0..2_u64 {
            let mut sample = Sample::at(round * S);
            for id in 0..2 * MAX_OWNERS as u64 {
                let channel = 0x1000 + id * 0x10;
                sample.task(id, TaskState::Waiting, &[RECEIVE_AT], &[answer(channel)]);
                keeps(&mut sample, 10_000 + id, channel, true);
            }
            ledger.add(&mut sample.0);
        }
        let found = roll_up(&ledger, 0, &Names, &mut Places::default());
        assert_eq!(found[0].users[0].count, MAX_OWNERS as u64);
        assert!(found[0].users_cut);
        assert_eq!(found[0].sides[0].last, 2 * MAX_OWNERS as u64);
    }
}
