//! Stacks in two parts: C frames of a thread's stack, then the goroutine's own, which it left when it
//! called C. What is missing between them, or of them, is said in the stack itself.

use crate::model::Reason;
use crate::resolve::unwind::Unwound;
use crate::runtimes::{TaskStack, TaskStacks};

/// Two parts as one stack.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// Instruction pointer, then return addresses.
    pub addresses: Vec<u64>,
    /// Why it ends early, when it does.
    pub cut: Option<Reason>,
    /// Before which address frames are missing, and why, when some are.
    pub gap: Option<(u32, Reason)>,
}

/// Joins what was unwound of the thread's stack with the task's own, read at the same moment.
pub fn join(unwound: Unwound, task: Option<TaskStack>, tasks: &dyn TaskStacks) -> Joined {
    let mut addresses = unwound.frames;
    // Tables end where the runtime's code begins: that is no loss.
    let met = addresses
        .last()
        .is_some_and(|last| tasks.leaves_stack(*last));
    let missing = if met { None } else { unwound.truncated };
    let Some(task) = task else {
        let unread = Reason::new("the stack of the goroutine that called C was not read");
        return Joined {
            addresses,
            cut: Some(missing.unwrap_or(unread)),
            gap: None,
        };
    };
    let gap = missing.map(|reason| (addresses.len() as u32, reason));
    addresses.extend_from_slice(&task.addresses);
    Joined {
        addresses,
        cut: task.cut,
        gap,
    }
}

/// What a walk by frame pointers is worth that began in C: its first address, and those in the
/// runtime's code, which it reaches only when C left the frame pointer register alone.
pub fn walked(addresses: &[u64], tasks: &dyn TaskStacks) -> Joined {
    let reason = Reason::new("C code without frame pointers, of a wait that was not sampled");
    let (leaf, rest) = addresses.split_at(addresses.len().min(1));
    let own = rest
        .iter()
        .position(|address| tasks.is_runtime_code(*address))
        .map_or(&[][..], |at| &rest[at..]);
    // Beyond the runtime's code there is nothing but what is no stack.
    let own = own
        .iter()
        .position(|address| !tasks.is_runtime_code(*address))
        .map_or(own, |end| &own[..end]);
    if own.is_empty() {
        return Joined {
            addresses: leaf.to_vec(),
            cut: Some(reason),
            gap: None,
        };
    }
    Joined {
        addresses: [leaf, own].concat(),
        cut: None,
        gap: Some((leaf.len() as u32, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::LeftStack;
    use crate::model::memory::Memory;

    /// Go's code lies from 1000 to 2000; 1500 leaves the stack.
    #[derive(Debug)]
    struct Go;

    impl TaskStacks for Go {
        fn is_runtime_code(&self, address: u64) -> bool {
            (1000..2000).contains(&address)
        }
        fn leaves_stack(&self, address: u64) -> bool {
            address == 1500
        }
        fn walk(&mut self, _: LeftStack<'_>) -> TaskStack {
            unreachable!("not asked for")
        }
        fn read(&mut self, _: &dyn Memory, _: u64) -> Option<TaskStack> {
            None
        }
    }

    const WHY: Reason = Reason::new("no table");

    fn unwound(frames: &[u64]) -> Unwound {
        Unwound {
            frames: frames.to_vec(),
            stack_pointers: Vec::new(),
            truncated: Some(WHY),
        }
    }

    fn task() -> TaskStack {
        TaskStack {
            addresses: vec![1600, 1700],
            cut: None,
        }
    }

    #[test]
    fn stacks_that_meet_are_whole() {
        let joined = join(unwound(&[1, 2, 1500]), Some(task()), &Go);
        assert_eq!(joined.addresses, [1, 2, 1500, 1600, 1700]);
        assert_eq!((joined.cut, joined.gap), (None, None));
    }

    #[test]
    fn what_is_missing_is_said_where_it_is_missing() {
        let joined = join(unwound(&[1, 2]), Some(task()), &Go);
        assert_eq!(joined.addresses, [1, 2, 1600, 1700]);
        assert_eq!((joined.cut, joined.gap), (None, Some((2, WHY))));
        let joined = join(unwound(&[1, 2]), None, &Go);
        assert_eq!((joined.cut, joined.gap), (Some(WHY), None));
        let joined = join(unwound(&[1, 1500]), None, &Go);
        assert!(joined.cut.unwrap().0.contains("was not read"));
    }

    #[test]
    fn of_a_walk_by_frame_pointers_only_the_runtimes_part_counts() {
        let joined = walked(&[1, 77, 1600, 1700, 5], &Go);
        assert_eq!(joined.addresses, [1, 1600, 1700]);
        assert_eq!(joined.gap.map(|gap| gap.0), Some(1));
        let joined = walked(&[1, 77, 78], &Go);
        assert_eq!((joined.addresses, joined.gap), (vec![1], None));
        assert!(joined.cut.is_some());
        assert_eq!(walked(&[], &Go).addresses, [0_u64; 0]);
    }
}
