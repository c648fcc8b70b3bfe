//! Any bytes as a program with unwind tables, any bytes as a stack.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use observer::resolve::unwind::{Regs, Unwinder, has_frame_pointers};
use observer::sys::elf::ElfImage;

fuzz_target!(|input: (u64, u64, Option<u64>, &[u8])| {
    let (ip, sp, bp, data) = input;
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
