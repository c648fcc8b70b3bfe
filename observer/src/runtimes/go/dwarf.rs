//! Offsets of the runtime's structures from a program's own debug information, for versions that
//! are not in the table. Bounded in time and size.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gimli::{AttributeValue, Dwarf, EndianSlice, LittleEndian};

use super::offsets::GoOffsets;
use super::sched::SchedOffsets;
use crate::model::Reason;
use crate::sys::elf::{self, Elf};

/// Time for the whole search.
const BUDGET: Duration = Duration::from_millis(500);
/// Entries between two looks at the clock.
const STRIDE: u32 = 4096;
/// Structures that are looked for.
const STRUCTURES: &[&str] = &[
    "runtime.g",
    "runtime.m",
    "runtime.sudog",
    "runtime.hchan",
    "runtime.timer",
    "runtime.pollDesc",
];
/// Those of the scheduler.
const SCHEDULER: &[&str] = &["runtime.schedt", "runtime.p", "runtime.gQueue"];

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Fields = HashMap<(&'static str, String), u32>;

/// Reads the offsets.
///
/// # Errors
/// The reason when there is no debug information, it is damaged, or a field is not in it.
pub fn offsets(elf: &Elf<'_>) -> Result<GoOffsets, Reason> {
    let fields = collect(elf, STRUCTURES)?;
    let get = |structure, field: &str| field_of(&fields, structure, field);
    let optional = |field: &str| fields.get(&("runtime.g", field.to_owned())).copied();
    Ok(GoOffsets {
        g_m: get("runtime.g", "m")?,
        g_stack: get("runtime.g", "stack")?,
        g_sched: get("runtime.g", "sched")?,
        g_syscallsp: get("runtime.g", "syscallsp")?,
        g_status: get("runtime.g", "atomicstatus")?,
        g_goid: get("runtime.g", "goid")?,
        g_waitreason: get("runtime.g", "waitreason")?,
        g_tracking: get("runtime.g", "trackingSeq")?,
        g_lockedm: get("runtime.g", "lockedm")?,
        g_parent: optional("parentGoid"),
        g_gopc: get("runtime.g", "gopc")?,
        g_startpc: get("runtime.g", "startpc")?,
        g_waiting: get("runtime.g", "waiting")?,
        g_timer: get("runtime.g", "timer")?,
        g_sleep_when: optional("sleepWhen"),
        m_procid: get("runtime.m", "procid")?,
        m_tls: get("runtime.m", "tls")?,
        m_curg: get("runtime.m", "curg")?,
        sudog_waitlink: get("runtime.sudog", "waitlink")?,
        sudog_c: get("runtime.sudog", "c")?,
        hchan_recvq: get("runtime.hchan", "recvq")?,
        timer_when: get("runtime.timer", "when")?,
        poll_rg: get("runtime.pollDesc", "rg")?,
    })
}

/// Reads the offsets of the scheduler's structures.
///
/// # Errors
/// As [`offsets`].
pub fn sched_offsets(elf: &Elf<'_>) -> Result<SchedOffsets, Reason> {
    let fields = collect(elf, SCHEDULER)?;
    let sched = |field: &str| field_of(&fields, "runtime.schedt", field);
    let p = |field: &str| field_of(&fields, "runtime.p", field);
    Ok(SchedOffsets {
        lastpoll: sched("lastpoll")?,
        lock: sched("lock")?,
        nmidle: sched("nmidle")?,
        mnext: sched("mnext")?,
        nmfreed: sched("nmfreed")?,
        npidle: sched("npidle")?,
        nmspinning: sched("nmspinning")?,
        runqsize: match sched("runqsize") {
            Ok(offset) => offset,
            Err(_) => sched("runq")? + field_of(&fields, "runtime.gQueue", "size")?,
        },
        time_to_run: sched("timeToRun")?,
        p_runqhead: p("runqhead")?,
        p_runnext: p("runnext")?,
    })
}

fn field_of(fields: &Fields, structure: &'static str, field: &str) -> Result<u32, Reason> {
    fields
        .get(&(structure, field.to_owned()))
        .copied()
        .ok_or_else(|| Reason::with(format!("debug information lacks {structure}.{field}")))
}

fn collect(elf: &Elf<'_>, structures: &[&'static str]) -> Result<Fields, Reason> {
    let damaged = |e: gimli::Error| Reason::with(format!("the debug information is damaged: {e}"));
    let sections: HashMap<_, _> = [
        gimli::SectionId::DebugInfo,
        gimli::SectionId::DebugAbbrev,
        gimli::SectionId::DebugStr,
        gimli::SectionId::DebugLineStr,
    ]
    .into_iter()
    .filter_map(|id| Some((id.name(), elf::section(elf, id.name())?.1)))
    .collect();
    if !sections.contains_key(gimli::SectionId::DebugInfo.name()) {
        return Err(Reason::new("the executable has no debug information"));
    }
    let dwarf = Dwarf::load(|id| {
        let data = sections.get(id.name()).map_or(&[][..], |data| data);
        Ok::<Slice<'_>, gimli::Error>(EndianSlice::new(data, LittleEndian))
    })
    .map_err(damaged)?;

    let started = Instant::now();
    let mut found = Fields::new();
    let mut missing: Vec<&'static str> = structures.to_vec();
    let mut steps = 0_u32;
    let mut units = dwarf.units();
    while let Some(header) = units.next().map_err(damaged)? {
        let abbreviations = dwarf.abbreviations(&header).map_err(damaged)?;
        let mut entries = header.entries(&abbreviations);
        // The structure whose members are being read, and its depth.
        let mut current: Option<(&'static str, isize)> = None;
        while let Some(entry) = entries.next_dfs().map_err(damaged)? {
            steps += 1;
            if steps.is_multiple_of(STRIDE) && started.elapsed() > BUDGET {
                return Err(Reason::new(
                    "the debug information is too large to search in time",
                ));
            }
            let depth = entry.depth();
            let name = || {
                match entry.attr_value(gimli::DW_AT_name)? {
                    AttributeValue::String(name) => Some(name),
                    AttributeValue::DebugStrRef(at) => dwarf.string(at).ok(),
                    AttributeValue::DebugLineStrRef(at) => dwarf.line_string(at).ok(),
                    // Indexed strings: the Go linker does not write them.
                    _ => None,
                }
            };
            if let Some((_, at)) = current
                && depth <= at
            {
                current = None;
                if missing.is_empty() {
                    return Ok(found);
                }
            }
            match entry.tag() {
                gimli::DW_TAG_structure_type => {
                    if let Some(name) = name()
                        && let Some(i) = missing.iter().position(|m| m.as_bytes() == name.slice())
                    {
                        current = Some((missing.swap_remove(i), depth));
                    }
                }
                gimli::DW_TAG_member => {
                    if let Some((structure, at)) = current
                        && depth == at + 1
                        && let Some(name) = name()
                        && let Some(offset) = entry
                            .attr_value(gimli::DW_AT_data_member_location)
                            .and_then(constant)
                    {
                        let name = String::from_utf8_lossy(name.slice()).into_owned();
                        found.insert((structure, name), offset);
                    }
                }
                _ => {}
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
    }
    Ok(found)
}

/// A member's offset: a constant, or the expression `DW_OP_plus_uconst n` of older writers.
fn constant(value: AttributeValue<Slice<'_>>) -> Option<u32> {
    if let Some(n) = value.udata_value() {
        return u32::try_from(n).ok();
    }
    let AttributeValue::Exprloc(expression) = value else {
        return None;
    };
    let (&op, rest) = expression.0.slice().split_first()?;
    if op != gimli::DW_OP_plus_uconst.0 {
        return None;
    }
    let n = gimli::leb128::read::unsigned(&mut EndianSlice::new(rest, LittleEndian)).ok()?;
    u32::try_from(n).ok()
}
