//! Where tokio keeps the current task's id, read from the program's own code. Each task poll sets
//! the id around the future (`TaskIdGuard`, tokio `runtime/task/core.rs`): a thread-local word that
//! is loaded and replaced. The polls vote; one function that does something similar cannot win.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use memchr::{memchr_iter, memmem};

use crate::sys::elf::{Elf, bytes_at};

use super::accessors::Accessors;
use super::flow::{Callee, FULL_BUDGET, Hints, Summary, summarize_with};
use super::functions::Functions;
use super::locals::TlsPairs;
use super::pointers::{CodePointers, CodeRanges};
use super::vtables::Vtable;
use crate::runtimes::TokioIdForm;

/// How deep the id is looked for below a poll: `raw::poll` -> `Core::poll` -> `TaskIdGuard::enter`
/// -> `set_current_task_id`, when nothing was inlined.
const MAX_DEPTH: usize = 4;
/// Polls asked; more do not change the vote.
const MAX_POLLS: usize = 64;
/// Instructions decoded for the polls, in all.
const POLL_BUDGET: usize = 1_500_000;
/// Instructions decoded for the small fields, in all.
const TEXT_BUDGET: usize = 3_000_000;
/// Functions looked at below one poll.
const MAX_FUNCTIONS_PER_POLL: usize = 400;

/// What the vote came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdVote {
    /// Bytes from the thread pointer to the id (to the tag, in the tagged form).
    pub(super) offset: i64,
    /// Its form.
    pub(super) form: TokioIdForm,
    /// Polls that agree.
    pub(super) votes: usize,
    /// Polls asked.
    pub(super) polls: usize,
}

/// Why the code gave no offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoVote {
    /// No `.eh_frame_hdr`, so no function boundaries.
    NoFunctions,
    /// No task vtable.
    NoPolls,
    /// No poll replaces a thread-local word (an older tokio).
    NoSwap,
    /// Several words are replaced, none by a clear majority.
    Ambiguous(Vec<i64>),
}

/// Follows polls of `vtables` to the word that they replace.
pub(super) fn vote_for_id(
    elf: &Elf<'_>,
    pointers: &CodePointers,
    pairs: Option<&TlsPairs>,
    vtables: &[Vtable],
) -> Result<IdVote, NoVote> {
    let functions = Functions::read(elf).ok_or(NoVote::NoFunctions)?;
    let polls: BTreeSet<u64> = vtables.iter().map(|v| v.poll).take(4 * MAX_POLLS).collect();
    if polls.is_empty() {
        return Err(NoVote::NoPolls);
    }
    let accessors = Accessors::new(elf, functions, pairs);
    let mut search = Search {
        elf,
        pointers,
        pairs,
        functions,
        accessors,
        seen: HashMap::new(),
        budget: POLL_BUDGET,
        whole_pairs: false,
    };
    let vote = search.vote(&polls);
    if vote.is_ok() {
        return vote;
    }
    // Where size counts, both words of the tagged form come as arguments.
    search.whole_pairs = true;
    search.vote(&polls).or(vote)
}

struct Search<'a, 'e> {
    elf: &'a Elf<'e>,
    pointers: &'a CodePointers,
    pairs: Option<&'a TlsPairs>,
    functions: Functions<'e>,
    accessors: Accessors<'a, 'e>,
    seen: HashMap<u64, Summary>,
    budget: usize,
    /// Two neighbouring words that are replaced by variables count as one in the tagged form.
    whole_pairs: bool,
}

impl Search<'_, '_> {
    /// Lets each poll name the words that it replaces.
    fn vote(&mut self, polls: &BTreeSet<u64>) -> Result<IdVote, NoVote> {
        let mut tally: BTreeMap<(i64, bool), usize> = BTreeMap::new();
        let mut asked = 0;
        for &poll in polls.iter().take(MAX_POLLS) {
            if self.budget == 0 {
                break;
            }
            asked += 1;
            for word in self.words_replaced_below(poll) {
                *tally.entry(word).or_default() += 1;
            }
        }
        let mut ranking: Vec<_> = tally.into_iter().collect();
        ranking.sort_by_key(|entry| std::cmp::Reverse(entry.1));
        let Some(&((offset, tagged), votes)) = ranking.first() else {
            return Err(NoVote::NoSwap);
        };
        // Most polls, and twice as many as the next candidate.
        let second = ranking.get(1).map_or(0, |r| r.1);
        if votes * 2 <= asked || second * 2 > votes {
            return Err(NoVote::Ambiguous(
                ranking.iter().take(4).map(|r| r.0.0).collect(),
            ));
        }
        let form = if tagged {
            TokioIdForm::Tagged
        } else {
            TokioIdForm::NonZero
        };
        Ok(IdVote {
            offset,
            form,
            votes,
            polls: asked,
        })
    }

    /// The words replaced by the functions nearest below `poll` that replace any: (offset, tagged).
    fn words_replaced_below(&mut self, poll: u64) -> BTreeSet<(i64, bool)> {
        let whole_pairs = self.whole_pairs;
        let mut visited = BTreeSet::new();
        let mut level = vec![poll];
        for _ in 0..=MAX_DEPTH {
            let (mut words, mut next) = (BTreeSet::new(), Vec::new());
            // Tail calls are on the same level: a thunk is no step.
            while let Some(function) = level.pop() {
                if visited.len() >= MAX_FUNCTIONS_PER_POLL || !visited.insert(function) {
                    continue;
                }
                let Some(summary) = self.summary(function) else {
                    continue;
                };
                words.extend(replaced(summary, whole_pairs));
                let callees = summary.callees.clone();
                for callee in callees {
                    match self.resolve(callee) {
                        Some((target, true)) => level.push(target),
                        Some((target, false)) => next.push(target),
                        None => {}
                    }
                }
            }
            if !words.is_empty() {
                return words;
            }
            next.sort_unstable();
            next.dedup();
            level = next;
        }
        BTreeSet::new()
    }

    fn resolve(&self, callee: Callee) -> Option<(u64, bool)> {
        match callee {
            Callee::Direct(target) => Some((target, false)),
            Callee::Tail(target) => Some((target, true)),
            Callee::Through(at) => Some((self.pointers.at(at)?, false)),
            Callee::TailThrough(at) => Some((self.pointers.at(at)?, true)),
        }
    }

    fn summary(&mut self, function: u64) -> Option<&Summary> {
        if !self.seen.contains_key(&function) {
            if !self.functions.starts_at(function) {
                return None;
            }
            let range = self.functions.containing(self.elf, function)?;
            let hints = Hints {
                pairs: self.pairs,
                given_by: Some(&|function| self.accessors.place(function)),
            };
            let summary = summarize_with(self.elf, hints, &range, self.budget);
            self.budget -= summary.instructions.min(self.budget);
            self.seen.insert(function, summary);
        }
        self.seen.get(&function)
    }
}

/// The id words that a function replaces. In the tagged form the tag is set to 1 and the next word
/// is replaced; the offset is then the tag's. `whole_pairs`: the tag may be replaced by a variable too.
fn replaced(summary: &Summary, whole_pairs: bool) -> BTreeSet<(i64, bool)> {
    let tags: BTreeSet<i64> = summary.tag_swaps.iter().copied().collect();
    summary
        .swaps
        .iter()
        .filter_map(|&word| {
            let is_second = whole_pairs && summary.swaps.contains(&(word - 8));
            if is_second || tags.contains(&(word - 8)) {
                Some((word - 8, true))
            } else if summary.swaps.contains(&(word - 8)) || summary.swaps.contains(&(word + 8)) {
                // Two words replaced by variables: the drop of the tagged form, or something else.
                None
            } else {
                Some((word, false))
            }
        })
        .collect()
}

/// Small fields of `Context` that have a spelling of their own in the code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SmallFields {
    /// The EnterRuntime byte and how many places agree. It is compared with 2 (`is_entered`) and then
    /// set to 2 (`NotEntered`), as `EnterRuntimeGuard::drop` and `block_in_place` do (tokio
    /// `runtime/context/runtime.rs`, since 1.25).
    pub(super) entered: Option<(i64, usize)>,
    /// The cooperative budget and how many places agree. It is set to `Some(128)` before each poll
    /// (tokio `task/coop`).
    pub(super) budget: Option<(i64, usize)>,
}

/// Finds the small fields, in functions that use thread-locals. A field is `None` unless exactly one
/// place qualifies.
pub(super) fn find_small_fields(
    elf: &Elf<'_>,
    pairs: Option<&TlsPairs>,
    code: &CodeRanges,
) -> SmallFields {
    let Some(functions) = Functions::read(elf) else {
        return SmallFields::default();
    };
    // In a library a call gives the place of a thread-local: no instruction of its own tells.
    let direct = if pairs.is_none() {
        let hints = Hints::default();
        let ranges = code
            .iter()
            .flat_map(|code| using_thread_locals(elf, &functions, code));
        small_fields_of(elf, hints, ranges)
    } else {
        SmallFields::default()
    };
    if direct.entered.is_some() && direct.budget.is_some() {
        return direct;
    }
    let accessors = Accessors::new(elf, functions, pairs);
    let hints = Hints {
        pairs,
        given_by: Some(&|function| accessors.place(function)),
    };
    let is_code = |range: &Range<u64>| code.contains(range.start);
    let all = small_fields_of(elf, hints, functions.all(elf).filter(is_code));
    SmallFields {
        entered: direct.entered.or(all.entered),
        budget: direct.budget.or(all.budget),
    }
}

fn small_fields_of(
    elf: &Elf<'_>,
    hints: Hints<'_>,
    ranges: impl Iterator<Item = Range<u64>>,
) -> SmallFields {
    let (mut entered, mut budgets) = (BTreeMap::new(), BTreeMap::new());
    let mut left = TEXT_BUDGET;
    for range in ranges {
        let bytes = bytes_at(elf, range.start).unwrap_or_default();
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let body = &bytes[..bytes.len().min(length)];
        if !resets_a_byte(body) && !fills_a_budget(body) {
            continue;
        }
        let summary = summarize_with(elf, hints, &range, left);
        left -= summary.instructions.min(left);
        for field in summary.resets {
            *entered.entry(field).or_default() += 1;
        }
        for field in summary.budgets {
            *budgets.entry(field).or_default() += 1;
        }
        if left == 0 {
            return SmallFields::default();
        }
    }
    SmallFields {
        entered: only(entered),
        budget: only(budgets),
    }
}

/// The functions of a range of code that name a thread-local themselves.
fn using_thread_locals<'s>(
    elf: &'s Elf<'_>,
    functions: &'s Functions<'_>,
    (start, end): (u64, u64),
) -> impl Iterator<Item = Range<u64>> + 's {
    let bytes = bytes_at(elf, start).unwrap_or_default();
    let length = usize::try_from(end - start).unwrap_or(usize::MAX);
    let bytes = &bytes[..bytes.len().min(length)];
    let mut done = start;
    memchr_iter(0x64, bytes).filter_map(move |at| {
        let address = start + at as u64;
        if address < done || !is_thread_local_access(&bytes[at..]) {
            return None;
        }
        let range = functions.containing(elf, address)?;
        done = range.end;
        Some(range)
    })
}

/// The one entry of a tally.
fn only(tally: BTreeMap<i64, usize>) -> Option<(i64, usize)> {
    let mut entries = tally.into_iter();
    entries.next().filter(|_| entries.next().is_none())
}

/// Whether bytes that start with the FS prefix look like an instruction with a memory operand.
fn is_thread_local_access(bytes: &[u8]) -> bool {
    let Some(&[_, a, b, c]) = bytes.first_chunk::<4>() else {
        return false;
    };
    let (opcode, modrm) = if a & 0xf0 == 0x40 { (b, c) } else { (a, b) };
    let known = matches!(
        opcode,
        0x03 | 0x0f | 0x38 | 0x3a | 0x80 | 0x83 | 0x88..=0x8b | 0xc6 | 0xc7
    );
    known && (opcode == 0x0f || modrm >> 6 != 3)
}

/// Whether code may compare a byte with 2 and then set it to 2: a cheap filter before decoding.
fn resets_a_byte(body: &[u8]) -> bool {
    memchr_iter(0xc6, body).any(|at| {
        // `movb $2, memory` is C6 /0: ModRM, SIB, displacement of 0, 1 or 4 bytes, the immediate.
        let Some(&modrm) = body.get(at + 1) else {
            return false;
        };
        let sib = usize::from(modrm & 7 == 4);
        let displacement = match (modrm >> 6, modrm & 7) {
            (0, 4) if body.get(at + 2).is_some_and(|sib| sib & 7 == 5) => 4,
            (0, 5) | (3, _) => return false,
            (0, _) => 0,
            (1, _) => 1,
            _ => 4,
        };
        let immediate = at + 2 + sib + displacement;
        if modrm & 0x38 != 0 || body.get(immediate) != Some(&2) {
            return false;
        }
        // Shortly before it, an immediate 2 after `cmp al`, after `cmp reg` or after a displacement.
        let last = body[immediate - 1];
        body[at.saturating_sub(32)..at]
            .windows(2)
            .any(|w| w[1] == 2 && (w[0] == 0x3c || w[0] >= 0xf8 || w[0] == last))
    })
}

/// Whether code may set a word to `Some(128)`: 66, perhaps 64 and REX, C7, and the value at the end.
fn fills_a_budget(body: &[u8]) -> bool {
    memmem::find_iter(body, &FULL_BUDGET.to_le_bytes())
        .any(|at| body[at.saturating_sub(9)..at].contains(&0xc7))
}
