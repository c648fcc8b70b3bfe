//! Damaged debug information and memory that is anything: no panic, and an end soon.

use std::cell::Cell;
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSection as _};

use super::{FutureTypes, Suspended};
use crate::model::memory::{Memory, ReadError};
use crate::runtimes::tokio::live_tests::build;
use crate::runtimes::tokio::{TokioImage, Vtable};
use crate::sys::elf::Elf;

/// A fixed sequence (xorshift64), so that a failure repeats.
#[derive(Debug)]
struct Random(Cell<u64>);

impl Random {
    fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x
    }
}

/// Memory in which every address is there, most of the time, and holds anything: small numbers,
/// pointers, vtables.
#[derive(Debug)]
struct Anything<'a> {
    random: &'a Random,
    vtables: &'a [(u64, super::layout::TypeId)],
    reads: Cell<u64>,
}

impl Memory for Anything<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        let random = self.random.next();
        if random.is_multiple_of(31) {
            return Err(ReadError::Unmapped(addr));
        }
        let is_future = buf.len() > 8;
        let (words, _) = buf.as_chunks_mut::<8>();
        for (place, word) in words.iter_mut().enumerate() {
            let value = match self.random.next() % 8 {
                // A stage is running when it begins with 0.
                0..6 if is_future && place == 0 => 0,
                0 => 3,
                // Most states of async functions are one byte, and 3 is the first `.await`.
                1..4 => 0x0303_0303_0303_0303,
                4 => self.random.next() % 6 * 0x0101_0101_0101_0101,
                5 => addr,
                6 => {
                    let place = self.random.next() as usize % self.vtables.len().max(1);
                    self.vtables.get(place).map_or(0, |v| v.0)
                }
                _ => self.random.next(),
            };
            *word = value.to_le_bytes();
        }
        if let [only] = buf {
            *only = random as u8 % 6;
        }
        Ok(())
    }
}

/// Walks every type over memory that is anything; counts the walks that came to an end.
fn walk(types: &mut FutureTypes, vtables: usize, random: &Random) -> usize {
    let tables = types.tables.clone();
    let mut out = Suspended::default();
    let mut ends = 0;
    for place in 0..vtables * 20 {
        let memory = Anything {
            random,
            vtables: &tables,
            reads: Cell::new(0),
        };
        let found = types.suspended(place % vtables, random.next(), 0, &memory, &mut out);
        // Some of them for what is kept.
        assert!(memory.reads.get() <= 64 + 48, "{:?}", memory.reads);
        assert!(out.points.len() <= 512 && out.waits.len() <= 16 && out.kept.len() <= 32);
        assert!(out.points.iter().all(|id| types.point(*id).is_some()));
        ends += usize::from(found.is_ok());
    }
    ends
}

fn look(bytes: &[u8], vtables: &[Vtable], random: &Random) -> Option<usize> {
    let start = Instant::now();
    let elf = Elf::parse(bytes).ok()?;
    let found = FutureTypes::from_elf(&elf, None, vtables);
    let ends = found
        .ok()
        .map(|mut types| walk(&mut types, vtables.len(), random));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    ends
}

#[test]
fn damaged_debug_information_and_torn_memory_do_no_harm() {
    for program in ["awaits", "async_owners"] {
        damage(program);
    }
}

fn damage(program: &str) {
    let original = std::fs::read(build("dwarf").with_file_name(program)).unwrap();
    let elf = Elf::parse(&*original).unwrap();
    let vtables = TokioImage::from_bytes(&original)
        .unwrap()
        .vtables()
        .to_vec();
    let sections: Vec<(u64, u64)> = [".debug_info", ".debug_abbrev", ".debug_str", ".debug_line"]
        .iter()
        .filter_map(|name| elf.section_by_name(name)?.file_range())
        .collect();
    let random = Random(Cell::new(0x9e37_79b9_7f4a_7c15));
    let whole = look(&original, &vtables, &random);
    assert!(whole.is_some_and(|ends| ends > 10), "{whole:?}");
    let mut recognised = 0;
    for round in 0..24_usize {
        let mut bytes = original.clone();
        let (start, size) = sections[round % sections.len()];
        for _ in 0..=round * round * 8 {
            let at = (start + random.next() % size) as usize;
            bytes[at] = random.next() as u8;
        }
        recognised += usize::from(look(&bytes, &vtables, &random).is_some());
    }
    assert!(recognised > 6, "the damage left nothing: {recognised}");
}

#[test]
fn programs_without_types_are_refused_with_the_reason() {
    let of = |profile: &str| {
        let bytes = std::fs::read(build(profile)).unwrap();
        let vtables = TokioImage::from_bytes(&bytes).unwrap().vtables().to_vec();
        let start = Instant::now();
        let found = FutureTypes::from_elf(&Elf::parse(&*bytes).unwrap(), None, &vtables);
        println!("{profile}: {:?}", start.elapsed());
        found.err()
    };
    assert_eq!(of("lines"), Some(super::NO_TYPES));
    assert_eq!(of("release"), Some(super::NO_INFORMATION));
}
