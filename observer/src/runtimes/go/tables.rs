//! Where the Go tables lie in an executable: `.gopclntab`, the module data, and a few variables.
//!
//! Addresses here are file virtual addresses: a position-independent program adds its load bias.

use std::ops::Range;

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};

use super::pclntab::{MAGIC_118, MAGIC_120, Pclntab, PclntabError};
use crate::model::Reason;
use crate::sys::elf::{self, Elf};

/// Names of the section, in position-independent builds too (Go 1.18 to 1.25 / 1.26 and later).
const SECTIONS: &[&str] = &[".gopclntab", ".data.rel.ro.gopclntab"];
/// `moduledata.text`, the same in Go 1.18 to 1.27 (`src/runtime/symtab.go`, measured by DWARF).
const MODULE_TEXT: u64 = 176;
/// `R_X86_64_RELATIVE` (System V ABI, AMD64 supplement).
const R_RELATIVE: u64 = 8;
/// Bytes of writable data that are searched for the module data.
const SCAN_LIMIT: usize = 64 << 20;

/// Addresses of runtime variables, from the symbol table; `None` in stripped executables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variables {
    /// `runtime.allgs`.
    pub allgs: Option<u64>,
    /// `runtime.g0`.
    pub g0: Option<u64>,
    /// `runtime.m0`.
    pub m0: Option<u64>,
    /// `runtime.allm`.
    pub allm: Option<u64>,
    /// `runtime.gomaxprocs`.
    pub gomaxprocs: Option<u64>,
    /// `runtime.sched`.
    pub sched: Option<u64>,
    /// `runtime.allp`.
    pub allp: Option<u64>,
    /// `runtime.tlsg`: an offset in the TLS block.
    pub tlsg: Option<u64>,
    module: Option<u64>,
}

/// What was found in an executable.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Bytes of the file that hold the function table.
    range: Range<usize>,
    /// `moduledata.text`.
    text: u64,
    /// `moduledata.gofunc`, base of the inlining trees, when the version's layout is known.
    pub gofunc: Option<u64>,
    /// `Function::id` of what the compiler makes to call the function of a `go` or `defer` statement, in
    /// the versions that do not tell it by the name.
    pub wrapper: Option<u8>,
    /// Variables by symbol.
    pub variables: Variables,
    /// How it was found, one clause.
    pub evidence: &'static str,
}

impl Tables {
    /// Finds the tables. `minor` is the 26 of Go 1.26, when known.
    ///
    /// # Errors
    /// The reason when there is no usable function table.
    pub fn find(elf: &Elf<'_>, file: &[u8], minor: Option<u32>) -> Result<Self, Reason> {
        let variables = variables(elf);
        let (address, range, evidence) =
            locate(elf, file).ok_or(Reason::new("the executable has no Go function table"))?;
        let data = file
            .get(range.clone())
            .ok_or(Reason::new("the Go function table lies outside the file"))?;
        let wrap = |e: PclntabError| Reason::with(e.to_string());
        Pclntab::parse(data, Some(0)).map_err(wrap)?;
        let module = module_data(elf, address, variables.module);
        let header_text = Pclntab::header_text(data).filter(|&t| is_code(elf, t));
        let text = module
            .and_then(|m| word_at(elf, m.wrapping_add(MODULE_TEXT)))
            .filter(|&t| is_code(elf, t))
            .or(header_text)
            .ok_or(Reason::new("the start of the Go code could not be found"))?;
        let gofunc = module
            .zip(minor.and_then(gofunc_offset))
            .and_then(|(m, offset)| word_at(elf, m.wrapping_add(offset)));
        Ok(Self {
            range,
            text,
            gofunc,
            wrapper: minor.and_then(wrapper_id),
            variables,
            evidence,
        })
    }

    /// The function table over the file's bytes.
    pub fn pclntab<'a>(&self, file: &'a [u8]) -> Option<Pclntab<'a>> {
        Pclntab::parse(file.get(self.range.clone())?, Some(self.text)).ok()
    }

    /// Address of the first Go function.
    pub fn text(&self) -> u64 {
        self.text
    }
}

/// `funcID_wrapper`: Go 1.18.10, 1.19.13, 1.20.14 (`src/runtime/symtab.go`) and 1.21.13
/// (`src/internal/abi/symtab.go`). Later ones have `gowrap` in the name.
fn wrapper_id(minor: u32) -> Option<u8> {
    (18..=21).contains(&minor).then_some(21)
}

/// `moduledata.gofunc`, measured by DWARF of Go 1.18.10 to 1.27.3.
fn gofunc_offset(minor: u32) -> Option<u64> {
    match minor {
        18 | 19 => Some(304),
        20..=26 => Some(320),
        27 => Some(344),
        _ => None,
    }
}

fn locate(elf: &Elf<'_>, file: &[u8]) -> Option<(u64, Range<usize>, &'static str)> {
    for name in SECTIONS {
        if let Some(section) = elf.section_by_name(name)
            && let Some((offset, size)) = section.file_range()
        {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(size).ok()?)?;
            return Some((
                section.address(),
                start..end.min(file.len()),
                "function table by section name",
            ));
        }
    }
    // No section headers: the table is aligned and opens with a pattern that is hard to miss.
    elf.segments().find_map(|segment| {
        let data = segment.data().ok()?;
        let at = (0..data.len().saturating_sub(8)).step_by(8).find(|&at| {
            data[at + 4..at + 8] == [0, 0, 1, 8]
                && [MAGIC_118, MAGIC_120]
                    .iter()
                    .any(|m| data[at..at + 4] == m.to_le_bytes())
                && Pclntab::parse(&data[at..], Some(0)).is_ok_and(|t| !t.is_empty())
        })?;
        let start = usize::try_from(segment.file_range().0)
            .ok()?
            .checked_add(at)?;
        let end = start.checked_add(data.len() - at)?;
        Some((
            segment.address().wrapping_add(at as u64),
            start..end,
            "function table by its magic number",
        ))
    })
}

fn variables(elf: &Elf<'_>) -> Variables {
    let mut found = Variables::default();
    for symbol in elf.symbols() {
        let Ok(name) = symbol.name_bytes() else {
            continue;
        };
        let Some(name) = name.strip_prefix(b"runtime.") else {
            continue;
        };
        let slot = match name {
            b"allgs" => &mut found.allgs,
            b"g0" => &mut found.g0,
            b"m0" => &mut found.m0,
            b"allm" => &mut found.allm,
            b"gomaxprocs" => &mut found.gomaxprocs,
            b"sched" => &mut found.sched,
            b"allp" => &mut found.allp,
            b"tlsg" => &mut found.tlsg,
            b"firstmoduledata" => &mut found.module,
            _ => continue,
        };
        *slot = Some(symbol.address());
    }
    found
}

/// The module data: by section (Go 1.26 and later), symbol, relocation, or the pointer to the
/// function table that it opens with.
fn module_data(elf: &Elf<'_>, pclntab: u64, symbol: Option<u64>) -> Option<u64> {
    let points_back = |address: &u64| {
        word_at(elf, *address) == Some(pclntab)
            && word_at(elf, address.wrapping_add(MODULE_TEXT))
                .is_some_and(|text| is_code(elf, text))
    };
    elf.section_by_name(".go.module")
        .map(|s| s.address())
        .filter(points_back)
        .or(symbol.filter(points_back))
        .or_else(|| {
            relocations(elf)
                .filter(|&(_, addend)| addend == pclntab)
                .map(|(at, _)| at)
                .find(points_back)
        })
        .or_else(|| scan(elf, pclntab).find(points_back))
}

fn scan<'a>(elf: &'a Elf<'a>, word: u64) -> impl Iterator<Item = u64> + 'a {
    let needle = word.to_le_bytes();
    elf.segments()
        .filter(|s| s.permissions().writable())
        .filter_map(|s| Some((s.address(), s.data().ok()?)))
        .flat_map(move |(address, data)| {
            data[..data.len().min(SCAN_LIMIT)]
                .chunks_exact(8)
                .enumerate()
                .filter(move |(_, chunk)| *chunk == needle)
                .map(move |(i, _)| address.wrapping_add(8 * i as u64))
        })
}

/// Relative relocations: where they apply and what they put there.
fn relocations<'a>(elf: &'a Elf<'a>) -> impl Iterator<Item = (u64, u64)> + 'a {
    [".rela", ".rela.dyn"]
        .into_iter()
        .filter_map(|name| elf.section_by_name(name)?.data().ok())
        .flat_map(|data| data.chunks_exact(24))
        .filter_map(|entry| {
            let word = |i: usize| Some(u64::from_le_bytes(entry.get(i..i + 8)?.try_into().ok()?));
            (word(8)? & 0xffff_ffff == R_RELATIVE).then_some((word(0)?, word(16)?))
        })
}

/// The word that the program sees at `address` (less the load bias): its file part, or what a
/// relocation puts there.
pub fn word_at(elf: &Elf<'_>, address: u64) -> Option<u64> {
    let bytes = elf::bytes_at(elf, address)?;
    match u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) {
        0 => relocations(elf)
            .find(|&(at, _)| at == address)
            .map(|(_, addend)| addend),
        word => Some(word),
    }
}

/// Whether an executable segment holds `address`.
pub fn is_code(elf: &Elf<'_>, address: u64) -> bool {
    elf.segments().any(|s| {
        s.permissions().executable()
            && address
                .checked_sub(s.address())
                .is_some_and(|offset| offset < s.size())
    })
}
