//! Meeting points over a session: who waits on each channel or lock from which side, who else uses it,
//! and what those do.

use super::Spread;
use super::people::{Doing, Doings};
use crate::model::census::{
    Census, CensusTask, Direction, Mention, Reference, Uses, WaitKind, WaitsOn,
};
use crate::model::hashing::{QuickMap, QuickSet};

/// Meeting points that are followed.
const MAX_MEETINGS: usize = 16 << 10;
/// Groups that one side remembers.
const MAX_GROUPS: usize = 16;
/// Tasks that one side remembers by id. A side with more is described by its groups.
const MAX_WAITERS: usize = 64;
/// Tasks that refer to one meeting point and are remembered.
const MAX_USERS: usize = 64;
/// Tasks whose every state is followed, because others depend on them.
const MAX_TRACKED: usize = 2048;
/// Ids of the last sample that one side keeps.
const SAMPLE_IDS: usize = 8;
/// Addresses whose users are looked for at a time.
const MAX_WATCHED: usize = 64;

/// What a meeting point is.
pub type Key = (WaitKind, u64);

/// Index of a side: sending, receiving, not told.
pub fn side_index(direction: Option<Direction>) -> usize {
    match direction {
        Some(Direction::Send) => 0,
        Some(Direction::Receive) => 1,
        None => 2,
    }
}

/// The direction of a side.
pub const DIRECTIONS: [Option<Direction>; 3] =
    [Some(Direction::Send), Some(Direction::Receive), None];

/// One side of a meeting point.
#[derive(Debug, Clone, Default)]
pub struct SideTally {
    /// Waiting tasks per sample.
    pub count: Spread,
    /// Tasks summed over samples, by group.
    pub groups: QuickMap<u32, u64>,
    /// A few ids, of the last sample in which there were any.
    pub sample_ids: Vec<u64>,
    /// The longest wait (ns).
    pub oldest_ns: Option<u64>,
    /// Waiting tasks of the sample that is being added.
    now: u64,
    /// The sample that `sample_ids` are of.
    ids_of: u64,
}

/// A task that was seen waiting at a meeting point.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiter {
    /// Samples in which it did, by side.
    pub samples: [u64; 3],
    /// Samples in which it did so in one and the same wait and for nothing else, up to now.
    pub steady: u64,
    occasion: u64,
}

/// A task whose stack refers to a meeting point.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// What the function that refers to it does.
    pub uses: Uses,
    /// An instruction in that function.
    pub pc: u64,
    /// What its frame holds.
    pub how: Reference,
    /// Samples in which it did, without waiting there.
    pub samples: u64,
    /// What it did in these.
    pub doings: Doings,
    /// The last of these.
    last: u64,
}

/// One meeting point.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Sides, see [`side_index`].
    pub sides: [SideTally; 3],
    /// Elements held and capacity, when last seen.
    pub len: Option<u64>,
    /// See `len`.
    pub capacity: Option<u64>,
    /// Tasks that waited there; bounded.
    pub waiters: QuickMap<u64, Waiter>,
    /// Tasks that refer to it; bounded.
    pub referrers: QuickMap<u64, Referrer>,
    /// Tasks that may have to do with a lock although they do not refer to it; bounded.
    pub doubts: QuickSet<u64>,
    /// Users found no room.
    pub cut: bool,
    /// More than one task waited there at once.
    pub shared: bool,
    seen: u64,
}

impl Tally {
    /// Waiting tasks at the last sample.
    fn waiting(&self) -> u64 {
        self.sides.iter().map(|side| side.count.last as u64).sum()
    }

    /// The side with most, and its mean over so many samples.
    pub fn main_side(&self, samples: u64) -> (usize, f64) {
        let mut best = (0, 0.0);
        for (at, side) in self.sides.iter().enumerate() {
            let mean = side.count.mean(samples);
            if mean > best.1 {
                best = (at, mean);
            }
        }
        best
    }
}

/// A task that others depend on.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    /// Samples in which it was listed, since it was followed.
    pub samples: u64,
    /// What it did, in samples.
    pub doings: Doings,
    /// Samples in which it did something for which there was no room.
    pub other: u64,
}

impl Tracked {
    /// Descriptors that it waited on.
    pub fn fds(&self) -> impl Iterator<Item = i32> + '_ {
        self.doings.fds()
    }
}

/// All meeting points of a process.
#[derive(Debug, Default)]
pub struct Meetings {
    tallies: QuickMap<Key, Tally>,
    tracked: QuickMap<u64, Tracked>,
    sample: u64,
    beyond: u64,
    untracked: u64,
    /// Meeting points of this sample.
    touched: Vec<Key>,
    /// Tasks that refer to something in this sample, and what they do in it.
    referring: QuickMap<u64, Option<Doing>>,
}

impl Meetings {
    /// Forgets channels and locks of the past, so that there is room for those that matter: those of
    /// one task first, then those with few.
    fn make_room(&mut self) {
        for few in [1.0, 8.0] {
            if self.tallies.len() < MAX_MEETINGS / 2 {
                return;
            }
            let last = self.sample.saturating_sub(1);
            self.tallies.retain(|_, tally| {
                tally.seen >= last || tally.sides.iter().any(|side| side.count.max > few)
            });
        }
    }

    /// Starts a sample: finds out where more than one task waits.
    pub(super) fn begin(&mut self, census: &Census, sample: u64) {
        self.sample = sample;
        self.make_room();
        self.touched.clear();
        self.referring.clear();
        let who = census.mentions.iter().map(|m| (m.task, None));
        self.referring.extend(who);
        for task in census.tasks.iter().filter(|t| meets(t)) {
            for wait in census.waits_of(task) {
                if let Some(key) = key_of(wait) {
                    self.arrive(key, wait);
                }
            }
        }
    }

    fn arrive(&mut self, key: Key, wait: &WaitsOn) {
        let full = self.tallies.len() >= MAX_MEETINGS;
        if full && !self.tallies.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let sample = self.sample;
        let tally = self.tallies.entry(key).or_default();
        if tally.seen != sample {
            tally.seen = sample;
            for side in &mut tally.sides {
                side.now = 0;
            }
            self.touched.push(key);
        }
        (tally.len, tally.capacity) = (wait.len, wait.capacity);
        if let Some(side) = tally.sides.get_mut(side_index(wait.direction)) {
            side.now += 1;
        }
        tally.shared |= tally.sides.iter().map(|side| side.now).sum::<u64>() > 1;
    }

    /// What a task did in this sample that refers to something.
    pub(super) fn doing_of(&self, task: u64) -> Option<Doing> {
        self.referring.get(&task).copied().flatten()
    }

    /// Whether more than one task ever waited there at once.
    pub(super) fn is_shared(&self, kind: WaitKind, address: u64) -> bool {
        self.tallies
            .get(&(kind, address))
            .is_some_and(|tally| tally.shared)
    }

    /// Adds one task of the sample.
    pub(super) fn task(&mut self, task: &CensusTask, waits: &[WaitsOn], group: Option<u32>) {
        let doing = group.map(|group| Doing::of(group, waits));
        if let Some(slot) = self.referring.get_mut(&task.id) {
            *slot = doing;
        }
        if let Some(tracked) = self.tracked.get_mut(&task.id) {
            tracked.samples += 1;
            if !doing.is_some_and(|doing| tracked.doings.add(doing)) {
                tracked.other += 1;
            }
        }
        if !meets(task) {
            return;
        }
        let sample = self.sample;
        let mut first = None;
        for wait in waits {
            let Some(key) = key_of(wait) else { continue };
            // A select may name a channel twice.
            if first == Some(key) {
                continue;
            }
            first.get_or_insert(key);
            let Some(tally) = self.tallies.get_mut(&key) else {
                continue;
            };
            let at = side_index(wait.direction);
            let Some(side) = tally.sides.get_mut(at) else {
                continue;
            };
            if let Some(group) = group
                && (side.groups.len() < MAX_GROUPS || side.groups.contains_key(&group))
            {
                *side.groups.entry(group).or_default() += 1;
            }
            if side.ids_of != sample {
                side.ids_of = sample;
                side.sample_ids.clear();
            }
            if side.sample_ids.len() < SAMPLE_IDS && !side.sample_ids.contains(&task.id) {
                side.sample_ids.push(task.id);
            }
            let age = task.age.map(|age| age.at_least_ns).filter(|ns| *ns > 0);
            side.oldest_ns = side.oldest_ns.max(age);
            let few = side.now <= MAX_WAITERS as u64;
            if few && (tally.waiters.len() < MAX_WAITERS || tally.waiters.contains_key(&task.id)) {
                let waiter = tally.waiters.entry(task.id).or_default();
                waiter.samples[at] += 1;
                let same = waiter.steady + 1 == sample
                    && (waiter.steady == 0 || waiter.occasion == task.occasion);
                waiter.steady = match (same, waits.len()) {
                    (true, 1) => sample,
                    // It ran in between, or has several ways on: never again steady.
                    _ => 0,
                };
                waiter.occasion = task.occasion;
            } else if few {
                tally.cut = true;
            }
        }
    }

    /// Ends a sample: who refers to what, and whom to follow from now on.
    pub(super) fn end(&mut self, census: &Census) {
        for key in &self.touched {
            if let Some(tally) = self.tallies.get_mut(key) {
                for side in &mut tally.sides {
                    side.count.add(side.now as f64);
                }
            }
        }
        for tally in self.tallies.values_mut() {
            let now = tally.seen == self.sample;
            for side in &mut tally.sides {
                side.count.last = if now { side.now as f64 } else { 0.0 };
            }
        }
        let waiting: QuickSet<(u64, Option<u64>)> = census
            .tasks
            .iter()
            .filter(|task| self.referring.contains_key(&task.id))
            .flat_map(|task| {
                let waits = census.waits_of(task);
                waits.iter().map(|wait| (task.id, wait.address))
            })
            .collect();
        for mention in &census.mentions {
            if !waiting.contains(&(mention.task, Some(mention.address))) {
                self.mention(mention);
            }
        }
        self.follow();
    }

    fn mention(&mut self, mention: &Mention) {
        let kinds = [
            WaitKind::Channel,
            WaitKind::Mutex,
            WaitKind::RwMutex,
            WaitKind::Semaphore,
            WaitKind::Task,
        ];
        for kind in kinds {
            let fits = match kind {
                WaitKind::Channel => {
                    mention.how != Reference::Near
                        && (mention.uses.receives || mention.uses.sends || mention.uses.selects)
                }
                // Go's semaphores have no owner, or one that is not known.
                WaitKind::Semaphore => mention.how == Reference::Guard,
                WaitKind::Task => mention.how == Reference::Itself,
                _ => mention.uses.locks,
            };
            let Some(tally) = self
                .tallies
                .get_mut(&(kind, mention.address))
                .filter(|_| fits)
            else {
                continue;
            };
            // An object that holds a lock's address, or may contain the lock, says little of who holds
            // it: enough to doubt that everybody is known.
            let is_sure = matches!(
                mention.how,
                Reference::Itself | Reference::Guard | Reference::Owned | Reference::Direct
            );
            if kind != WaitKind::Channel && !is_sure {
                if tally.doubts.len() < MAX_USERS {
                    tally.doubts.insert(mention.task);
                } else {
                    tally.cut = true;
                }
                continue;
            }
            if tally.referrers.len() >= MAX_USERS && !tally.referrers.contains_key(&mention.task) {
                tally.cut = true;
                continue;
            }
            let fresh = Referrer {
                uses: mention.uses,
                pc: mention.pc,
                how: mention.how,
                samples: 0,
                doings: Doings::default(),
                last: 0,
            };
            let referrer = tally.referrers.entry(mention.task).or_insert(fresh);
            if mention.how == referrer.how {
                // A task may keep both ends.
                referrer.uses = referrer.uses.or(mention.uses);
            } else if mention.how < referrer.how {
                (referrer.uses, referrer.pc, referrer.how) =
                    (mention.uses, mention.pc, mention.how);
            }
            // Several frames of one stack may refer to it.
            if std::mem::replace(&mut referrer.last, self.sample) == self.sample {
                continue;
            }
            referrer.samples += 1;
            if let Some(Some(doing)) = self.referring.get(&mention.task) {
                referrer.doings.add(*doing);
            }
        }
    }

    /// Follows those who refer to a meeting point, and those who wait on its smaller side.
    fn follow(&mut self) {
        let samples = self.sample;
        for tally in self.tallies.values().filter(|tally| tally.shared) {
            let (main, _) = tally.main_side(samples);
            let minority = tally
                .waiters
                .iter()
                .filter(|(_, waiter)| {
                    waiter
                        .samples
                        .iter()
                        .enumerate()
                        .any(|(at, n)| at != main && *n > 0)
                })
                .map(|(id, _)| *id);
            for id in tally.referrers.keys().copied().chain(minority) {
                if self.tracked.contains_key(&id) {
                    continue;
                }
                if self.tracked.len() >= MAX_TRACKED {
                    self.untracked += 1;
                    continue;
                }
                self.tracked.insert(id, Tracked::default());
            }
        }
    }

    /// Addresses whose users should be looked for: where many wait, first.
    pub(super) fn to_watch(&self) -> Vec<u64> {
        let mut order = self.watchable();
        order.truncate(MAX_WATCHED);
        order.into_iter().map(|(_, address)| address).collect()
    }

    /// Whether all addresses of interest are watched in the next sample.
    pub(super) fn watches_all(&self) -> bool {
        self.watchable().len() <= MAX_WATCHED
    }

    fn watchable(&self) -> Vec<(u64, u64)> {
        let mut order: Vec<(u64, u64)> = self
            .tallies
            .iter()
            .filter(|((kind, _), tally)| {
                tally.waiting() > 0
                    && matches!(
                        kind,
                        WaitKind::Channel | WaitKind::Mutex | WaitKind::RwMutex
                    )
            })
            .map(|((_, address), tally)| (tally.waiting(), *address))
            .collect();
        order.sort_unstable_by_key(|(waiting, address)| (std::cmp::Reverse(*waiting), *address));
        order
    }

    /// The meeting points.
    pub fn tallies(&self) -> impl Iterator<Item = (&Key, &Tally)> {
        self.tallies.iter()
    }

    /// A followed task.
    pub fn of(&self, id: u64) -> Option<&Tracked> {
        self.tracked.get(&id)
    }

    /// All followed tasks.
    pub fn tracked(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.values()
    }

    /// What a bound left out.
    pub(super) fn left_out(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.beyond > 0 {
            out.push(format!(
                "{} waits at channels or locks were not followed: there were more than {MAX_MEETINGS} of these",
                self.beyond
            ));
        }
        if self.untracked > 0 {
            out.push(format!(
                "what some tasks do that others depend on was not followed: there were more than {MAX_TRACKED}"
            ));
        }
        out
    }
}

/// Whether a task's wait counts: not one of the runtime's own, and really parked.
fn meets(task: &CensusTask) -> bool {
    task.blocked && !task.system
}

/// The meeting point of a wait; descriptors and timers are none, and answers are counted by place.
pub(super) fn key_of(wait: &WaitsOn) -> Option<Key> {
    match wait.kind {
        WaitKind::Descriptor | WaitKind::Timer | WaitKind::Oneshot => None,
        kind => Some((kind, wait.address?)),
    }
}
