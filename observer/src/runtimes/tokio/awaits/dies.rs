//! Debug information as entries that refer to each other, and one bounded pass over all of them that
//! finds what the rest begins with: the polls of tasks, their memory, the vtables of boxes.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

use gimli::{
    Abbreviation, AttributeValue, DebugInfoOffset, Dwarf, EndianSlice, EntriesRaw, LittleEndian,
    Operation, Unit,
};

pub(super) use super::node::Node;
use super::tables::{Table, trait_of_table};
use super::units::{self, Units};
use crate::sys::elf::ElfImage;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Entries looked at in all: 100 MB of debug information are some 8 million.
const MAX_ENTRIES: usize = 80_000_000;
/// Entries after which the pages that were read are let go of: about a megabyte of entries, with what they
/// name elsewhere.
const RELEASE_EVERY: usize = 1 << 16;
/// Entries of one kind that are kept.
const MAX_KEPT: usize = 262_144;
/// Members, variants or parameters of one entry.
const MAX_CHILDREN: usize = 4096;
/// Namespaces of one unit that are kept.
const MAX_SCOPES: usize = 1 << 20;

/// Namespaces in each other.
const MAX_NESTED: usize = 256;
/// Names below an `impl` block, of functions that can tell its type.
const MAX_BELOW_BLOCK: usize = 8;

/// Functions of one `impl` block that are compared: two versions of a crate may have two blocks
/// with one number.
const MAX_SAMPLES: usize = 8;

/// Where an entry lies in `.debug_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Die(pub(super) usize);

/// The entries of one file.
#[derive(Debug)]
pub(super) struct Dies<'a> {
    dwarf: &'a Dwarf<Slice<'a>>,
    units: Units<'a>,
    /// Namespaces by unit, read when a path in it is first asked for.
    scopes: HashMap<usize, Scopes<'a>>,
    /// The file, whose pages count as memory of the observer while they are read.
    image: Option<&'a ElfImage>,
    /// Entries that may still be looked at.
    budget: Cell<usize>,
}

/// Namespaces of a unit, in order of their start.
#[derive(Debug, Default)]
struct Scopes<'a> {
    all: Vec<Scope<'a>>,
}

#[derive(Debug)]
struct Scope<'a> {
    start: usize,
    end: usize,
    parent: Option<usize>,
    name: &'a [u8],
}

/// What the pass over all entries finds.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    /// Functions by where they start.
    pub(super) functions: HashMap<u64, Vec<Die>>,
    /// `tokio::runtime::task::core::Core<T, S>` by the text of its arguments.
    pub(super) cores: HashMap<&'a [u8], Vec<Die>>,
    /// Vtables of traits that are of interest.
    pub(super) tables: Vec<Table<'a>>,
    /// `impl` blocks have numbers only; the symbol of a function in one tells more. By [`fold`] over
    /// the block's path: such a function of each unit, and how many names deeper it lies.
    pub(super) blocks: HashMap<u64, Vec<(Die, usize)>>,
    /// Whether any structure is described.
    pub(super) has_types: bool,
}

impl<'a> Dies<'a> {
    pub(super) fn new(dwarf: &'a Dwarf<Slice<'a>>, image: Option<&'a ElfImage>) -> Self {
        Self {
            dwarf,
            units: Units::new(dwarf),
            scopes: HashMap::new(),
            image,
            budget: Cell::new(MAX_ENTRIES),
        }
    }

    pub(super) fn index(&self, wanted: &BTreeSet<u64>) -> Index<'a> {
        let mut index = Index::default();
        for read in self.units.each() {
            // A damaged unit ends early; the others count all the same.
            self.index_unit(&read.unit, wanted, &mut index).ok();
            if self.budget.get() == 0 {
                break;
            }
        }
        index
    }

    fn index_unit(
        &self,
        unit: &Unit<Slice<'a>>,
        wanted: &BTreeSet<u64>,
        index: &mut Index<'a>,
    ) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        // Namespaces that are open: depth, path, whether it is an `impl` block.
        let mut open: Vec<(isize, u64, bool)> = Vec::new();
        while !entries.is_empty() {
            if self.spend().is_none() {
                return Ok(());
            }
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            while open.last().is_some_and(|(above, ..)| *above >= depth) {
                open.pop();
            }
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            let specs = abbreviation.attributes();
            let telling = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => {
                    if open.last().is_some_and(|(above, ..)| above + 1 == depth)
                        && specs.iter().any(|s| s.name() == gimli::DW_AT_linkage_name)
                        && let Some(at) = absolute(unit, offset)
                    {
                        let mut around = open.iter().rev().take(MAX_BELOW_BLOCK).enumerate();
                        if let Some((steps, (_, path, _))) =
                            around.find(|(_, (.., is_block))| *is_block)
                            && index.blocks.len() < MAX_KEPT
                        {
                            let known = index.blocks.entry(*path).or_default();
                            let is_new = known
                                .last()
                                .is_none_or(|(die, _)| die.0 < units::start(&unit.header));
                            if is_new && known.len() < MAX_SAMPLES {
                                known.push((at, steps + 1));
                            }
                        }
                    }
                    gimli::DW_AT_low_pc
                }
                gimli::DW_TAG_structure_type | gimli::DW_TAG_namespace => gimli::DW_AT_name,
                gimli::DW_TAG_variable => gimli::DW_AT_location,
                _ => {
                    entries.skip_attributes(specs)?;
                    continue;
                }
            };
            let mut found = [None, None, None];
            for spec in specs {
                let attribute = entries.read_attribute(*spec)?;
                let place = match attribute.name() {
                    name if name == telling => 0,
                    gimli::DW_AT_name => 1,
                    gimli::DW_AT_type => 2,
                    _ => continue,
                };
                if let Some(slot) = found.get_mut(place) {
                    *slot = Some(attribute.value());
                }
            }
            let [Some(first), name, of] = found else {
                continue;
            };
            let Some(at) = absolute(unit, offset) else {
                continue;
            };
            match abbreviation.tag() {
                gimli::DW_TAG_subprogram => {
                    let start = self.dwarf.attr_address(unit, first).ok().flatten();
                    if let Some(start) = start.filter(|start| wanted.contains(start)) {
                        push(index.functions.entry(start).or_default(), at);
                    }
                }
                gimli::DW_TAG_namespace => {
                    let around = open.last().map_or(0, |(_, path, _)| *path);
                    let name = self.text(unit, first).unwrap_or_default();
                    if open.len() < MAX_NESTED {
                        let is_block = name.starts_with(b"{impl#");
                        open.push((depth, fold(around, name), is_block));
                    }
                }
                gimli::DW_TAG_structure_type => {
                    index.has_types = true;
                    if let Some(arguments) = self
                        .text(unit, first)
                        .and_then(|name| name.strip_prefix(b"Core<")?.strip_suffix(b">"))
                        && index.cores.len() < MAX_KEPT
                    {
                        push(index.cores.entry(arguments).or_default(), at);
                    }
                }
                _ => {
                    if let (Some(name), Some(of)) = (name, of)
                        && let Some(of_trait) = self.text(unit, name).and_then(trait_of_table)
                        && let Some(address) = self.fixed_address(unit, first)
                        && let Some(of) = reference(unit, of)
                        && index.tables.len() < MAX_KEPT
                    {
                        index.tables.push(Table {
                            address,
                            of,
                            of_trait,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether something was left out: there is too much.
    pub(super) fn is_cut(&self) -> bool {
        self.budget.get() == 0 || self.units.is_cut()
    }

    /// From here on no more than `part` entries may be looked at, until [`Dies::give_back`] gets what this
    /// returns.
    pub(super) fn set_aside(&self, part: usize) -> usize {
        let all = self.budget.get();
        self.budget.set(part.min(all));
        all - self.budget.get()
    }

    /// False: all that were allowed meanwhile have been looked at.
    pub(super) fn give_back(&self, rest: usize) -> bool {
        let left = self.budget.get();
        self.budget.set(left + rest);
        left != 0
    }

    fn text(&self, unit: &Unit<Slice<'a>>, value: AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
        Some(self.dwarf.attr_string(unit, value).ok()?.slice())
    }

    /// `DW_OP_addr` (or `DW_OP_addrx`) alone.
    fn fixed_address(
        &self,
        unit: &Unit<Slice<'a>>,
        value: AttributeValue<Slice<'a>>,
    ) -> Option<u64> {
        let AttributeValue::Exprloc(expression) = value else {
            return None;
        };
        let mut operations = expression.operations(unit.encoding());
        let address = match operations.next().ok()?? {
            Operation::Address { address } => address,
            Operation::AddressIndex { index } => self.dwarf.address(unit, index).ok()?,
            _ => return None,
        };
        operations.next().ok()?.is_none().then_some(address)
    }

    pub(super) fn node(&self, die: Die) -> Option<Node<'a>> {
        let read = self.units.of(die)?;
        let unit = &read.unit;
        let offset = DebugInfoOffset(die.0).to_unit_offset(&unit.header)?;
        let mut entries = unit.entries_raw(Some(offset)).ok()?;
        let abbreviation = entries.read_abbreviation().ok()??;
        self.spend()?;
        self.read_node(unit, &mut entries, abbreviation, die).ok()
    }

    fn read_node(
        &self,
        unit: &Unit<Slice<'a>>,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &Abbreviation,
        die: Die,
    ) -> gimli::Result<Node<'a>> {
        let mut node = Node::new(die, abbreviation.tag());
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            let value = attribute.value();
            let number = |value: &AttributeValue<Slice<'a>>| match value {
                AttributeValue::FileIndex(index) => Some(*index),
                other => other
                    .udata_value()
                    .or(other.sdata_value().map(|s| s as u64)),
            };
            match attribute.name() {
                gimli::DW_AT_name => node.name = self.text(unit, value).unwrap_or_default(),
                gimli::DW_AT_type => node.of = reference(unit, value),
                gimli::DW_AT_byte_size => node.size = number(&value),
                gimli::DW_AT_data_member_location => node.offset = number(&value),
                gimli::DW_AT_discr_value => node.value = number(&value),
                gimli::DW_AT_discr_list => node.has_list = true,
                gimli::DW_AT_discr => node.discriminant = reference(unit, value),
                gimli::DW_AT_containing_type => node.containing = reference(unit, value),
                gimli::DW_AT_specification | gimli::DW_AT_abstract_origin => {
                    node.origin = reference(unit, value);
                }
                gimli::DW_AT_decl_file => node.file = number(&value),
                gimli::DW_AT_decl_line => node.line = number(&value),
                gimli::DW_AT_linkage_name => node.symbol = self.text(unit, value),
                _ => {}
            }
        }
        Ok(node)
    }

    /// Takes one entry from what may still be looked at.
    fn spend(&self) -> Option<()> {
        self.budget.set(self.budget.get().checked_sub(1)?);
        if self.budget.get().is_multiple_of(RELEASE_EVERY)
            && let Some(image) = self.image
        {
            image.release_pages();
        }
        Some(())
    }

    /// The entries directly below one.
    pub(super) fn children(&self, die: Die) -> Vec<Node<'a>> {
        let mut found = Vec::new();
        self.children_into(die, &mut found);
        found
    }

    fn children_into(&self, die: Die, found: &mut Vec<Node<'a>>) -> Option<()> {
        let read = self.units.of(die)?;
        let unit = &read.unit;
        let offset = DebugInfoOffset(die.0).to_unit_offset(&unit.header)?;
        let mut entries = unit.entries_raw(Some(offset)).ok()?;
        let parent = entries.read_abbreviation().ok()??;
        entries.skip_attributes(parent.attributes()).ok()?;
        if !parent.has_children() {
            return None;
        }
        let level = entries.next_depth();
        while !entries.is_empty() && entries.next_depth() >= level {
            self.spend()?;
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                continue;
            };
            if depth > level {
                entries.skip_attributes(abbreviation.attributes()).ok()?;
                continue;
            }
            let at = absolute(unit, offset)?;
            let node = self.read_node(unit, &mut entries, abbreviation, at).ok()?;
            found.push(node);
            if found.len() >= MAX_CHILDREN {
                return None;
            }
        }
        Some(())
    }

    /// A source file's name, as the compiler was given it.
    pub(super) fn file(&self, node: &Node<'_>) -> Option<String> {
        let place = self.units.place(node.die)?;
        let read = self.units.get(place)?;
        let lines = self.units.lines(place, &read)?;
        let (unit, header) = (&read.unit, lines.header());
        let file = header.file(node.file?)?;
        let text = |value| {
            let bytes = self.text(unit, value)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let name = std::path::PathBuf::from(text(file.path_name())?);
        let directory = file.directory(header).and_then(text).unwrap_or_default();
        let base = unit
            .comp_dir
            .map(|dir| String::from_utf8_lossy(dir.slice()).into_owned())
            .unwrap_or_default();
        let whole = std::path::Path::new(&base).join(directory).join(name);
        Some(whole.display().to_string())
    }

    /// The names of the namespaces around an entry, outermost first.
    pub(super) fn path(&mut self, die: Die) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        let Some(place) = self.units.place(die) else {
            return parts;
        };
        if !self.scopes.contains_key(&place) {
            let scopes = self.read_scopes(place);
            self.scopes.insert(place, scopes);
        }
        let Some(scopes) = self.scopes.get(&place) else {
            return parts;
        };
        let before = scopes.all.partition_point(|scope| scope.start <= die.0);
        let mut at = before.checked_sub(1);
        // Outwards until a namespace holds the entry, then all around that one.
        while let Some(scope) = at.and_then(|at| scopes.all.get(at)) {
            if scope.start < die.0 && die.0 < scope.end {
                parts.push(scope.name);
            }
            at = scope.parent;
        }
        parts.reverse();
        parts
    }

    fn read_scopes(&self, place: usize) -> Scopes<'a> {
        let mut scopes = Scopes::default();
        if let Some(read) = self.units.get(place) {
            self.read_scopes_into(&read.unit, &mut scopes.all).ok();
        }
        scopes
    }

    fn read_scopes_into(
        &self,
        unit: &Unit<Slice<'a>>,
        all: &mut Vec<Scope<'a>>,
    ) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        // Namespaces that are open, with their depth.
        let mut open: Vec<(isize, usize)> = Vec::new();
        while !entries.is_empty() {
            let (offset, depth) = (entries.next_offset(), entries.next_depth());
            let Some(at) = absolute(unit, offset).filter(|_| self.spend().is_some()) else {
                break;
            };
            while let Some(&(_, scope)) = open.last().filter(|(above, _)| *above >= depth) {
                open.pop();
                if let Some(scope) = all.get_mut(scope) {
                    scope.end = at.0;
                }
            }
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            let specs = abbreviation.attributes();
            match abbreviation.tag() {
                gimli::DW_TAG_namespace => {
                    let mut name: &[u8] = &[];
                    for spec in specs {
                        let attribute = entries.read_attribute(*spec)?;
                        if attribute.name() == gimli::DW_AT_name {
                            name = self.text(unit, attribute.value()).unwrap_or_default();
                        }
                    }
                    if all.len() >= MAX_SCOPES {
                        return Ok(());
                    }
                    let parent = open.last().map(|(_, scope)| *scope);
                    open.push((depth, all.len()));
                    all.push(Scope {
                        start: at.0,
                        end: usize::MAX,
                        parent,
                        name,
                    });
                }
                _ => entries.skip_attributes(specs)?,
            }
        }
        Ok(())
    }
}

/// Stands for a path of namespaces: that of what is around it, and the next name.
pub(super) fn fold(around: u64, name: &[u8]) -> u64 {
    // FNV-1a, 64 bits; a separator keeps `ab::c` and `a::bc` apart.
    let bytes = name.iter().copied().chain([0xff]);
    bytes.fold(around ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn push(list: &mut Vec<Die>, die: Die) {
    if list.len() < 64 {
        list.push(die);
    }
}

fn absolute(unit: &Unit<Slice<'_>>, offset: gimli::UnitOffset) -> Option<Die> {
    Some(Die(offset.to_debug_info_offset(&unit.header)?.0))
}

fn reference(unit: &Unit<Slice<'_>>, value: AttributeValue<Slice<'_>>) -> Option<Die> {
    match value {
        AttributeValue::UnitRef(offset) => absolute(unit, offset),
        AttributeValue::DebugInfoRef(offset) => Some(Die(offset.0)),
        _ => None,
    }
}
