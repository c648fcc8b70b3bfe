//! An ELF file, mapped read-only and parsed with bounds checks (crate `object`).

use std::fs::File;
use std::path::Path;

use memmap2::{Mmap, MmapMut, UncheckedAdvice};
use object::elf::{FileHeader64, PF_X, PT_INTERP, PT_LOAD, PT_TLS};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object, ObjectSection, ObjectSegment};

/// Why a file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It could not be opened or mapped.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not a whole 64-bit little-endian ELF file.
    #[error("{path}: not a readable 64-bit ELF file: {message}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A 32-bit program.
    #[error("{path}: a 32-bit program: only x86-64 programs can be observed as tasks")]
    ThirtyTwoBit {
        /// The file.
        path: String,
    },
}

/// A mapped ELF file.
#[derive(Debug)]
pub struct ElfImage {
    path: String,
    data: Mmap,
    from_file: bool,
}

/// The parsed view; cheap to make (headers only).
pub type Elf<'a> = ElfFile64<'a, Endianness, &'a [u8]>;

impl ElfImage {
    /// Opens and maps `path`; checks that its headers parse.
    ///
    /// # Errors
    /// When it can not be opened or is not a 64-bit ELF file.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        let name = path.display().to_string();
        let io = |source| ElfError::Io {
            path: name.clone(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is private and read-only; a file that is truncated while mapped can
        // raise SIGBUS, which executables in use do not do (the kernel answers ETXTBSY to writers).
        let data = unsafe { Mmap::map(&file) }.map_err(io)?;
        let image = Self {
            path: name,
            data,
            from_file: true,
        };
        image.parse()?;
        Ok(image)
    }

    /// An image of bytes that are no file: a test's, a fuzzer's, a part of another process's memory.
    ///
    /// # Errors
    /// When they are not a 64-bit ELF file, or there is no memory for a copy.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, ElfError> {
        let io = |source| ElfError::Io {
            path: name.to_owned(),
            source,
        };
        // An empty mapping is an error of its own kind; such bytes are no ELF file either way.
        let mut copy = MmapMut::map_anon(bytes.len().max(1)).map_err(io)?;
        copy[..bytes.len()].copy_from_slice(bytes);
        let image = Self {
            path: name.to_owned(),
            data: copy.make_read_only().map_err(io)?,
            from_file: false,
        };
        image.parse()?;
        Ok(image)
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Lets go of the pages that were read so far: they stay in the system's cache of the file, and
    /// come back when they are read again. For an image that is kept, after it was searched as a whole.
    pub fn release_pages(&self) {
        if !self.from_file {
            return;
        }
        // SAFETY: a private, read-only mapping of a file that nothing was written to: what is dropped
        // is read from the file again.
        let advised = unsafe { self.data.unchecked_advise(UncheckedAdvice::DontNeed) };
        if let Err(error) = advised {
            tracing::debug!(path = self.path, %error, "pages are kept");
        }
    }

    /// Parses the headers.
    ///
    /// # Errors
    /// When it is not a 64-bit little-endian ELF file.
    pub fn parse(&self) -> Result<Elf<'_>, ElfError> {
        let data: &[u8] = &self.data;
        if data.starts_with(b"\x7fELF\x01") {
            return Err(ElfError::ThirtyTwoBit {
                path: self.path.clone(),
            });
        }
        ElfFile64::<Endianness>::parse(data).map_err(|e| ElfError::Format {
            path: self.path.clone(),
            message: e.to_string(),
        })
    }
}

/// The bytes that the loader puts at virtual address `addr` (as in the file, without bias), up to
/// the end of their segment's file part.
pub fn bytes_at<'a>(elf: &Elf<'a>, addr: u64) -> Option<&'a [u8]> {
    elf.segments().find_map(|segment| {
        let data = segment.data().ok()?;
        let offset = addr.checked_sub(segment.address())?;
        data.get(usize::try_from(offset).ok()?..)
            .filter(|rest| !rest.is_empty())
    })
}

/// The address (as in the file) that the first byte of an executable mapping shows, which begins at
/// `offset` in the file. Segments are mapped from page boundaries on; only executable ones count,
/// because a page that two segments share is mapped for each.
pub fn mapped_code(elf: &Elf<'_>, offset: u64) -> Option<u64> {
    let page = |x: u64| x & !0xfff;
    elf.elf_program_headers()
        .iter()
        .filter(|p| p.p_type(Endianness::Little) == PT_LOAD)
        .filter(|p| p.p_flags(Endianness::Little) & PF_X != 0)
        .find_map(|segment| {
            let (first, size) = segment.file_range(Endianness::Little);
            let inside = (page(first)..first.saturating_add(size)).contains(&offset);
            let address = segment.p_vaddr(Endianness::Little);
            inside.then(|| address.wrapping_sub(first).wrapping_add(offset))
        })
}

/// The file offset of virtual address `addr` (as in the file, without bias).
pub fn file_offset(elf: &Elf<'_>, addr: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (start, size) = segment.file_range();
        let offset = addr.checked_sub(segment.address())?;
        // A damaged file may place a segment anywhere.
        (offset < size).then(|| start.checked_add(offset)).flatten()
    })
}

/// A section's address and bytes (decompressed when the file holds it compressed).
pub fn section<'a>(elf: &Elf<'a>, name: &str) -> Option<(u64, std::borrow::Cow<'a, [u8]>)> {
    let section = elf.section_by_name(name)?;
    Some((section.address(), section.uncompressed_data().ok()?))
}

/// The lowest address that a PT_LOAD segment asks for: what a load bias is measured from.
pub fn base_address(elf: &Elf<'_>) -> Option<u64> {
    elf.segments().map(|s| s.address()).min()
}

/// Whether a program is loaded by another one (`ld.so`), which brings libraries.
pub fn has_interpreter(elf: &Elf<'_>) -> bool {
    let mut headers = elf.elf_program_headers().iter();
    headers.any(|p| p.p_type(Endianness::Little) == PT_INTERP)
}

/// Size of the program's own thread-locals, in bytes; 0 when it has none.
pub fn thread_locals_size(elf: &Elf<'_>) -> u64 {
    elf.elf_program_headers()
        .iter()
        .find(|p| p.p_type(Endianness::Little) == PT_TLS)
        .map_or(0, |p| p.p_memsz(Endianness::Little))
}

/// The header type, for callers that need raw program headers.
pub type Header = FileHeader64<Endianness>;

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the fuzz target `unwind`.
    #[test]
    fn a_segment_beyond_the_end_of_all_files_has_no_offsets() {
        let mut bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&*bytes).unwrap();
        let header = elf.elf_header().e_phoff.get(Endianness::Little) as usize;
        let place = elf
            .elf_program_headers()
            .iter()
            .position(|p| p.p_type(Endianness::Little) == PT_LOAD)
            .unwrap();
        let start = elf.elf_program_headers()[place].p_vaddr(Endianness::Little);
        assert!(file_offset(&elf, start + 8).is_some());
        // `p_offset` (ELF-64 program header).
        let at = header + place * 56 + 8;
        bytes[at..at + 8].copy_from_slice(&(u64::MAX - 4).to_le_bytes());
        let elf = Elf::parse(&*bytes).unwrap();
        assert_eq!(file_offset(&elf, start + 8), None);
    }
}
