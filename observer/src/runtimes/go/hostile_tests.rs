//! Damaged input: every parser runs on thousands of changed inputs, made by a fixed generator so
//! that a failure repeats. The fuzz targets go further; this runs with the other tests.

use std::sync::Arc;

use super::buildinfo;
use super::census::fake::Bytes;
use super::census::gather::Gather;
use super::census::record::{self, Decoded};
use super::census::unwind::Unwinder;
use super::census::waits::Waits;
use super::decode;
use super::detect::GoImage;
use super::fixture::{build, go};
use super::offsets::{self, by_minor};
use super::pclntab::Pclntab;
use super::symbols::GoSymbols;
use super::transitions;
use crate::model::Reason;
use crate::runtimes::RuntimeImage;
use crate::skips::skip;
use crate::sys::code::CodeSite;
use crate::sys::elf::ElfImage;
use object::{Object as _, ObjectSection as _};

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Changes a few bytes, words or the length.
    fn damage(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            if data.is_empty() {
                return;
            }
            let at = self.below(data.len());
            match self.below(5) {
                0 => data[at] = self.next() as u8,
                1 => data[at] ^= 1 << self.below(8),
                2 => data.truncate(at),
                3 => {
                    let end = (at + 8).min(data.len());
                    data[at..end].fill([0, 0x7f, 0x80, 0xff][self.below(4)]);
                }
                _ => {
                    let word = (self.next() >> self.below(64)).to_le_bytes();
                    let end = (at + 8).min(data.len());
                    data[at..end].copy_from_slice(&word[..end - at]);
                }
            }
        }
    }
}

/// A small table with one function in each version's format.
fn table(magic: u32) -> Vec<u8> {
    let mut data = vec![0_u8; 72];
    data[..4].copy_from_slice(&magic.to_le_bytes());
    data[6..8].copy_from_slice(&[1, 8]);
    let mut word =
        |i: usize, value: u64| data[8 + 8 * i..16 + 8 * i].copy_from_slice(&value.to_le_bytes());
    word(0, 2);
    word(1, 1);
    word(2, 0x1000);
    for (i, at) in [(3, 72_u64), (4, 104), (5, 112), (6, 128), (7, 160)] {
        word(i, at);
    }
    data.resize(320, 0);
    data[72..86].copy_from_slice(b"main.a\0main.b\0");
    data[112..118].copy_from_slice(b"a.go\0\0");
    // pc-value tables: value +1 .. over 0x40 bytes.
    data[129..140].copy_from_slice(&[2, 0x20, 4, 0x20, 0, 0x12, 0x40, 0, 0, 0, 0]);
    let functab = [0_u32, 20, 0x40, 92, 0x80];
    for (i, value) in functab.iter().enumerate() {
        data[160 + 4 * i..164 + 4 * i].copy_from_slice(&value.to_le_bytes());
    }
    for (at, entry, name) in [(180_usize, 0_u32, 0_u32), (252, 0x40, 7)] {
        let fields = [entry, name, 0, 0, 1, 1, 1, 3, 0, 10, 0, 0x0400_0000];
        for (i, value) in fields.iter().enumerate() {
            data[at + 4 * i..at + 4 * i + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    data
}

/// Asks a table everything.
pub(crate) fn exercise(data: &[u8]) {
    let Ok(table) = Pclntab::parse(data, None) else {
        return;
    };
    for pc in (0xfff..0x1090).step_by(7).chain([0, u64::MAX]) {
        let Some(f) = table.find(pc) else { continue };
        let _ = (
            f.name(),
            f.file(pc),
            f.line(pc),
            f.start_line(),
            f.frame_size(pc),
        );
        let _ = f.inline_tree().map(|_| f.inlined_at(data, pc));
    }
    let _ = table.by_name("main.b").map(|f| f.entry);
    assert!(table.function(usize::MAX).is_none());
}

#[test]
fn the_small_table_is_well_formed() {
    for magic in [super::pclntab::MAGIC_118, super::pclntab::MAGIC_120] {
        let data = table(magic);
        let table = Pclntab::parse(&data, None).unwrap();
        let f = table.find(0x1041).unwrap();
        assert_eq!((f.name(), f.entry, f.end), (Some("main.b"), 0x1040, 0x1080));
        assert_eq!(table.by_name("main.a").map(|f| f.entry), Some(0x1000));
        assert_eq!(f.line(0x1041), Some(0));
    }
    let error = Pclntab::parse(&table(0xffff_fffb), None).unwrap_err();
    assert!(error.to_string().contains("0xfffffffb"), "{error}");
}

#[test]
fn damaged_function_tables_are_survived() {
    let mut random = Random(0x5eed_0001);
    let good = table(super::pclntab::MAGIC_120);
    for _ in 0..5_000 {
        let mut data = good.clone();
        random.damage(&mut data);
        exercise(&data);
    }
}

#[test]
fn damaged_build_records_are_survived() {
    let mut random = Random(0x5eed_0002);
    let mut good = b"\xff Go buildinf:\x08\x02".to_vec();
    good.resize(32, 0);
    good.extend(b"\x08go1.26.8\x2a0123456789abcdefmod\tm\tv\n0123456789abcdef");
    assert!(buildinfo::search(&good).is_some());
    for _ in 0..5_000 {
        let mut data = good.clone();
        random.damage(&mut data);
        let _ = buildinfo::search(&data).map(|info| info.go_version());
    }
}

#[test]
fn garbage_instructions_are_survived() {
    let mut random = Random(0x5eed_0003);
    for _ in 0..3_000 {
        let code: Vec<u8> = (0..random.below(96)).map(|_| random.next() as u8).collect();
        let _ = (
            decode::tls_form(&code, 0),
            decode::first_load(&code, u64::MAX),
            decode::first_lea(&code, 1),
        );
    }
}

#[test]
fn garbage_goroutines_are_survived() {
    let mut random = Random(0x5eed_0004);
    let elf = ElfImage::open(&std::env::current_exe().unwrap()).unwrap();
    // Any executable will do: without a function table there are no frames.
    let symbols = GoSymbols::new(Arc::new(elf));
    let mut gather = Gather::default();
    for round in 0..3_000_u32 {
        let minor = offsets::KNOWN_MINORS.start() + round % 10;
        let o = by_minor(minor).unwrap();
        let base = 0x10_0000_u64;
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..512 {
            // Mostly small numbers and pointers into the same block.
            let word = match random.below(4) {
                0 => base + 8 * random.below(512) as u64,
                1 => random.below(16) as u64,
                2 => random.next(),
                _ => 0,
            };
            bytes.extend(word.to_le_bytes());
        }
        bytes[o.g_status as usize..o.g_status as usize + 4].copy_from_slice(&4_u32.to_le_bytes());
        let Decoded::Task(record) = record::decode(base, &bytes, &o, minor) else {
            continue;
        };
        let memory = Bytes::new(&[(base, bytes)]);
        let mut records = vec![record];
        let mut waits = Waits::default();
        waits.begin();
        waits.clear();
        waits
            .resolve(&memory, &mut gather, &mut records, &o)
            .unwrap();
        let mut out = Vec::new();
        waits.emit(0, &records[0], 0, &mut out);
        assert!(out.len() <= 64);
        if let Ok(symbols) = &symbols {
            let _ = Unwinder::new(symbols.clone(), 0).start(records[0].sp, records[0].pc);
        }
    }
}

/// Headers, section table, module data and function table damaged, one byte or word at a time.
#[test]
fn live_damaged_executables_are_survived() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("crowd");
    build(
        &go,
        "crowd",
        &["-buildmode=pie", "-ldflags=-s -w"],
        false,
        &exe,
    );
    let good = std::fs::read(&exe).unwrap();
    let mut random = Random(0x5eed_0005);
    let (mut opened, mut detected, mut places) = (0, 0, 0);
    for round in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            // The ELF header, program headers and section headers are where most can go wrong.
            let at = match random.below(3) {
                0 => random.below(1024),
                1 => bytes.len() - 1 - random.below(2048),
                _ => random.below(bytes.len()),
            };
            let end = (at + 8).min(bytes.len());
            let word = match random.below(3) {
                0 => u64::MAX - random.below(64) as u64,
                1 => random.next() >> random.below(64),
                _ => 0,
            };
            bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        if round % 10 == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        let path = dir.path().join("damaged");
        std::fs::write(&path, &bytes).unwrap();
        let Ok(image) = ElfImage::open(&path) else {
            continue;
        };
        opened += 1;
        if let Some(go) = GoImage::detect(&image) {
            detected += 1;
            let _ = (go.version(), go.evidence());
            if let Ok(symbols) = go.symbols() {
                let _ = symbols.lookup(symbols.tables().text() + random.below(1 << 20) as u64);
                places += usize::from(probe_place(symbols, &image).is_ok());
            }
        }
        let _found = image.parse().map(|elf| super::dwarf::offsets(&elf).is_ok());
    }
    println!(
        "300 damaged executables: {opened} opened, {detected} taken for Go, {places} with a place for the probe"
    );
    assert!(places > 0, "most damage lies elsewhere");
}

/// Where a probe would go: nowhere, or at instructions that are those of the function.
fn probe_place(symbols: &GoSymbols, image: &ElfImage) -> Result<CodeSite, Reason> {
    let elf = image.parse().map_err(|e| Reason::with(e.to_string()))?;
    let site = transitions::place(symbols, &elf)?;
    let at = usize::try_from(site.offset).unwrap();
    assert!(image.bytes()[at..].starts_with(&transitions::PROLOGUE));
    Ok(site)
}

#[test]
fn live_no_probe_goes_where_a_damaged_function_table_points() {
    let Some(go) = go() else {
        skip!("no Go toolchain");
    };
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("crowd");
    build(&go, "crowd", &["-ldflags=-s -w"], false, &exe);
    let good = std::fs::read(&exe).unwrap();
    let open = |bytes: &[u8]| {
        let image = ElfImage::from_bytes("crowd", bytes).unwrap();
        let symbols = GoSymbols::new(Arc::new(ElfImage::from_bytes("crowd", bytes).unwrap()))?;
        Ok::<_, Reason>((image, symbols))
    };
    let (image, symbols) = open(&good).unwrap();
    let place = probe_place(&symbols, &image).unwrap();
    let entry = (place.address - symbols.tables().text()) as u32;
    let elf = image.parse().unwrap();
    let table = elf.section_by_name(".gopclntab").unwrap();
    let (start, size) = table.file_range().unwrap();
    let words: Vec<usize> = (start..start + size - 4)
        .step_by(4)
        .map(|at| at as usize)
        .filter(|at| good[*at..at + 4] == entry.to_le_bytes())
        .collect();
    assert!(!words.is_empty(), "the table holds the function's start");
    for off in [1_u32, 2, 4, 7, 16] {
        let mut bytes = good.clone();
        for at in &words {
            bytes[*at..at + 4].copy_from_slice(&(entry + off).to_le_bytes());
        }
        let (image, symbols) = open(&bytes).unwrap();
        let wrong = probe_place(&symbols, &image);
        assert!(wrong.is_err(), "{off} bytes further: {wrong:?}");
    }
    // A table that ends early: the function is found where it is, or not at all.
    for kept in [size / 2, 4096, 64, 8] {
        let mut bytes = good.clone();
        bytes[(start + kept) as usize..(start + size) as usize].fill(0);
        if let Ok((image, symbols)) = open(&bytes)
            && let Ok(found) = probe_place(&symbols, &image)
        {
            assert_eq!(found, place, "{kept} bytes kept");
        }
    }
}
