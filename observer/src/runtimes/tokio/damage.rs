//! Damaged programs: the scan, the disassembly and the naming never panic, and end soon.

use std::time::{Duration, Instant};

use super::live_tests::build;
use super::{TokioImage, presence};
use crate::sys::elf::Elf;

/// A fixed sequence (xorshift64), so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// One look at everything; the longest that it may take on this 1 MB program, unoptimized.
fn look(bytes: &[u8]) -> bool {
    let start = Instant::now();
    let found = TokioImage::from_bytes(bytes);
    if let (Some(image), Ok(elf)) = (&found, Elf::parse(bytes)) {
        drop(image.name_types(&elf, None));
        drop(super::targets::poll_targets(&elf, image.vtables()));
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    found.is_some()
}

#[test]
fn damaged_headers_relocations_and_code_do_no_harm() {
    let original = std::fs::read(build("fat")).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut recognised = 0;
    for round in 0..150_usize {
        let mut bytes = original.clone();
        let size = bytes.len() as u64;
        // By turns: the file's headers, relocations and symbols, anything.
        let (start, length) = [(0, 0x400), (0x400, size / 4), (0, size)][round % 3];
        for _ in 0..=round * 8 {
            let at = (start + random.next() % length) as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        if round % 5 == 4 {
            let cut = random.next() as usize % bytes.len();
            bytes.truncate(cut);
        }
        recognised += usize::from(look(&bytes));
    }
    assert!(
        recognised > 20,
        "the damage left nothing to look at: {recognised}"
    );
}

#[test]
fn files_that_are_no_programs_are_not_tokio() {
    for bytes in [
        &b""[..],
        b"\x7fELF",
        b"/tokio-1.54.1/src/runtime/",
        &[0x64; 4096],
    ] {
        assert!(!look(bytes));
    }
    assert!(presence(&vec![b'/'; 1 << 20]).is_none());
    // A needle everywhere does not make the search slow.
    let many = b"/tokio-1.1.1/src/runtime/".repeat(40_000);
    let start = Instant::now();
    assert!(presence(&many).is_some());
    assert!(start.elapsed() < Duration::from_secs(2));
}
