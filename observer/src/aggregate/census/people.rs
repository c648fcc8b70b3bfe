//! Tasks that others depend on, whether at a meeting point or at the other end of a connection: what one
//! does from sample to sample, and how those that are alike are shown together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::meetings::{Key, key_of};
use crate::model::census::{Direction, WaitsOn};
use crate::model::hashing::QuickMap;
use crate::model::meeting::{self, User, UserEvidence};
use crate::model::{Frame, Known};

/// Different things that one task does and are remembered.
const MAX_DOINGS: usize = 32;
/// Ids that are shown of tasks that are alike.
const MAX_IDS: usize = 100;

/// What a task did in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Doing {
    /// Its group.
    pub group: u32,
    /// The descriptor that it waited on.
    pub fd: Option<i32>,
    /// The meeting point that it waited at, when there was one only.
    pub at: Option<Key>,
}

impl Doing {
    /// What a task of a group does that waits on these.
    pub(super) fn of(group: u32, waits: &[WaitsOn]) -> Self {
        Self {
            group,
            fd: waits.iter().find_map(|w| w.fd),
            at: match waits {
                [only] => key_of(only),
                _ => None,
            },
        }
    }
}

/// Samples by what a task did in them; bounded.
#[derive(Debug, Clone, Default)]
pub struct Doings(QuickMap<Doing, u64>);

impl Doings {
    /// Adds a sample. False when there is no room for another thing.
    pub(super) fn add(&mut self, doing: Doing) -> bool {
        let room = self.0.len() < MAX_DOINGS || self.0.contains_key(&doing);
        if room {
            *self.0.entry(doing).or_default() += 1;
        }
        room
    }

    /// Things and samples.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Doing, u64)> {
        self.0.iter().map(|(doing, n)| (doing, *n))
    }

    /// Descriptors that it waited on.
    pub(super) fn fds(&self) -> impl Iterator<Item = i32> {
        self.0.keys().filter_map(|doing| doing.fd)
    }
}

/// Samples by what several tasks did in them.
#[derive(Debug, Default)]
pub(super) struct Sums(pub(super) HashMap<Doing, u64>);

impl Sums {
    /// Adds what one task did.
    pub(super) fn add<'a>(&mut self, doings: impl Iterator<Item = (&'a Doing, u64)>) {
        for (doing, n) in doings {
            *self.0.entry(*doing).or_default() += n;
        }
    }
}

/// One task on its way into [`People`].
#[derive(Debug)]
pub(super) struct Person {
    pub(super) id: u64,
    pub(super) direction: Option<Direction>,
    pub(super) function: Known<Frame>,
    pub(super) evidence: UserEvidence,
    /// Samples in which it was seen to have to do with it, and in which it was listed.
    pub(super) seen: (u64, u64),
}

/// What makes tasks alike: direction, function (or why it is not known) and evidence.
type Alike = (Option<Direction>, Arc<str>, UserEvidence);

/// Tasks that have the same function, direction and evidence as one, each with something of the caller's.
#[derive(Debug)]
pub(super) struct People<T> {
    groups: BTreeMap<Alike, (User, T)>,
}

impl<T: Default> People<T> {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
        }
    }

    /// Adds a task; tasks come in the order of their ids. Gives what the caller keeps of its like.
    pub(super) fn add(&mut self, one: Person) -> &mut T {
        let name = match &one.function {
            Known::Known(frame) => frame.function.clone().unwrap_or_default(),
            Known::Unknown(reason) => reason.to_string().into(),
        };
        let key = (one.direction, name, one.evidence);
        let (user, kept) = self.groups.entry(key).or_insert_with(|| {
            let user = User {
                direction: one.direction,
                ids: Vec::new(),
                count: 0,
                function: one.function,
                evidence: one.evidence,
                seen: (0, 0),
                doing: Vec::new(),
            };
            (user, T::default())
        });
        user.count += 1;
        user.seen.0 += one.seen.0;
        user.seen.1 += one.seen.1;
        if user.ids.len() < MAX_IDS {
            user.ids.push(one.id);
        }
        kept
    }

    /// All of them, those that are known best and are most first; `doing` says what they do.
    pub(super) fn finish(
        self,
        mut doing: impl FnMut(&User, T) -> Vec<meeting::Doing>,
    ) -> Vec<User> {
        let groups = self.groups.into_values();
        let mut out: Vec<User> = groups
            .map(|(mut user, kept)| {
                user.doing = doing(&user, kept);
                user
            })
            .collect();
        out.sort_by_key(|user| {
            (
                user.evidence,
                Reverse(user.count),
                user.ids.first().copied(),
            )
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(group: u32) -> Doing {
        Doing {
            group,
            fd: None,
            at: None,
        }
    }

    #[test]
    fn what_is_known_already_is_counted_when_there_is_no_room() {
        let mut doings = Doings::default();
        assert!((0..MAX_DOINGS as u32).all(|group| doings.add(doing(group))));
        assert!(!doings.add(doing(MAX_DOINGS as u32)));
        assert!(doings.add(doing(0)));
        let first = doings.iter().find(|(known, _)| known.group == 0);
        assert_eq!(first.map(|(_, n)| n), Some(2));
    }

    #[test]
    fn the_best_known_come_first_and_then_the_most() {
        let mut people: People<u64> = People::new();
        let all = [
            (1, "b", UserEvidence::StackRefers),
            (2, "a", UserEvidence::StackRefers),
            (3, "a", UserEvidence::StackRefers),
            (4, "c", UserEvidence::SeenWaiting),
        ];
        for (id, reason, evidence) in all {
            *people.add(Person {
                id,
                direction: None,
                function: Known::unknown(reason),
                evidence,
                seen: (1, 2),
            }) += id;
        }
        let mut kept = Vec::new();
        let out = people.finish(|user, sum| {
            kept.push((user.ids.clone(), sum));
            Vec::new()
        });
        let ids: Vec<_> = out.iter().map(|user| user.ids.clone()).collect();
        assert_eq!(ids, [vec![4], vec![2, 3], vec![1]]);
        assert!(kept.contains(&(vec![2, 3], 5)), "{kept:?}");
        assert_eq!((out[1].count, out[1].seen), (2, (2, 4)));
    }
}
