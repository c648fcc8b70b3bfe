//! Functions that give the place of a thread-local: where size counts (`opt-level = "z"`) rustc does not
//! inline what `LocalKey::with` asks, so that the instructions of a poll name no thread-local themselves.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::sys::elf::Elf;

use super::flow::{Hints, summarize_with};
use super::functions::Functions;
use super::locals::TlsPairs;

/// Longer functions do more than that (bytes).
const MAX_LENGTH: u64 = 256;
/// Instructions that all their bytes can be.
const MAX_INSTRUCTIONS: usize = 256;

/// The functions of a file, each looked at when first asked for.
pub(super) struct Accessors<'a, 'e> {
    elf: &'a Elf<'e>,
    functions: Functions<'e>,
    pairs: Option<&'a TlsPairs>,
    known: RefCell<HashMap<u64, Option<i64>>>,
}

impl<'a, 'e> Accessors<'a, 'e> {
    pub(super) fn new(
        elf: &'a Elf<'e>,
        functions: Functions<'e>,
        pairs: Option<&'a TlsPairs>,
    ) -> Self {
        Self {
            elf,
            functions,
            pairs,
            known: RefCell::default(),
        }
    }

    /// The thread-local whose place the function at `address` gives: bytes from the thread pointer, in a
    /// library from the start of its block. `None` for any other function.
    pub(super) fn place(&self, address: u64) -> Option<i64> {
        if let Some(known) = self.known.borrow().get(&address) {
            return *known;
        }
        let place = self.look(address);
        self.known.borrow_mut().insert(address, place);
        place
    }

    fn look(&self, address: u64) -> Option<i64> {
        let range = self.functions.containing(self.elf, address)?;
        if range.start != address || range.end - range.start > MAX_LENGTH {
            return None;
        }
        let hints = Hints {
            pairs: self.pairs,
            given_by: None,
        };
        summarize_with(self.elf, hints, &range, MAX_INSTRUCTIONS).gives
    }
}
