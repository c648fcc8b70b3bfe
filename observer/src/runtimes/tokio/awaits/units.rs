//! Compilation units of debug information. What is read of each (abbreviations above all) takes far more
//! memory than its entries, so it is kept of few.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use gimli::{Dwarf, Unit, UnitHeader};

use super::dies::{Die, Slice};

/// Units that are kept at once: some 30 KB each.
const MAX_READ: usize = 256;

/// All units of one file.
#[derive(Debug)]
pub(super) struct Units<'a> {
    dwarf: &'a Dwarf<Slice<'a>>,
    /// By their start.
    headers: Vec<UnitHeader<Slice<'a>>>,
    read: RefCell<HashMap<usize, Rc<Unit<Slice<'a>>>>>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Slice<'a>>) -> Self {
        let mut headers = Vec::new();
        let mut all = dwarf.units();
        while let Ok(Some(header)) = all.next() {
            headers.push(header);
        }
        headers.sort_by_key(start);
        Self {
            dwarf,
            headers,
            read: RefCell::default(),
        }
    }

    /// Each in turn, without keeping it. Damaged ones are left out.
    pub(super) fn each(&self) -> impl Iterator<Item = Unit<Slice<'a>>> {
        let headers = self.headers.iter();
        headers.filter_map(|header| self.dwarf.unit(*header).ok())
    }

    /// The unit at a place.
    pub(super) fn get(&self, place: usize) -> Option<Rc<Unit<Slice<'a>>>> {
        let mut read = self.read.borrow_mut();
        if let Some(unit) = read.get(&place) {
            return Some(unit.clone());
        }
        let unit = Rc::new(self.dwarf.unit(*self.headers.get(place)?).ok()?);
        if read.len() >= MAX_READ {
            read.clear();
        }
        read.insert(place, unit.clone());
        Some(unit)
    }

    /// The unit that an entry lies in, and its place.
    pub(super) fn of(&self, die: Die) -> Option<(usize, Rc<Unit<Slice<'a>>>)> {
        let after = self
            .headers
            .partition_point(|header| start(header) <= die.0);
        let place = after.checked_sub(1)?;
        Some((place, self.get(place)?))
    }
}

/// Where a unit starts in `.debug_info`.
pub(super) fn start(header: &UnitHeader<Slice<'_>>) -> usize {
    header
        .debug_info_offset()
        .map_or(usize::MAX, |offset| offset.0)
}
