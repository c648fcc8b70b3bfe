//! Which stacks the waits of one row had: they are sampled, so that most waits have that of others.

use std::collections::HashMap;

use super::ledger::{Ledger, Row, Sampled};
use crate::model::Known;
use crate::model::event::{Tally, WaitKey};
use crate::model::names::Names;
use crate::model::stacks::StackId;

/// One part of a row: a user stack and the time that belongs to it.
pub(super) struct Part {
    pub user: Option<StackId>,
    /// The stack is only of the same place: it does not tell what the task is.
    pub of_others: bool,
    pub tally: Tally,
    /// Of these waits, those whose own walk by frame pointers is not shown, but a stack of other waits.
    pub replaced: u64,
}

/// Splits a row by user stack: those that were unwound for its own waits; the rest goes to the stack
/// that was seen most for the same task at the same place, or to the one walked by frame pointers if
/// that names a place, or, when all tasks of the process were seen at one place there, to that.
/// Otherwise it is not known.
pub(super) fn parts(key: &WaitKey, row: &Row, ledger: &Ledger, names: &dyn Names) -> Vec<Part> {
    let walked = key
        .user_stack
        .and_then(|id| names.kernel_side_stack(Some(key.pid), id));
    let mut rest = row.tally;
    let mut parts: Vec<Part> = Vec::with_capacity(row.unwound.len() + 1);
    for (stack, tally) in &row.unwound {
        rest.subtract(tally);
        parts.push(Part {
            user: Some(*stack),
            of_others: false,
            tally: *tally,
            replaced: 0,
        });
    }
    if rest.count == 0 {
        return parts;
    }
    let own = row
        .unwound
        .iter()
        .map(|(stack, tally)| (*stack, tally.count));
    let sampled = ledger.samples(key).into_iter().flat_map(|s| &s.user);
    let of_all = ledger.samples_of_all_tasks(key);
    let own = most(own.chain(sampled.map(|(stack, n)| (*stack, *n))));
    let (usual, of_others) = match own.or_else(|| whole(walked, of_all, names)) {
        Some(stack) => (Some(stack), false),
        None => match of_all.and_then(|samples| only_place(samples, names)) {
            Some(stack) => (Some(stack), of_all.is_some_and(|s| s.user.len() > 1)),
            None => (walked, false),
        },
    };
    let replaced = if walked.is_some() && usual != walked {
        rest.count
    } else {
        0
    };
    match parts
        .iter_mut()
        .find(|part| part.user == usual && usual.is_some())
    {
        Some(part) => {
            part.tally.merge(&rest);
            part.replaced = replaced;
        }
        None => parts.push(Part {
            user: usual,
            of_others,
            tally: rest,
            replaced,
        }),
    }
    parts
}

/// The key with the largest count; among equals the first in order.
fn most<K: Copy + Ord>(counts: impl Iterator<Item = (K, u64)>) -> Option<K> {
    counts
        .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)))
        .map(|(key, _)| key)
}

/// The stack that was walked by frame pointers, when it names a place; if frames are missing inside
/// of it, the only one that was seen instead.
fn whole(walked: Option<StackId>, of_all: Option<&Sampled>, names: &dyn Names) -> Option<StackId> {
    let walked = walked.filter(|stack| names.site(*stack).known().is_some())?;
    let only = of_all.filter(|samples| samples.user.len() == 1 && names.has_gap(walked));
    let seen = only.and_then(|samples| samples.user.keys().next().copied());
    Some(seen.unwrap_or(walked))
}

/// The stack that was seen most, when all that were seen have one site.
fn only_place(samples: &Sampled, names: &dyn Names) -> Option<StackId> {
    let site = |stack: &StackId| match names.site(*stack) {
        // Without a name it is its address that tells it from others.
        Known::Known(frame) if frame.function.is_none() => Some((frame.address, None, None, None)),
        Known::Known(frame) => Some((0, frame.function, frame.file, frame.line)),
        Known::Unknown(_) => None,
    };
    let usual = most(samples.user.iter().map(|(stack, n)| (*stack, *n)))?;
    let place = site(&usual);
    let same = |stack: &StackId| *stack == usual || (place.is_some() && site(stack) == place);
    samples.user.keys().all(same).then_some(usual)
}

/// The part that a row's open waits and wakers are shown with: the one with the most time.
pub(super) fn first_user(
    key: &WaitKey,
    row: &Row,
    ledger: &Ledger,
    names: &dyn Names,
) -> Option<StackId> {
    row.unwound
        .iter()
        .max_by_key(|(stack, t)| (t.total_ns, **stack))
        .map(|(stack, _)| *stack)
        .or_else(|| {
            parts(key, row, ledger, names)
                .first()
                .and_then(|part| part.user)
        })
}

/// The kernel stack to show for a row: the one that was sampled most.
pub(super) fn kernel_stack(
    key: &WaitKey,
    row: &Row,
    ledger: &Ledger,
    names: &dyn Names,
) -> Option<StackId> {
    let count = |counts: &HashMap<u32, u64>| most(counts.iter().map(|(id, n)| (*id, *n)));
    count(&row.kernel_stacks)
        .or_else(|| count(&ledger.samples(key)?.kernel))
        .or_else(|| count(&ledger.samples_of_all_tasks(key)?.kernel))
        .and_then(|id| names.kernel_side_stack(None, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::fake_names::{FakeNames, frame};
    use crate::aggregate::ledger::SampleKey;
    use crate::model::event::{Identity, WaitClass};
    use crate::model::task::{Legality, TaskKind, TaskRef};
    use crate::model::{Frame, Pid, Reason};

    fn site(address: u64, line: Option<u32>) -> Known<Frame> {
        Known::Known(frame(line.map(|_| "app::save"), address, line))
    }

    fn nowhere() -> Known<Frame> {
        Known::Unknown(Reason::new("no symbols"))
    }

    /// Which stack stands for waits without one, when stacks with these sites were seen 1, 2, 3... times.
    fn chosen(sites: &[Known<Frame>]) -> Option<usize> {
        let mut names = FakeNames::default();
        let mut samples = Sampled::default();
        let ids: Vec<StackId> = sites
            .iter()
            .map(|site| names.add(Vec::new(), site.clone()))
            .collect();
        for (id, n) in ids.iter().zip(1..) {
            samples.user.insert(*id, n);
        }
        let found = only_place(&samples, &names)?;
        ids.iter().position(|id| *id == found)
    }

    #[test]
    fn waits_without_a_stack_are_where_all_the_others_are_or_nowhere() {
        assert_eq!(chosen(&[]), None);
        // By different ways to the same line: the way that most took.
        assert_eq!(chosen(&[site(1, Some(67)), site(2, Some(67))]), Some(1));
        assert_eq!(chosen(&[site(1, Some(67)), site(2, Some(68))]), None);
        // Without names, by address.
        assert_eq!(chosen(&[site(5, None), site(5, None)]), Some(1));
        assert_eq!(chosen(&[site(5, None), site(6, None)]), None);
        assert_eq!(chosen(&[site(5, None), site(5, Some(67))]), None);
        // One stack is one place, whatever its name; two without a known one may be two.
        assert_eq!(chosen(&[nowhere()]), Some(0));
        assert_eq!(chosen(&[nowhere(), nowhere()]), None);
    }

    /// The stack that frame pointers gave, in the kernel's stack map.
    const WALKED: u32 = 3;

    fn row_of(task: u64) -> WaitKey {
        WaitKey {
            pid: Pid(1),
            identity: Identity::Task(TaskRef {
                kind: TaskKind::Thread,
                id: task,
            }),
            class: WaitClass::Syscall(45),
            subject: 4,
            legality: Legality::Unknown,
            go_status: None,
            user_ip: 0,
            user_stack: Some(WALKED),
            seeded: false,
        }
    }

    /// Whose stack, and whether it is others', the waits of one task get that was walked as `walked`
    /// while stacks with the `sampled` sites were seen for another. `None`: the walked one.
    fn beside(walked: Known<Frame>, gap: bool, sampled: &[Known<Frame>]) -> (Option<usize>, bool) {
        let mut names = FakeNames::default();
        let own = names.add(Vec::new(), walked);
        names.walked(WALKED, own);
        if gap {
            names.has_gap_in(own);
        }
        let mut ledger = Ledger::default();
        let mut one = Tally::default();
        one.add(5, 0);
        ledger.add_sum(row_of(8), &one);
        let seen: Vec<StackId> = sampled
            .iter()
            .map(|site| names.add(Vec::new(), site.clone()))
            .collect();
        for stack in &seen {
            ledger.add_sample(SampleKey::of(&row_of(9)), *stack, None, 1);
        }
        let key = row_of(8);
        let (_, row) = ledger.rows().find(|(found, _)| **found == key).unwrap();
        let parts = parts(&key, row, &ledger, &names);
        let [part] = &parts[..] else {
            panic!("{} parts", parts.len());
        };
        assert_eq!(part.tally.total_ns, 5);
        let user = part.user.unwrap();
        assert!(user == own || seen.contains(&user));
        assert_eq!(part.replaced, u64::from(user != own));
        (seen.iter().position(|s| *s == user), part.of_others)
    }

    #[test]
    fn a_walk_that_names_no_place_gives_way_to_the_only_place_of_the_others() {
        let known = || site(1, Some(67));
        // A walk that names a place is right about it.
        assert_eq!(beside(known(), false, &[site(2, Some(80))]), (None, false));
        // It lacks frames, but the others disagree on which.
        let two = [site(2, Some(80)), site(3, Some(80))];
        assert_eq!(beside(known(), true, &two), (None, false));
        assert_eq!(beside(known(), true, &two[..1]), (Some(0), false));
        // A walk that ended in the C library.
        assert_eq!(beside(nowhere(), false, &[]), (None, false));
        assert_eq!(beside(nowhere(), false, &two), (Some(0), true));
        assert_eq!(beside(nowhere(), false, &two[..1]), (Some(0), false));
        let apart = [site(2, Some(80)), site(3, Some(81))];
        assert_eq!(beside(nowhere(), false, &apart), (None, false));
    }
}
