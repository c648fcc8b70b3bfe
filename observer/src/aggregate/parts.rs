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
}

/// Splits a row by user stack: those that were unwound for its own waits; the rest goes to the stack
/// that was seen most for the same task at the same place, or to the one walked by frame pointers,
/// or, when all tasks of the process were seen at one place there, to that. Otherwise it is not known.
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
    let of_all = || only_one(ledger.samples_of_all_tasks(key)?.user.keys());
    let usual = most(own.chain(sampled.map(|(stack, n)| (*stack, *n))))
        .or_else(|| of_all().filter(|_| walked.is_some_and(|stack| names.has_gap(stack))))
        .or(walked);
    let (usual, of_others) = match usual {
        Some(stack) => (Some(stack), false),
        None => match ledger.samples_of_all_tasks(key) {
            Some(samples) => (only_place(samples, names), samples.user.len() > 1),
            None => (None, false),
        },
    };
    match parts
        .iter_mut()
        .find(|part| part.user == usual && usual.is_some())
    {
        Some(part) => part.tally.merge(&rest),
        None => parts.push(Part {
            user: usual,
            of_others,
            tally: rest,
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

fn only_one<'a>(mut stacks: impl ExactSizeIterator<Item = &'a StackId>) -> Option<StackId> {
    (stacks.len() == 1)
        .then(|| stacks.next().copied())
        .flatten()
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
    use crate::model::event::WaitClass;
    use crate::model::stacks::{RawStack, StackTable};
    use crate::model::task::{TaskFacts, TaskRef};
    use crate::model::{Frame, FrameKind, Pid, Reason, Resource};

    /// Sites by stack.
    struct Sites(HashMap<StackId, Known<Frame>>);

    impl Names for Sites {
        fn target(&self, _: Pid) -> Option<usize> {
            Some(0)
        }
        fn kernel_side_stack(&self, _: Option<Pid>, _: u32) -> Option<StackId> {
            None
        }
        fn frames(&self, _: StackId) -> &[Frame] {
            &[]
        }
        fn has_gap(&self, _: StackId) -> bool {
            false
        }
        fn site(&self, stack: StackId) -> Known<Frame> {
            self.0[&stack].clone()
        }
        fn resource(&self, _: Pid, _: WaitClass, _: u64) -> Option<Resource> {
            None
        }
        fn task_name(&self, _: Pid, _: TaskRef) -> Option<String> {
            None
        }
        fn task_creator(&self, _: Pid, _: TaskRef) -> Option<String> {
            None
        }
        fn task_facts(&self, _: Pid, _: TaskRef, _: Option<StackId>) -> Option<TaskFacts> {
            None
        }
        fn syscall_name(&self, _: u32) -> String {
            String::new()
        }
        fn process_name(&self, _: Pid) -> Option<String> {
            None
        }
    }

    fn site(address: u64, line: Option<u32>) -> Known<Frame> {
        Known::Known(Frame {
            address,
            function: line.map(|_| "app::save".into()),
            file: line.map(|_| "save.rs".into()),
            line,
            module: Some("app".into()),
            kind: FrameKind::User,
            unknown_reason: None,
        })
    }

    /// Which stack stands for waits without one, when stacks with these sites were seen 1, 2, 3... times.
    fn chosen(sites: &[Known<Frame>]) -> Option<usize> {
        let mut table = StackTable::default();
        let ids: Vec<StackId> = (0..sites.len() as u64)
            .map(|at| {
                table.intern(RawStack {
                    pid: Some(Pid(1)),
                    addresses: [at + 1].into(),
                    cut: None,
                    gap: None,
                })
            })
            .collect();
        let mut samples = Sampled::default();
        for (id, n) in ids.iter().zip(1..) {
            samples.user.insert(*id, n);
        }
        let names = Sites(ids.iter().copied().zip(sites.iter().cloned()).collect());
        let found = only_place(&samples, &names)?;
        ids.iter().position(|id| *id == found)
    }

    #[test]
    fn waits_without_a_stack_are_where_all_the_others_are_or_nowhere() {
        let unknown = || Known::Unknown(Reason::new("no symbols"));
        assert_eq!(chosen(&[]), None);
        // By different ways to the same line: the way that most took.
        assert_eq!(chosen(&[site(1, Some(67)), site(2, Some(67))]), Some(1));
        assert_eq!(chosen(&[site(1, Some(67)), site(2, Some(68))]), None);
        // Without names, by address.
        assert_eq!(chosen(&[site(5, None), site(5, None)]), Some(1));
        assert_eq!(chosen(&[site(5, None), site(6, None)]), None);
        assert_eq!(chosen(&[site(5, None), site(5, Some(67))]), None);
        // One stack is one place, whatever its name; two without a known one may be two.
        assert_eq!(chosen(&[unknown()]), Some(0));
        assert_eq!(chosen(&[unknown(), unknown()]), None);
    }
}
