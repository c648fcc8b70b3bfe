//! Any bytes as the memory of a Go process: goroutines and what they wait on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::model::memory::{Memory, ReadError};
use observer::runtimes::go::census::gather::Gather;
use observer::runtimes::go::census::record::{Decoded, decode};
use observer::runtimes::go::census::waits::Waits;
use observer::runtimes::go::live::read_allgs;
use observer::runtimes::go::offsets;

/// Where the bytes lie: a plausible heap address.
const BASE: u64 = 0xc0_0000_0000;

#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let at = addr.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.0.get(at..at.checked_add(buf.len())?));
        buf.copy_from_slice(found.ok_or(ReadError::Unmapped(addr))?);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&minor, bytes)) = data.split_first() else {
        return;
    };
    let minor = u32::from(minor % 10) + offsets::KNOWN_MINORS.start();
    let Some(offsets) = offsets::by_minor(minor) else {
        return;
    };
    let memory = Bytes(bytes);
    let _ = read_allgs(&memory, BASE);
    let mut records: Vec<_> = (0..bytes.len())
        .step_by(offsets.g_size())
        .take(64)
        .filter_map(|at| match decode(BASE + at as u64, &bytes[at..], &offsets, minor) {
            Decoded::Task(record) => Some(record),
            Decoded::Ended | Decoded::Torn => None,
        })
        .collect();
    let mut waits = Waits::default();
    let mut gather = Gather::default();
    waits.begin();
    waits.clear();
    if waits.resolve(&memory, &mut gather, &mut records, &offsets).is_err() {
        return;
    }
    let (mut out, mut next) = (Vec::new(), 0);
    for (index, record) in records.iter().enumerate() {
        next = waits.emit(index as u32, record, next, &mut out);
    }
    assert!(out.len() <= 64 * 64);
});
