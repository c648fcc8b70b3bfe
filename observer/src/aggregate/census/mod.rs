//! Censuses of one process, folded: nothing is kept whole but figures per group, per meeting point,
//! and for the tasks that others depend on.
//!
//! A group's share is a mean over samples. Tasks of one sample are not independent of each other (they
//! wait for the same thing), so the error that is stated is that of the mean over samples, sd/sqrt(n);
//! successive samples of a wait that lasts are not independent either, which makes it a lower bound.

mod answers;
pub mod connections;
pub mod meetings;
mod people;
pub mod rollup;
pub mod scheduling;
mod things;
mod users;

use std::ops::Range;

use self::answers::Answers;
use self::connections::Connections;
use self::meetings::{Meetings, Tracked};
use self::scheduling::Scheduling;
use self::things::Things;
use crate::model::census::{
    Census, CensusTask, CensusTracker, Direction, StackId, Stacks, TaskState, WaitKind, WaitsOn,
};
use crate::model::connection::Socket;
use crate::model::hashing::QuickMap;
use crate::model::{Cause, Mono};

/// Descriptors that are looked up of all groups.
const MAX_GROUPS_FDS: usize = 128;
/// Groups that are kept; tasks of further ones are counted as others.
const MAX_GROUPS: usize = 4096;
/// Different stacks that are kept; tasks with further ones are grouped without their stack.
const MAX_STACKS: usize = 8192;
/// Shorter sessions say nothing of what never moves (ns).
const CONCLUSIVE_NS: u64 = 1_000_000_000;
/// Ids of the last sample that one group keeps.
const SAMPLE_IDS: usize = 8;

/// A figure over samples: enough for mean, standard error and maximum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    sum: f64,
    squares: f64,
    /// The largest value.
    pub max: f64,
    /// The value at the last sample.
    pub last: f64,
}

impl Spread {
    /// Adds one sample's value. Samples without a value count as 0, see [`Self::mean`].
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.squares += value * value;
        self.max = self.max.max(value);
    }

    /// Mean over `samples`, those without a value included.
    pub fn mean(&self, samples: u64) -> f64 {
        if samples == 0 {
            0.0
        } else {
            self.sum / samples as f64
        }
    }

    /// Standard error of the mean; `None` with fewer than two samples.
    pub fn error(&self, samples: u64) -> Option<f64> {
        let n = samples as f64;
        let mean = self.mean(samples);
        (samples >= 2).then(|| {
            let variance = (self.squares - n * mean * mean).max(0.0) / (n - 1.0);
            (variance / n).sqrt()
        })
    }
}

/// What makes two tasks one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// What they do.
    pub state: TaskState,
    /// The runtime's text.
    pub reason: Option<&'static str>,
    /// The same in the common vocabulary.
    pub cause: Option<Cause>,
    /// They are parked and can not go on.
    pub blocked: bool,
    /// They are the runtime's own.
    pub system: bool,
    /// Index into the ledger's stacks.
    pub stack: Option<u32>,
    /// Where they were created.
    pub created_at: Option<u64>,
    /// Their function, when there is no stack to tell them apart by.
    pub entry: Option<u64>,
    /// What they wait on.
    pub kind: Option<WaitKind>,
    /// In which direction.
    pub direction: Option<Direction>,
    /// The same in particular, when several tasks wait on it.
    pub address: Option<u64>,
}

/// One group.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// Tasks per sample.
    pub count: Spread,
    /// Their share of all tasks of the sample.
    pub share: Spread,
    /// Age of the oldest wait at the last sample (ns).
    pub oldest_ns: Option<u64>,
    /// A few ids, of the last sample in which there were any.
    pub sample_ids: Vec<u64>,
    /// What its tasks waited on at the last sample.
    pub things: Things,
    /// The last sample in which there were any.
    seen: u64,
}

/// Tasks by state, the runtime's own left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct States {
    /// Per [`TaskState`], in the order of `TaskState::ALL`.
    pub counts: [Spread; 4],
    /// Tied to a thread.
    pub locked: Spread,
    /// All tasks.
    pub all: Spread,
    /// Samples with more runnable tasks than can run at once.
    pub queued: u64,
    /// How many can run at once, at the last sample.
    pub slots: Option<u32>,
}

/// What the censuses cost and missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read.
    pub bytes_read: u64,
    /// Tasks that changed while they were read.
    pub torn: u64,
    /// Tasks that could not be read.
    pub unreadable: u64,
    /// Time of the longest (ns).
    pub max_ns: u64,
    /// Tasks left out because the list was longer than the bound, in the sample with most.
    pub beyond_bound: u64,
    /// CPU time, as far as it was told (ns).
    pub cpu_ns: u64,
}

/// The censuses of one process.
#[derive(Debug, Default)]
pub struct CensusLedger {
    samples: u64,
    first: Option<Mono>,
    last: Option<Mono>,
    stacks: Stacks,
    stacks_beyond: u64,
    index: QuickMap<GroupKey, u32>,
    groups: Vec<Group>,
    groups_beyond: u64,
    meetings: Meetings,
    connections: Connections,
    answers: Answers,
    states: States,
    scheduling: Scheduling,
    cost: Cost,
    tracker: CensusTracker,
    /// All addresses of interest are watched in the next sample.
    watches_all: bool,
    /// Samples in which every stack was looked at for each of them.
    searched: u64,
    /// Where the program's variables lie.
    variables: Range<u64>,
    /// Buffers of one sample.
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    counts: Vec<u64>,
    #[expect(
        clippy::option_option,
        reason = "not looked at yet, looked at in vain, found"
    )]
    stacks: Vec<Option<Option<u32>>>,
}

impl CensusLedger {
    /// Adds a census; ages are filled in on the way.
    pub fn add(&mut self, census: &mut Census) {
        self.tracker.update(census);
        self.samples += 1;
        self.first.get_or_insert(census.taken_at);
        self.last = Some(census.taken_at);
        self.meetings.begin(census, self.samples);
        self.connections.begin(census);
        self.answers.begin();
        self.scratch.counts.clear();
        self.scratch.counts.resize(self.groups.len(), 0);
        self.scratch.stacks.clear();
        self.scratch.stacks.resize(census.stacks.len(), None);
        for group in &mut self.groups {
            group.things.clear();
            group.oldest_ns = None;
        }
        for task in &census.tasks {
            let waits = census.waits_of(task);
            let group = self.group_of(census, task, waits);
            if let Some(group) = group {
                self.count(group, task, waits);
            }
            self.meetings.task(task, waits, group);
            self.connections.task(task, waits, group);
            self.answers.task(task, waits, group);
        }
        self.meetings.end(census);
        self.answers.end(census, &self.meetings);
        self.searched += u64::from(census.searched && self.watches_all);
        self.watches_all = self.meetings.watches_all();
        self.variables = census.variables.clone();
        let all = census.tasks.len().max(1) as f64;
        for (group, count) in self.groups.iter_mut().zip(&self.scratch.counts) {
            group.count.last = *count as f64;
            group.share.last = *count as f64 / all;
            if *count > 0 {
                group.count.add(group.count.last);
                group.share.add(group.share.last);
            }
        }
        self.add_states(census);
        self.scheduling.add(census);
        self.add_cost(census);
    }

    fn stack_of(&mut self, census: &Census, task: &CensusTask) -> Option<u32> {
        let id = task.stack?;
        if let Some(Some(known)) = self.scratch.stacks.get(id.0 as usize) {
            return *known;
        }
        let full = self.stacks.len() >= MAX_STACKS;
        let known = if full {
            self.stacks.find(census.stack(id))
        } else {
            Some(self.stacks.intern(census.stack(id)))
        };
        self.stacks_beyond += u64::from(known.is_none());
        let known = known.map(|id| id.0);
        if let Some(slot) = self.scratch.stacks.get_mut(id.0 as usize) {
            *slot = Some(known);
        }
        known
    }

    fn group_of(&mut self, census: &Census, task: &CensusTask, waits: &[WaitsOn]) -> Option<u32> {
        let stack = self.stack_of(census, task);
        // A select: what it has in common with others says most, and a send more than a receive. A condition
        // says least: a signal to end, as a rule. Of equals the first.
        let rank = |w: &&WaitsOn| {
            let shared = w
                .address
                .is_some_and(|address| self.meetings.is_shared(w.kind, address));
            let is_condition = w.kind == WaitKind::Condition;
            let is_send = w.direction == Some(Direction::Send);
            (shared && !is_condition, is_send, !is_condition)
        };
        let wait = waits.iter().rev().max_by_key(rank);
        let shared = wait.and_then(|w| {
            w.address
                .filter(|address| self.meetings.is_shared(w.kind, *address))
        });
        let key = GroupKey {
            state: task.state,
            reason: task.wait_reason,
            cause: task.cause,
            blocked: task.blocked,
            system: task.system,
            stack,
            created_at: task.created_at,
            entry: task.entry.filter(|_| stack.is_none()),
            kind: wait.map(|w| w.kind),
            direction: wait
                .filter(|_| waits.len() == 1 || shared.is_some())
                .and_then(|w| w.direction),
            address: shared,
        };
        if let Some(&group) = self.index.get(&key) {
            return Some(group);
        }
        if self.groups.len() >= MAX_GROUPS {
            self.groups_beyond += 1;
            return None;
        }
        let group = self.groups.len() as u32;
        self.index.insert(key, group);
        self.groups.push(Group {
            key,
            count: Spread::default(),
            share: Spread::default(),
            oldest_ns: None,
            sample_ids: Vec::new(),
            things: Things::default(),
            seen: 0,
        });
        self.scratch.counts.push(0);
        Some(group)
    }

    fn count(&mut self, index: u32, task: &CensusTask, waits: &[WaitsOn]) {
        let index = index as usize;
        if let Some(count) = self.scratch.counts.get_mut(index) {
            *count += 1;
        }
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        if group.seen != self.samples {
            group.seen = self.samples;
            group.sample_ids.clear();
        }
        if group.sample_ids.len() < SAMPLE_IDS {
            group.sample_ids.push(task.id);
        }
        // Seen for the first time: that is no lower bound worth telling.
        let age = task.age.map(|age| age.at_least_ns).filter(|ns| *ns > 0);
        group.oldest_ns = group.oldest_ns.max(age);
        group.things.add(group.key.kind, waits);
    }

    fn add_states(&mut self, census: &Census) {
        let mut counts = [0_u64; 4];
        let (mut all, mut locked) = (0_u64, 0_u64);
        for task in census.tasks.iter().filter(|task| !task.system) {
            all += 1;
            locked += u64::from(task.locked_to_thread);
            if let Some(at) = TaskState::ALL.iter().position(|s| *s == task.state) {
                counts[at] += 1;
            }
        }
        let add = |spread: &mut Spread, value: u64| {
            spread.last = value as f64;
            spread.add(value as f64);
        };
        for (spread, count) in self.states.counts.iter_mut().zip(counts) {
            add(spread, count);
        }
        add(&mut self.states.all, all);
        add(&mut self.states.locked, locked);
        self.states.slots = census.slots;
        if let Some(slots) = census.slots {
            let runnable = census.count(TaskState::Runnable);
            self.states.queued += u64::from(runnable > u64::from(slots));
        }
    }

    fn add_cost(&mut self, census: &Census) {
        let figures = &census.figures;
        self.cost.bytes_read += figures.bytes_read;
        self.cost.torn += figures.torn;
        self.cost.unreadable += figures.unreadable;
        self.cost.max_ns = self.cost.max_ns.max(figures.duration_ns);
        self.cost.beyond_bound = self.cost.beyond_bound.max(figures.beyond_bound);
    }

    /// Adds the CPU time of a census and of what was made of it.
    pub fn add_cpu(&mut self, ns: u64) {
        self.cost.cpu_ns += ns;
    }

    /// Addresses whose users should be looked for in the next census: where many wait, first.
    pub fn to_watch(&self) -> Vec<u64> {
        self.meetings.to_watch()
    }

    /// Sets the connections whose users are looked for in the next census: the first so many.
    pub fn watch_connections(&mut self, sockets: &[Socket], at_most: usize) {
        self.connections.watch(sockets, at_most);
    }

    /// Descriptors that tasks of interest wait on, to be looked up while they are open.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        let groups = self
            .groups
            .iter()
            .filter(|g| g.seen == self.samples)
            .flat_map(|g| g.things.fds.iter().copied())
            .take(MAX_GROUPS_FDS);
        let followed = self.meetings.tracked().flat_map(Tracked::fds);
        followed
            .chain(self.connections.fds())
            .chain(self.answers.fds())
            .chain(groups)
    }

    /// Censuses so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Time between the first and the last (ns).
    pub fn span_ns(&self) -> u64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => 0,
        }
    }

    /// Whether those who refer to this address are all known, as far as stacks tell: every stack was
    /// looked at in one and the same sample, the samples are some time apart, and it is no variable of
    /// the program, which is used without a reference.
    pub fn conclusive(&self, address: u64) -> bool {
        self.searched > 0 && self.span_ns() >= CONCLUSIVE_NS && !self.variables.contains(&address)
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Addresses of a group's stack, nearest frame first.
    pub fn stack(&self, index: u32) -> &[u64] {
        self.stacks.get(StackId(index))
    }

    /// Meeting points.
    pub fn meetings(&self) -> &Meetings {
        &self.meetings
    }

    /// Tasks by state.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The runtime's scheduler.
    pub fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }

    /// Cost and loss.
    pub fn cost(&self) -> &Cost {
        &self.cost
    }

    /// What a bound left out, one clause each.
    pub fn left_out(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.groups_beyond > 0 {
            out.push(format!(
                "{} observations of tasks are in no group: there were more than {MAX_GROUPS} groups",
                self.groups_beyond
            ));
        }
        if self.stacks_beyond > 0 {
            out.push(format!(
                "{} stacks of the task lists were not kept: there were more than {MAX_STACKS} different ones",
                self.stacks_beyond
            ));
        }
        if self.cost.beyond_bound > 0 {
            out.push(format!(
                "up to {} tasks were not listed: the list is longer than the bound",
                self.cost.beyond_bound
            ));
        }
        out.extend(self.meetings.left_out());
        out.extend(self.connections.left_out());
        out.extend(self.answers.left_out());
        out
    }
}

#[cfg(test)]
mod tests;
