//! What a census looks for on stacks, what it finds there, and what it takes over from the one before.

use super::record::Record;
use super::unwind::AddressMap;
use crate::model::census::TaskState;

/// Things that are looked for: sorted, each once.
#[derive(Debug)]
pub(super) struct Watched<K> {
    all: Vec<K>,
    number: u64,
}

impl<K> Default for Watched<K> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            number: 0,
        }
    }
}

impl<K: Copy + Ord> Watched<K> {
    /// Sets them; those beyond `most` are left out.
    pub(super) fn set(&mut self, wanted: &[K], most: usize) {
        let mut wanted: Vec<K> = wanted.iter().take(most).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted != self.all {
            self.all = wanted;
            self.number += 1;
        }
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> &[K] {
        &self.all
    }

    /// Whether this is one of them.
    pub(super) fn contains(&self, one: &K) -> bool {
        self.all.binary_search(one).is_ok()
    }

    /// Changes with them: what was found on a stack that has not changed since holds as long as this
    /// is the same.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// What was found in a chunk of tasks. Keeps its buffers between chunks.
#[derive(Debug)]
pub(super) struct Finds<F> {
    /// Index of the task in its chunk, and what it refers to.
    found: Vec<(u32, F)>,
    /// How many more this census may report.
    left: usize,
    /// What parked goroutines referred to in the last census, by `g`, and in this one.
    kept: AddressMap<Vec<F>>,
    next_kept: AddressMap<Vec<F>>,
}

impl<F> Default for Finds<F> {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            left: 0,
            kept: AddressMap::default(),
            next_kept: AddressMap::default(),
        }
    }
}

impl<F: Copy> Finds<F> {
    /// Starts a census that reports `most` at most.
    pub(super) fn begin(&mut self, most: usize) {
        std::mem::swap(&mut self.kept, &mut self.next_kept);
        self.next_kept.clear();
        self.left = most;
    }

    /// Starts a chunk.
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Adds one. False when there is no room for it.
    #[must_use]
    pub(super) fn push(&mut self, task: u32, find: F) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        self.found.push((task, find));
        true
    }

    /// Takes over what the parked goroutine at `g` referred to in the last census. False when there
    /// was no room for all of it.
    #[must_use]
    pub(super) fn take_over(&mut self, task: u32, g: u64) -> bool {
        let Some(kept) = self.kept.get(&g) else {
            return true;
        };
        let room = kept.len().min(self.left);
        self.left -= room;
        self.found
            .extend(kept.iter().take(room).map(|find| (task, *find)));
        room == kept.len()
    }

    /// What was found in this chunk, the newest last.
    pub(super) fn found(&mut self) -> &mut [(u32, F)] {
        &mut self.found
    }

    /// Hands out what tasks refer to that did not change while they were read.
    pub(super) fn emit(&mut self, records: &[Record], out: &mut Vec<F>) {
        for (task, find) in &self.found {
            let Some(record) = records.get(*task as usize).filter(|r| !r.torn) else {
                continue;
            };
            out.push(*find);
            if record.state == TaskState::Waiting {
                self.next_kept.entry(record.g).or_default().push(*find);
            }
        }
    }
}
