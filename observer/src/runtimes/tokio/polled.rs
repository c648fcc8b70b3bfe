//! Which task types' code a stack frame is in: the functions that vtables name, as address ranges.
//! Needs unwind tables only, so it works in stripped programs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::sys::elf::Elf;

use super::flow::{Callee, summarize};
use super::functions::Functions;
use super::vtables::Vtable;

/// A function of at most so many instructions that only jumps elsewhere is a thunk: in optimized
/// builds `raw::poll` is `jmp Harness::poll`, and the linker's or compiler's merging adds more.
const THUNK: usize = 8;
/// Thunks followed in a row.
const MAX_JUMPS: usize = 4;

/// Code that runs while a task of certain types is polled. Addresses are as in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct PolledCode {
    /// Ranges that do not overlap, in address order, and the places of their vtables.
    ranges: Vec<(Range<u64>, Vec<usize>)>,
}

impl PolledCode {
    /// Finds the functions of `vtables` under which a future runs: poll, and shutdown, which drops
    /// it in the task's name (tokio `runtime/task/harness.rs`, `cancel_task`).
    pub(super) fn read(elf: &Elf<'_>, vtables: &[Vtable]) -> Self {
        let Some(functions) = Functions::read(elf) else {
            return Self::default();
        };
        let mut found: BTreeMap<u64, (u64, BTreeSet<usize>)> = BTreeMap::new();
        for (place, vtable) in vtables.iter().enumerate() {
            for function in [vtable.poll, vtable.shutdown] {
                let mut next = Some(function);
                for _ in 0..MAX_JUMPS {
                    let Some(range) = next.and_then(|at| functions.containing(elf, at)) else {
                        break;
                    };
                    let (_, places) = found
                        .entry(range.start)
                        .or_insert((range.end, BTreeSet::new()));
                    places.insert(place);
                    next = thunk_target(elf, &range);
                }
            }
        }
        let ranges = found
            .into_iter()
            .map(|(start, (end, places))| (start..end, places.into_iter().collect()))
            .collect();
        Self { ranges }
    }

    /// The vtables whose code holds `address`; none when it is no task's.
    pub(super) fn at(&self, address: u64) -> &[usize] {
        let after = self.ranges.partition_point(|r| r.0.start <= address);
        self.ranges[..after]
            .last()
            .filter(|r| r.0.contains(&address))
            .map_or(&[], |r| r.1.as_slice())
    }
}

/// Where a function goes that does nothing but jump.
fn thunk_target(elf: &Elf<'_>, range: &Range<u64>) -> Option<u64> {
    let summary = summarize(elf, range, THUNK + 1);
    match summary.callees.as_slice() {
        [Callee::Tail(target)] if summary.instructions <= THUNK => Some(*target),
        _ => None,
    }
}
