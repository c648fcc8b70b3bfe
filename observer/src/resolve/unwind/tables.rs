//! Unwind tables of mapped files: where `.eh_frame_hdr` and `.eh_frame` lie, kept per file so that
//! processes of one program share them.
//!
//! Layout: LSB core, "Exception Frames". Found by program header (PT_GNU_EH_FRAME), because section
//! headers may be stripped.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use object::Endianness;
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::ProgramHeader as _;

use crate::model::{Pid, Reason};
use crate::sys::elf::{Elf, ElfImage, bytes_at, file_offset};
use crate::sys::modules::{CodeMapping, ModuleFile, ModuleId};

/// Files kept. Each holds one read-only mapping of a file; nothing is copied.
const MAX_FILES: usize = 512;

/// A part of a mapped file.
#[derive(Debug, Clone)]
pub(super) struct Part {
    image: Arc<ElfImage>,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.image
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }
}

/// What unwinding needs of one file. Addresses are as in the file.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) header: (u64, Part),
    pub(super) frames: (u64, Part),
    pub(super) image: Arc<ElfImage>,
}

impl Tables {
    /// Finds the tables.
    pub(super) fn read(image: Arc<ElfImage>) -> Result<Self, Reason> {
        let tables = Self::if_any(image)?;
        if tables.header.1.is_empty() {
            return Err(Reason::new(
                "a module has no .eh_frame_hdr, so its frames cannot be unwound",
            ));
        }
        Ok(tables)
    }

    /// The same, with empty tables where the file has none (musl's).
    fn if_any(image: Arc<ElfImage>) -> Result<Self, Reason> {
        let damaged = || Reason::with(format!("{} is damaged", image.path()));
        let elf = image.parse().map_err(|_| damaged())?;
        let Some((header, frames)) = locate(&elf) else {
            drop(elf);
            let none = Part {
                image: Arc::clone(&image),
                range: 0..0,
            };
            return Ok(Self {
                header: (0, none.clone()),
                frames: (0, none),
                image,
            });
        };
        let part = |address: u64| {
            let start = usize::try_from(file_offset(&elf, address)?).ok()?;
            let length = bytes_at(&elf, address)?.len();
            let range = start..start.checked_add(length)?;
            Some((
                address,
                Part {
                    image: Arc::clone(&image),
                    range,
                },
            ))
        };
        let header = part(header).ok_or_else(damaged)?;
        let frames = part(frames).ok_or_else(damaged)?;
        drop(elf);
        if !entries_are_in_frames(&header, frames.0) {
            return Err(damaged());
        }
        Ok(Self {
            header,
            frames,
            image,
        })
    }
}

/// Addresses of `.eh_frame_hdr` and `.eh_frame`.
pub(super) fn locate(elf: &Elf<'_>) -> Option<(u64, u64)> {
    let header = elf
        .elf_program_headers()
        .iter()
        .find(|p| p.p_type(Endianness::Little) == PT_GNU_EH_FRAME)?
        .p_vaddr(Endianness::Little);
    let data = bytes_at(elf, header)?;
    // version, encodings of: pointer to .eh_frame (pcrel sdata4), count (udata4), table (datarel
    // sdata4). Linkers write no others.
    let &[1, 0x1b, 0x03, 0x3b] = data.first_chunk::<4>()? else {
        return None;
    };
    let pointer = i32::from_le_bytes(*data.get(4..)?.first_chunk()?);
    let frames = header
        .checked_add(4)?
        .checked_add_signed(i64::from(pointer))?;
    Some((header, frames))
}

/// Whether every entry of the table points behind the start of `.eh_frame`: gimli 0.33 subtracts the
/// two without a check (`EhHdrTable::pointer_to_offset`).
fn entries_are_in_frames(header: &(u64, Part), frames: u64) -> bool {
    let count = header
        .1
        .get(8..12)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |c| u32::from_le_bytes(*c));
    header
        .1
        .get(12..)
        .unwrap_or_default()
        .chunks_exact(8)
        .take(count as usize)
        .all(|entry| {
            let fde = entry[4..]
                .first_chunk()
                .map_or(0, |b| i32::from_le_bytes(*b));
            header
                .0
                .checked_add_signed(i64::from(fde))
                .is_some_and(|address| address >= frames)
        })
}

/// Tables by file.
#[derive(Debug, Default)]
pub struct TableCache {
    files: HashMap<ModuleId, Result<Arc<Tables>, Reason>>,
}

impl TableCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Files known.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no file is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The tables of the file behind a mapping.
    pub(super) fn tables(
        &mut self,
        pid: Pid,
        mapping: &CodeMapping,
    ) -> Result<Arc<Tables>, Reason> {
        let file = ModuleFile::open(pid, mapping)?;
        if let Some(known) = self.files.get(&file.id()) {
            return known.clone();
        }
        if self.files.len() >= MAX_FILES {
            // Which ones are still in use is known to the unwinders that hold them.
            self.files.retain(|_, tables| {
                tables
                    .as_ref()
                    .is_ok_and(|tables| Arc::strong_count(tables) > 1)
            });
            if self.files.len() >= MAX_FILES {
                return Err(Reason::new(
                    "too many different files are mapped to unwind them all",
                ));
            }
        }
        let tables = file
            .image()
            .and_then(|image| Tables::if_any(Arc::new(image)))
            .map(Arc::new);
        self.files.insert(file.id(), tables.clone());
        tables
    }
}
