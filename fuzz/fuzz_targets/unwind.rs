//! Any bytes as a program with unwind tables, any bytes as a stack.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use observer::resolve::unwind::{Regs, Unwinder, has_frame_pointers};
use observer::sys::elf::ElfImage;

fuzz_target!(|input: &[u8]| {
    // The last words are the registers, so that a real program is a good start as it is.
    let Some((data, registers)) = input.split_last_chunk::<24>() else {
        return;
    };
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| registers[at + i]));
    let (ip, sp, bp) = (word(0), word(8), (registers[23] != 0).then(|| word(16)));
    // The stack is the file's own first part: return addresses into it are then likely.
    let stack = &data[..data.len().min(4096)];
    let Ok(image) = ElfImage::from_bytes("fuzz", data) else {
        return;
    };
    let image = Arc::new(image);
    let _ = has_frame_pointers(&image);
    drop(image);
    let Some(mut unwinder) = ElfImage::from_bytes("fuzz", data)
        .ok()
        .and_then(|image| Unwinder::of_file(image).ok())
    else {
        return;
    };
    let out = unwinder.unwind(Regs { ip, sp, bp }, stack, 64);
    assert!(out.frames.len() <= 64);
});
