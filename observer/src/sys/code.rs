//! Places in a program's code where a probe may be put. A probe that is not at the first byte of an
//! instruction kills its target, so a place comes from here or not at all.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions};

use super::elf::{Elf, bytes_at, file_offset};
use crate::model::Reason;

/// How far into a function a place may lie, in bytes: decoding goes on from its start.
const FARTHEST: u64 = 4096;

/// The start of an instruction in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeSite {
    /// Its address, as in the file (without load bias).
    pub address: u64,
    /// Its offset in the file, in bytes: what a uprobe is placed by.
    pub offset: u64,
    /// The instruction's bytes.
    pub bytes: Vec<u8>,
}

/// The place at `address` in the function that starts at `function`: both as in the file.
///
/// The caller vouches for the start of the function (symbol, unwind table, pclntab); from there on
/// each instruction is decoded until the address is met.
///
/// # Errors
/// When it is no instruction boundary, or when the file does not hold it.
pub fn site_at(elf: &Elf<'_>, function: u64, address: u64) -> Result<CodeSite, Reason> {
    let ahead = address
        .checked_sub(function)
        .filter(|ahead| *ahead < FARTHEST)
        .ok_or(Reason::new("it does not lie in the function's first 4 KiB"))?;
    let code = bytes_at(elf, function).ok_or(Reason::new("no segment of the file holds it"))?;
    let mut decoder = Decoder::with_ip(64, code, function, DecoderOptions::NONE);
    loop {
        let at = decoder.ip();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Err(Reason::new("bytes before it are no instructions"));
        }
        if at > address {
            return Err(Reason::new("it lies inside an instruction"));
        }
        if at == address {
            let start = usize::try_from(ahead).unwrap_or(usize::MAX);
            let bytes = code
                .get(start..start + instruction.len())
                .ok_or(Reason::new("no segment of the file holds it"))?;
            return place(elf, address, bytes);
        }
    }
}

fn place(elf: &Elf<'_>, address: u64, bytes: &[u8]) -> Result<CodeSite, Reason> {
    if bytes.first() == Some(&0xcc) {
        return Err(Reason::new("it is a breakpoint instruction already"));
    }
    let offset = file_offset(elf, address).ok_or(Reason::new("no segment of the file holds it"))?;
    // The two ways to the bytes must meet: the mapping is then certain.
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if elf
        .data()
        .get(start..)
        .is_none_or(|found| !found.starts_with(bytes))
    {
        return Err(Reason::new("its file offset and its address disagree"));
    }
    Ok(CodeSite {
        address,
        offset,
        bytes: bytes.to_vec(),
    })
}

/// Whether a file still holds the instruction of a place.
///
/// # Errors
/// When it does not, or can not be read.
pub fn unchanged(file: &Path, site: &CodeSite) -> Result<(), Reason> {
    let mut now = vec![0; site.bytes.len()];
    File::open(file)
        .and_then(|file| file.read_exact_at(&mut now, site.offset))
        .map_err(|e| Reason::with(format!("the program's file can not be read: {e}")))?;
    if now.is_empty() || now != site.bytes {
        return Err(Reason::new(
            "the program's file is not the one that was looked at",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::elf::ElfImage;
    use object::{Object as _, ObjectSymbol as _};

    /// A function of this test program.
    fn function(elf: &Elf<'_>) -> u64 {
        elf.symbols()
            .find(|s| s.name().is_ok_and(|n| n.contains("site_at")) && s.size() > 64)
            .unwrap()
            .address()
    }

    #[test]
    fn every_instruction_is_a_place_and_nothing_between() {
        let image = ElfImage::open(&std::env::current_exe().unwrap()).unwrap();
        let elf = image.parse().unwrap();
        let start = function(&elf);
        let first = site_at(&elf, start, start).unwrap();
        assert!(unchanged(Path::new(image.path()), &first).is_ok());
        let mut at = start;
        let mut inside = 0;
        for _ in 0..8 {
            let site = site_at(&elf, start, at).unwrap();
            for byte in 1..site.bytes.len() as u64 {
                assert!(site_at(&elf, start, at + byte).is_err());
                inside += 1;
            }
            at += site.bytes.len() as u64;
        }
        assert!(inside > 0, "some instruction is longer than a byte");
        assert!(site_at(&elf, start, start - 1).is_err());
        assert!(site_at(&elf, start, start + FARTHEST).is_err());
        assert!(site_at(&elf, 8, 8).is_err() || elf.entry() != 8);
    }

    #[test]
    fn a_file_that_changed_is_refused() {
        let image = ElfImage::open(&std::env::current_exe().unwrap()).unwrap();
        let elf = image.parse().unwrap();
        let start = function(&elf);
        let mut site = site_at(&elf, start, start).unwrap();
        site.bytes[0] ^= 1;
        assert!(unchanged(Path::new(image.path()), &site).is_err());
        site.bytes.clear();
        assert!(unchanged(Path::new(image.path()), &site).is_err());
        assert!(unchanged(Path::new("/nowhere"), &site).is_err());
    }
}
