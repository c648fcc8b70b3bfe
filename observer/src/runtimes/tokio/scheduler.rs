//! Which runtime a worker belongs to: the handle of its scheduler, in the thread-local `CONTEXT`.
//!
//! `Context::current` holds `RefCell<Option<scheduler::Handle>>`, an enum of two `Arc`s (tokio
//! `runtime/context.rs`, `runtime/scheduler/mod.rs`): a word that tells which, then the pointer. rustc
//! chooses where that lies, so it is looked for around the task id, in the live threads: the one
//! place where every worker has 0 or 1 and a pointer to an `Arc`'s counts, the same in some of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::memory::Memory;
use crate::model::{Known, Reason, Tid};
use crate::runtimes::TokioReader;

use super::locals::locals_of;
use super::threads::ThreadBase;

/// How far around the id the handle is looked for, in bytes (`Context` has 80 in tokio 1.54).
const REACH: i64 = 96;
/// More references than this are no count.
const MAX_COUNT: u64 = 1 << 32;
/// `None` of `Option<scheduler::Handle>`, an enum of two variants (tokio `runtime/scheduler/mod.rs`).
const NO_HANDLE: u64 = 2;
/// `scheduler::Handle::CurrentThread`: the first variant.
const CURRENT_THREAD: u64 = 0;

/// The runtime of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeOf {
    /// Address of its handle: the same for all threads of one runtime.
    pub handle: u64,
    /// It has one worker only, the thread that calls `block_on`.
    pub current_thread: bool,
}

/// The runtimes of threads that were seen inside one.
pub fn runtimes_of(
    reader: &TokioReader,
    threads: &[ThreadBase],
    memory: &dyn Memory,
) -> Known<BTreeMap<Tid, RuntimeOf>> {
    let places = places(reader, threads, memory);
    if places.is_empty() {
        return Known::Known(BTreeMap::new());
    }
    let mut candidates = candidates(reader, &places, memory);
    match (candidates.next(), candidates.next()) {
        (Some(found), None) => Known::Known(found),
        (Some(_), Some(_)) => Known::Unknown(Reason::new(
            "several words of the thread-local context look like the scheduler's handle",
        )),
        (None, _) => {
            Known::unknown("the scheduler's handle was not found in the thread-local context")
        }
    }
}

/// Every address that may be a scheduler's handle, for callers that can tell by what is there. Threads
/// may be among `threads` that are inside no runtime.
pub(super) fn possible_handles(
    reader: &TokioReader,
    threads: &[ThreadBase],
    memory: &dyn Memory,
) -> BTreeSet<u64> {
    let places = places(reader, threads, memory);
    let mut found = BTreeSet::new();
    for place in (-REACH..REACH).step_by(8) {
        let offset = reader.id_offset.wrapping_add(place);
        let all: Option<Vec<Option<RuntimeOf>>> = places
            .iter()
            .map(|(_, base)| match handle(*base, offset, memory) {
                Some(runtime) => Some(Some(runtime)),
                None => is_none(*base, offset, memory).then_some(None),
            })
            .collect();
        found.extend(all.into_iter().flatten().flatten().map(|of| of.handle));
    }
    found
}

/// Whether a thread has no handle at an offset: `None` is 2, and where the context is made when first
/// used (1.23) it is 0 until then.
fn is_none(base: u64, offset: i64, memory: &dyn Memory) -> bool {
    let at = base.wrapping_add_signed(offset);
    let words = (memory.read_u64(at), memory.read_u64(at.wrapping_add(8)));
    matches!(words, (Ok(NO_HANDLE), Ok(_)) | (Ok(0), Ok(0)))
}

/// From where the offsets count in each thread that has used these thread-locals.
fn places(reader: &TokioReader, threads: &[ThreadBase], memory: &dyn Memory) -> Vec<(Tid, u64)> {
    threads
        .iter()
        .filter_map(|t| Some((t.tid, locals_of(reader.locals, t.base, memory).ok()??)))
        .collect()
}

/// For each word around the id the handles that lie there, when every thread has one.
fn candidates<'a>(
    reader: &TokioReader,
    places: &'a [(Tid, u64)],
    memory: &'a dyn Memory,
) -> impl Iterator<Item = BTreeMap<Tid, RuntimeOf>> + 'a {
    let id = reader.id_offset;
    (-REACH..REACH).step_by(8).filter_map(move |place| {
        let offset = id.wrapping_add(place);
        places
            .iter()
            .map(|(tid, base)| Some((*tid, handle(*base, offset, memory)?)))
            .collect()
    })
}

/// The handle at an offset from where a thread's thread-locals are counted, if that is what lies there.
fn handle(base: u64, offset: i64, memory: &dyn Memory) -> Option<RuntimeOf> {
    let at = base.wrapping_add_signed(offset);
    let (tag, pointer) = (
        memory.read_u64(at).ok()?,
        memory.read_u64(at.wrapping_add(8)).ok()?,
    );
    // An `Arc` is allocated, aligned at least as malloc does.
    if tag > 1 || pointer % 16 != 0 || !(0x1_0000..1 << 47).contains(&pointer) {
        return None;
    }
    let counts = [pointer, pointer.wrapping_add(8)];
    for count in counts {
        if !(1..MAX_COUNT).contains(&memory.read_u64(count).ok()?) {
            return None;
        }
    }
    Some(RuntimeOf {
        handle: pointer,
        current_thread: tag == CURRENT_THREAD,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::memory::ReadError;
    use crate::runtimes::{ThreadLocals, TokioIdForm};
    use std::collections::HashMap;

    /// Words by address.
    struct Words(HashMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let word = self.0.get(&addr).ok_or(ReadError::Unmapped(addr))?;
            buf.copy_from_slice(&word.to_le_bytes()[..buf.len()]);
            Ok(())
        }
    }

    const READER: TokioReader = TokioReader {
        locals: ThreadLocals::Static,
        id_offset: -64,
        id_form: TokioIdForm::NonZero,
        entered_offset: None,
        budget_offset: None,
    };

    /// Two workers of one runtime and one thread of another, with the handle 40 bytes before the id.
    fn process() -> (Vec<ThreadBase>, HashMap<u64, u64>) {
        let mut words = HashMap::from([
            (0x7000_0000_0000, 24),
            (0x7000_0000_0008, 1),
            (0x7000_0000_1000, 3),
            (0x7000_0000_1008, 1),
        ]);
        let mut bases = Vec::new();
        let threads = [
            (5, 1, 0x7000_0000_0000),
            (6, 1, 0x7000_0000_0000),
            (7, 0, 0x7000_0000_1000),
        ];
        for (tid, tag, handle) in threads {
            let base = 0x7f00_0000_0000 + u64::from(tid) * 0x10000;
            for place in (-200..40).step_by(8) {
                words.insert(base.wrapping_add_signed(place), 0);
            }
            words.insert(base - 104, tag);
            words.insert(base - 96, handle);
            bases.push(ThreadBase {
                tid: Tid(tid),
                base,
            });
        }
        (bases, words)
    }

    #[test]
    fn workers_are_told_apart_by_their_handle() {
        let (bases, words) = process();
        let found = runtimes_of(&READER, &bases, &Words(words));
        let found = found.known().unwrap();
        let of = |tid| found[&Tid(tid)];
        assert_eq!(of(5), of(6));
        assert_ne!(of(5), of(7));
        assert!(of(7).current_thread && !of(5).current_thread);
    }

    #[test]
    fn two_likely_places_or_none_are_not_told_apart() {
        let (bases, mut words) = process();
        for thread in &bases {
            words.insert(thread.base - 40, 0x7000_0000_0000);
        }
        assert!(
            runtimes_of(&READER, &bases, &Words(words))
                .known()
                .is_none()
        );
        // A handle without references is none.
        let (bases, mut words) = process();
        words.insert(0x7000_0000_1000, 0);
        assert!(
            runtimes_of(&READER, &bases, &Words(words))
                .known()
                .is_none()
        );
        assert!(
            runtimes_of(&READER, &bases, &Words(HashMap::new()))
                .known()
                .is_none()
        );
    }
}
