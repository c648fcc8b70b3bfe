//! Code pointers in a program's data, found without section headers or symbols: relocations
//! (`R_X86_64_RELATIVE` in RELA, RELR) of position-independent files, plain words of the others.
//!
//! Layouts: System V gABI (`Elf64_Dyn`, `Elf64_Rela`, `Elf64_Relr`), psABI x86-64 relocation types.

use object::Endianness;
use object::elf::{ET_DYN, ET_EXEC, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::sys::elf::{Elf, bytes_at};

/// More code pointers than any real program has (a 40 MB one has some 300 000).
const MAX_POINTERS: usize = 4 << 20;
/// `DF_1_PIE`: an executable that is position-independent (Solaris and GNU extension).
const DF_1_PIE: u64 = 0x0800_0000;
/// `R_X86_64_RELATIVE`: base + addend.
const RELATIVE: u32 = 8;

/// The address ranges (as in the file) that are loaded executable.
#[derive(Debug, Clone, Default)]
pub(super) struct CodeRanges(Vec<(u64, u64)>);

impl CodeRanges {
    /// Reads the program headers.
    pub(super) fn new(elf: &Elf<'_>) -> Self {
        Self(
            elf.elf_program_headers()
                .iter()
                .filter(|p| p.p_type(Endianness::Little) == PT_LOAD)
                .filter(|p| p.p_flags(Endianness::Little) & PF_X != 0)
                .map(|p| {
                    let start = p.p_vaddr(Endianness::Little);
                    (start, start.saturating_add(p.p_filesz(Endianness::Little)))
                })
                .collect(),
        )
    }

    /// Whether an address is code.
    pub(super) fn contains(&self, addr: u64) -> bool {
        self.0
            .iter()
            .any(|&(start, end)| (start..end).contains(&addr))
    }

    /// The ranges.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// Where code pointers lie and what they point to, in address order.
#[derive(Debug, Clone, Default)]
pub(super) struct CodePointers {
    entries: Vec<(u64, u64)>,
    /// What was left out, if the file holds more than is kept.
    pub(super) truncated: bool,
}

impl CodePointers {
    /// Collects them.
    pub(super) fn read(elf: &Elf<'_>, code: &CodeRanges) -> Self {
        let mut found = Self::default();
        if elf.elf_header().e_type(Endianness::Little) == ET_EXEC {
            found.read_plain_words(elf, code);
        } else {
            found.read_relocations(elf, code);
        }
        // Linkers sort relative relocations (`-z combreloc`), so this is normally only a check.
        if !found.entries.is_sorted_by_key(|e| e.0) {
            found.entries.sort_unstable_by_key(|e| e.0);
        }
        found.entries.dedup_by_key(|e| e.0);
        found
    }

    /// All of them.
    pub(super) fn entries(&self) -> &[(u64, u64)] {
        &self.entries
    }

    /// What the word at `addr` points to, when it is a code pointer.
    pub(super) fn at(&self, addr: u64) -> Option<u64> {
        let i = self.entries.binary_search_by_key(&addr, |e| e.0).ok()?;
        Some(self.entries[i].1)
    }

    fn push(&mut self, code: &CodeRanges, at: u64, target: u64) {
        if !code.contains(target) {
            return;
        }
        if self.entries.len() < MAX_POINTERS {
            self.entries.push((at, target));
        } else {
            self.truncated = true;
        }
    }

    fn read_plain_words(&mut self, elf: &Elf<'_>, code: &CodeRanges) {
        for header in elf.elf_program_headers() {
            let start = header.p_vaddr(Endianness::Little);
            if header.p_type(Endianness::Little) != PT_LOAD || code.contains(start) {
                continue;
            }
            let Ok(data) = header.data(Endianness::Little, elf.data()) else {
                continue;
            };
            let skip = start.wrapping_neg() as usize % 8;
            for (i, word) in data
                .get(skip..)
                .unwrap_or_default()
                .chunks_exact(8)
                .enumerate()
            {
                let at = start.wrapping_add((skip + i * 8) as u64);
                self.push(code, at, le64(word));
            }
        }
    }

    fn read_relocations(&mut self, elf: &Elf<'_>, code: &CodeRanges) {
        let Some(dynamic) = DynamicTable::read(elf) else {
            return;
        };
        // RELR first: their words are in the file, in place.
        for at in relr_addresses(dynamic.relr(elf)) {
            if let Some(word) = bytes_at(elf, at).and_then(|b| b.get(..8)) {
                self.push(code, at, le64(word));
            }
        }
        for rela in dynamic.rela(elf).chunks_exact(24) {
            if le64(&rela[8..16]) as u32 == RELATIVE {
                self.push(code, le64(&rela[..8]), le64(&rela[16..]));
            }
        }
    }
}

/// Whether a file is a library: position-independent, without an interpreter, and not marked as an
/// executable (`DF_1_PIE`, which static ones carry).
pub(super) fn is_shared_object(elf: &Elf<'_>) -> bool {
    let has_interpreter = elf
        .elf_program_headers()
        .iter()
        .any(|p| p.p_type(Endianness::Little) == PT_INTERP);
    let marked = DynamicTable::read(elf).is_some_and(|table| table.flags_1 & DF_1_PIE != 0);
    elf.elf_header().e_type(Endianness::Little) == ET_DYN && !has_interpreter && !marked
}

/// The entries of PT_DYNAMIC that are used here. Relocations are (address, size).
#[derive(Debug, Default)]
pub(super) struct DynamicTable {
    rela: (u64, u64),
    plt: (u64, u64),
    relr: (u64, u64),
    flags_1: u64,
}

impl DynamicTable {
    pub(super) fn read(elf: &Elf<'_>) -> Option<Self> {
        let header = elf
            .elf_program_headers()
            .iter()
            .find(|p| p.p_type(Endianness::Little) == PT_DYNAMIC)?;
        let data = header.data(Endianness::Little, elf.data()).ok()?;
        let mut table = Self::default();
        for entry in data.chunks_exact(16).take(256) {
            let value = le64(&entry[8..]);
            match le64(&entry[..8]) {
                0 => break,
                2 => table.plt.1 = value,
                23 => table.plt.0 = value,
                7 => table.rela.0 = value,
                8 => table.rela.1 = value,
                35 => table.relr.1 = value,
                36 => table.relr.0 = value,
                0x6fff_fffb => table.flags_1 = value,
                _ => {}
            }
        }
        Some(table)
    }

    /// DT_RELA.
    pub(super) fn rela<'a>(&self, elf: &Elf<'a>) -> &'a [u8] {
        slice(elf, self.rela)
    }

    /// DT_JMPREL: where some linkers put TLS descriptors.
    pub(super) fn plt<'a>(&self, elf: &Elf<'a>) -> &'a [u8] {
        slice(elf, self.plt)
    }

    fn relr<'a>(&self, elf: &Elf<'a>) -> &'a [u8] {
        slice(elf, self.relr)
    }
}

/// The part of `[addr, addr + size)` that the file holds.
fn slice<'a>(elf: &Elf<'a>, (addr, size): (u64, u64)) -> &'a [u8] {
    let data = bytes_at(elf, addr).unwrap_or_default();
    &data[..data.len().min(usize::try_from(size).unwrap_or(usize::MAX))]
}

/// The addresses that packed relocations name: an even word is an address, an odd one a bitmap of
/// the 63 words after the last (gABI, `SHT_RELR`).
fn relr_addresses(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut next = 0_u64;
    table
        .chunks_exact(8)
        .flat_map(move |word| {
            let word = le64(word);
            let (base, bits) = if word & 1 == 0 {
                let base = word;
                next = word.wrapping_add(8);
                (base, 1)
            } else {
                let base = next;
                next = next.wrapping_add(63 * 8);
                (base, word >> 1)
            };
            (0..63_u64)
                .filter(move |i| bits >> i & 1 == 1)
                .map(move |i| base.wrapping_add(i * 8))
        })
        .take(MAX_POINTERS)
}

/// A little-endian word; 0 when `bytes` is shorter, which callers rule out by `chunks_exact`.
pub(super) fn le64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_relocations_expand_as_the_abi_says() {
        let words = [0x1000_u64, 0b1011, 0x2000];
        let table: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let all: Vec<u64> = relr_addresses(&table).collect();
        assert_eq!(all, [0x1000, 0x1008, 0x1018, 0x2000]);
    }
}
