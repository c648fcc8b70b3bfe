//! The layout of tokio's thread-local `CONTEXT` from debug information, when the program has it.
//! Only tokio's own compilation units are read, and of those a bounded number of entries.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, EndianSlice, LittleEndian, Operation, Unit,
};

use crate::sys::elf::{Elf, section};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// Entries read at most, over all units.
const MAX_ENTRIES: usize = 2_000_000;

/// What debug information says. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContextLayout {
    /// From the start of the executable's TLS block to `Context`.
    pub(super) context: u64,
    /// `Context::current_task_id`.
    pub(super) id: u64,
    /// Size of that field's type: 8 or 16.
    pub(super) id_size: Option<u64>,
    /// `Context::runtime` (EnterRuntime).
    pub(super) entered: Option<u64>,
    /// `Context::budget` (the cooperative budget).
    pub(super) budget: Option<u64>,
}

/// Reads the layout; `None` when there is no debug information of tokio.
pub(super) fn context_layout(elf: &Elf<'_>) -> Option<ContextLayout> {
    let load = |id: gimli::SectionId| -> Result<_, gimli::Error> {
        Ok(section(elf, id.name()).map(|s| s.1).unwrap_or_default())
    };
    section(elf, ".debug_info").filter(|s| !s.1.is_empty())?;
    let sections = gimli::DwarfSections::load(load).ok()?;
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    let mut budget = MAX_ENTRIES;
    let mut found = Found::default();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Ok(unit) = dwarf.unit(header) else {
            continue;
        };
        let is_tokio = unit.name.is_some_and(|name| is_tokio_unit(name.slice()));
        if is_tokio && read_unit(&dwarf, &unit, &mut budget, &mut found).is_err() {
            continue;
        }
        if let (Some(context), Some((id, id_size)), true) = (found.context, found.id, budget > 0) {
            return Some(ContextLayout {
                context,
                id,
                id_size,
                entered: found.entered,
                budget: found.budget,
            });
        }
        // Both come from one unit: a type of another copy must not be joined with this static.
        found = Found::default();
    }
    None
}

/// The type arguments of the functions that start at `polls`, from names such as
/// `poll<app::handler::{async_fn_env#0}, alloc::sync::Arc<..Handle>>`.
pub(super) fn poll_arguments(elf: &Elf<'_>, polls: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    if section(elf, ".debug_info").is_none_or(|s| s.1.is_empty()) {
        return found;
    }
    let load = |id: gimli::SectionId| -> Result<_, gimli::Error> {
        Ok(section(elf, id.name()).map(|s| s.1).unwrap_or_default())
    };
    let Ok(sections) = gimli::DwarfSections::load(load) else {
        return found;
    };
    let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    let mut budget = MAX_ENTRIES;
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Ok(unit) = dwarf.unit(header) else {
            continue;
        };
        let mut entries = unit.entries();
        while let Ok(Some(entry)) = entries.next_dfs() {
            budget -= 1;
            if budget == 0 || found.len() == polls.len() {
                return found;
            }
            if entry.tag() != gimli::DW_TAG_subprogram {
                continue;
            }
            let start = entry
                .attr_value(gimli::DW_AT_low_pc)
                .and_then(|v| dwarf.attr_address(&unit, v).ok().flatten());
            let Some(start) = start.filter(|start| polls.contains(start)) else {
                continue;
            };
            let named = entry.attr_value(gimli::DW_AT_name).is_some();
            let origin = if named {
                None
            } else {
                origin_entry(&unit, entry)
            };
            let text = name(&dwarf, &unit, origin.as_ref().unwrap_or(entry))
                .and_then(|name| String::from_utf8(name).ok());
            let arguments = text
                .as_deref()
                .and_then(|text| text.strip_prefix("poll<")?.strip_suffix('>'));
            if let Some(arguments) = arguments {
                found.insert(start, arguments.to_owned());
            }
        }
    }
    found
}

/// The declaration that a function's entry completes.
fn origin_entry<'a>(unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<Entry<'a>> {
    let value = entry
        .attr_value(gimli::DW_AT_specification)
        .or_else(|| entry.attr_value(gimli::DW_AT_abstract_origin))?;
    match value {
        AttributeValue::UnitRef(offset) => unit.entry(offset).ok(),
        _ => None,
    }
}

/// rustc names a unit `<crate root>/@/<crate>.<hash>-cgu.N`.
fn is_tokio_unit(name: &[u8]) -> bool {
    memchr::memmem::find(name, b"/@/tokio.").is_some()
}

#[derive(Debug, Default)]
struct Found {
    context: Option<u64>,
    id: Option<(u64, Option<u64>)>,
    entered: Option<u64>,
    budget: Option<u64>,
}

fn read_unit(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    budget: &mut usize,
    found: &mut Found,
) -> gimli::Result<()> {
    // The names of the namespaces above the current entry, by depth.
    let mut path: Vec<Option<Vec<u8>>> = Vec::new();
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        *budget = budget.saturating_sub(1);
        if *budget == 0 {
            return Ok(());
        }
        let depth = usize::try_from(entry.depth()).unwrap_or(0);
        path.truncate(depth);
        let is_namespace = entry.tag() == gimli::DW_TAG_namespace;
        let own = if is_namespace {
            name(dwarf, unit, entry)
        } else {
            None
        };
        let under = |wanted: &[&[u8]]| {
            let names: Vec<&[u8]> = path.iter().flatten().map(Vec::as_slice).collect();
            names.starts_with(wanted)
        };
        match entry.tag() {
            gimli::DW_TAG_structure_type
                if under(&[b"tokio", b"runtime", b"context"])
                    && path.iter().flatten().count() == 3
                    && name(dwarf, unit, entry).as_deref() == Some(b"Context") =>
            {
                for (member, offset, size) in members(dwarf, unit, entry)? {
                    match member.as_slice() {
                        b"current_task_id" => found.id = Some((offset, size)),
                        b"runtime" => found.entered = Some(offset),
                        b"budget" => found.budget = Some(offset),
                        _ => {}
                    }
                }
            }
            gimli::DW_TAG_variable if under(&[b"tokio", b"runtime", b"context", b"CONTEXT"]) => {
                if let Some(address) = thread_local_address(unit, entry)
                    && matches!(
                        name(dwarf, unit, entry).as_deref(),
                        Some(b"__RUST_STD_INTERNAL_VAL" | b"VAL" | b"__KEY")
                    )
                {
                    let inner = value_offset(dwarf, unit, entry).unwrap_or(0);
                    found.context = address.checked_add(inner);
                }
            }
            _ => {}
        }
        path.resize(depth, None);
        path.push(own);
    }
    Ok(())
}

fn name(dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>, entry: &Entry<'_>) -> Option<Vec<u8>> {
    let value = entry.attr_value(gimli::DW_AT_name)?;
    Some(dwarf.attr_string(unit, value).ok()?.slice().to_vec())
}

/// Name, offset, size of the type.
type Member = (Vec<u8>, u64, Option<u64>);

/// The members of a structure.
fn members(
    dwarf: &Dwarf<Slice<'_>>,
    unit: &Unit<Slice<'_>>,
    entry: &Entry<'_>,
) -> gimli::Result<Vec<Member>> {
    let mut tree = unit.entries_tree(Some(entry.offset()))?;
    let mut children = tree.root()?.children();
    let mut found = Vec::new();
    while let Some(child) = children.next()? {
        let child = child.entry();
        if child.tag() != gimli::DW_TAG_member || found.len() >= 64 {
            continue;
        }
        if let (Some(name), Some(offset)) = (
            name(dwarf, unit, child),
            child
                .attr_value(gimli::DW_AT_data_member_location)
                .and_then(|v| v.udata_value()),
        ) {
            let size = type_entry(unit, child)
                .and_then(|t| t.attr_value(gimli::DW_AT_byte_size)?.udata_value());
            found.push((name, offset, size));
        }
    }
    Ok(found)
}

fn type_entry<'a>(unit: &Unit<Slice<'a>>, entry: &Entry<'a>) -> Option<Entry<'a>> {
    match entry.attr_value(gimli::DW_AT_type)? {
        AttributeValue::UnitRef(offset) => unit.entry(offset).ok(),
        _ => None,
    }
}

/// `DW_OP_const8u offset; DW_OP_form_tls_address` (or the GNU form).
fn thread_local_address(unit: &Unit<Slice<'_>>, entry: &Entry<'_>) -> Option<u64> {
    let AttributeValue::Exprloc(expression) = entry.attr_value(gimli::DW_AT_location)? else {
        return None;
    };
    let mut operations = expression.operations(unit.encoding());
    let address = match operations.next().ok()?? {
        Operation::UnsignedConstant { value } => value,
        Operation::Address { address } => address,
        _ => return None,
    };
    matches!(operations.next().ok()??, Operation::TLS).then_some(address)
}

/// Where std's storage type keeps the value: `val` of `eager::Storage`, `value` of `lazy::Storage`;
/// 0 when the static is the value itself (std `sys/thread_local/native`, several generations).
fn value_offset<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    unit: &Unit<Slice<'a>>,
    entry: &Entry<'a>,
) -> Option<u64> {
    let storage = type_entry(unit, entry)?;
    if name(dwarf, unit, &storage)?.starts_with(b"Context") {
        return Some(0);
    }
    members(dwarf, unit, &storage)
        .ok()?
        .into_iter()
        .find(|m| m.0 == b"val" || m.0 == b"value")
        .map(|m| m.1)
}
