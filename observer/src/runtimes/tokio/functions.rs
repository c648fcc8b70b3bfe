//! Function boundaries without symbols: the sorted table in `.eh_frame_hdr`, which every Rust program
//! for x86-64 Linux has (unwind tables are on by default, with `panic = "abort"` too).
//!
//! Layout: LSB core, "Exception Frames" (`.eh_frame_hdr`, FDE).

use std::ops::Range;

use object::Endianness;
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::ProgramHeader as _;

use crate::sys::elf::{Elf, bytes_at};

/// A function longer than this is not decoded whole (bytes).
const MAX_FUNCTION: u64 = 1 << 20;

/// The table: pairs of (start, FDE), relative to the table's own header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Functions<'a> {
    header: u64,
    /// The pairs, 8 bytes each.
    table: &'a [u8],
}

impl<'a> Functions<'a> {
    /// Reads the table; `None` when there is none in the one encoding that linkers write.
    pub(super) fn read(elf: &Elf<'a>) -> Option<Self> {
        let header = elf
            .elf_program_headers()
            .iter()
            .find(|p| p.p_type(Endianness::Little) == PT_GNU_EH_FRAME)?
            .p_vaddr(Endianness::Little);
        let data = bytes_at(elf, header)?;
        // version 1, eh_frame_ptr: any 4-byte form, count: udata4, table: datarel sdata4.
        let &[1, _, 0x03, 0x3b] = data.first_chunk::<4>()? else {
            return None;
        };
        let count = u32::from_le_bytes(*data.get(8..)?.first_chunk()?) as usize;
        let table = data.get(12..)?;
        let table = &table[..table.len().min(count.checked_mul(8)?)];
        Some(Self { header, table })
    }

    fn pair(&self, i: usize) -> Option<(u64, u64)> {
        let pair = self.table.get(i * 8..i * 8 + 8)?;
        let relative = |bytes: &[u8]| {
            let offset = bytes.first_chunk().map_or(0, |b| i32::from_le_bytes(*b));
            self.header.wrapping_add_signed(i64::from(offset))
        };
        Some((relative(&pair[..4]), relative(&pair[4..])))
    }

    /// How many functions there are.
    pub(super) fn len(&self) -> usize {
        self.table.len() / 8
    }

    /// Whether a function starts exactly at `addr`: an instruction boundary for certain.
    pub(super) fn starts_at(&self, addr: u64) -> bool {
        self.index(addr)
            .and_then(|i| self.pair(i))
            .is_some_and(|p| p.0 == addr)
    }

    /// All functions, in the order of the table.
    pub(super) fn all<'s>(&'s self, elf: &'s Elf<'_>) -> impl Iterator<Item = Range<u64>> + 's {
        (0..self.len()).filter_map(|i| self.range(elf, i))
    }

    /// The function that holds `addr`, as far as its FDE says (at most `MAX_FUNCTION` bytes).
    pub(super) fn containing(&self, elf: &Elf<'_>, addr: u64) -> Option<Range<u64>> {
        self.range(elf, self.index(addr)?)
            .filter(|range| addr < range.end)
    }

    fn range(&self, elf: &Elf<'_>, i: usize) -> Option<Range<u64>> {
        let (start, fde) = self.pair(i)?;
        // FDE: length, CIE pointer, pc_begin (4 bytes), pc_range (4 bytes).
        let length = bytes_at(elf, fde)
            .and_then(|b| b.get(12..16)?.first_chunk().copied())
            .map_or(0, u32::from_le_bytes);
        let end = start.checked_add(u64::from(length).min(MAX_FUNCTION))?;
        Some(start..end)
    }

    /// Index of the last function that starts at or before `addr`.
    fn index(&self, addr: u64) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.pair(middle)?.0 <= addr {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }
}
