//! Compilation units of debug information. What is read of each (abbreviations above all) takes far more
//! memory than its entries, so it is kept of few.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gimli::{
    DebugAbbrev, DebugLineOffset, Dwarf, IncompleteLineProgram, LittleEndian, Section as _, Unit,
    UnitHeader,
};

use super::dies::{Die, Slice};

/// Units of one file: a large service has some thousand.
const MAX_UNITS: usize = 200_000;
/// Units that are kept at once: some 30 KB each of a file as rustc writes it.
const MAX_READ: usize = 256;
/// Bytes of one unit's abbreviations: some hundred, as a rule.
const MAX_ABBREVIATIONS: usize = 64 << 10;
/// A damaged file may make every unit expensive.
const MAX_TIME: Duration = Duration::from_mins(1);

/// A unit that was read, without its line table: those of a large program take much memory, and few are asked
/// for.
#[derive(Debug)]
pub(super) struct ReadUnit<'a> {
    pub(super) unit: Unit<Slice<'a>>,
    lines: Option<DebugLineOffset>,
}

/// A unit's place and its line table.
type Lines<'a> = (usize, Rc<IncompleteLineProgram<Slice<'a>>>);

/// All units of one file.
#[derive(Debug)]
pub(super) struct Units<'a> {
    dwarf: &'a Dwarf<Slice<'a>>,
    /// By their start.
    headers: Vec<UnitHeader<Slice<'a>>>,
    /// `None`: damaged.
    read: RefCell<HashMap<usize, Option<Rc<ReadUnit<'a>>>>>,
    /// The line table that was asked for last.
    lines: RefCell<Option<Lines<'a>>>,
    until: Instant,
    /// Units were left out: there are too many, or one has too much, or it takes too long.
    is_cut: Cell<bool>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Slice<'a>>) -> Self {
        let mut headers = Vec::new();
        let mut all = dwarf.units();
        while let Ok(Some(header)) = all.next()
            && headers.len() < MAX_UNITS
        {
            headers.push(header);
        }
        headers.sort_by_key(start);
        Self {
            dwarf,
            is_cut: Cell::new(headers.len() >= MAX_UNITS),
            headers,
            read: RefCell::default(),
            lines: RefCell::default(),
            until: Instant::now() + MAX_TIME,
        }
    }

    /// Whether units were left out.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Each in turn, without keeping it. Damaged ones are left out.
    pub(super) fn each(&self) -> impl Iterator<Item = ReadUnit<'a>> {
        self.headers.iter().filter_map(|header| self.read(*header))
    }

    fn read(&self, header: UnitHeader<Slice<'a>>) -> Option<ReadUnit<'a>> {
        if Instant::now() >= self.until {
            self.is_cut.set(true);
            return None;
        }
        // No farther than a table may be long: gimli has no bound of its own.
        let all = self.dwarf.debug_abbrev.reader().slice();
        let end = header.debug_abbrev_offset().0 + MAX_ABBREVIATIONS;
        let part = all.get(..end.min(all.len()))?;
        let found = header.abbreviations(&DebugAbbrev::new(part, LittleEndian));
        if found.is_err() && part.len() < all.len() {
            self.is_cut.set(true);
        }
        let abbreviations = found.ok()?;
        let mut unit =
            Unit::new_with_abbreviations(self.dwarf, header, Arc::new(abbreviations)).ok()?;
        let lines = unit
            .line_program
            .take()
            .map(|table| table.header().offset());
        Some(ReadUnit { unit, lines })
    }

    /// The unit at a place.
    pub(super) fn get(&self, place: usize) -> Option<Rc<ReadUnit<'a>>> {
        let mut read = self.read.borrow_mut();
        if let Some(unit) = read.get(&place) {
            return unit.clone();
        }
        let unit = self.read(*self.headers.get(place)?).map(Rc::new);
        // Damaged ones cost nothing to keep.
        if unit.is_some() && read.len() >= MAX_READ {
            let any = read.iter().find(|(_, unit)| unit.is_some());
            if let Some(any) = any.map(|(place, _)| *place) {
                read.remove(&any);
            }
        }
        read.insert(place, unit.clone());
        unit
    }

    /// The place of the unit that an entry lies in.
    pub(super) fn place(&self, die: Die) -> Option<usize> {
        let after = self
            .headers
            .partition_point(|header| start(header) <= die.0);
        after.checked_sub(1)
    }

    /// That unit.
    pub(super) fn of(&self, die: Die) -> Option<Rc<ReadUnit<'a>>> {
        self.get(self.place(die)?)
    }

    /// The line table of the unit at a place: it names the source files.
    pub(super) fn lines(
        &self,
        place: usize,
        read: &ReadUnit<'a>,
    ) -> Option<Rc<IncompleteLineProgram<Slice<'a>>>> {
        let mut last = self.lines.borrow_mut();
        if let Some((_, lines)) = last.as_ref().filter(|(known, _)| *known == place) {
            return Some(Rc::clone(lines));
        }
        let unit = &read.unit;
        let table = self.dwarf.debug_line.program(
            read.lines?,
            unit.header.address_size(),
            unit.comp_dir,
            unit.name,
        );
        let lines = Rc::new(table.ok()?);
        *last = Some((place, Rc::clone(&lines)));
        Some(lines)
    }
}

/// Where a unit starts in `.debug_info`.
pub(super) fn start(header: &UnitHeader<Slice<'_>>) -> usize {
    header
        .debug_info_offset()
        .map_or(usize::MAX, |offset| offset.0)
}
