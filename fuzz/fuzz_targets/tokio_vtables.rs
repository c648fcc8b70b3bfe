//! Any bytes as a program: the search for tokio, its vtables, their names and probe places.
//! Start from real programs: a corpus of small tokio executables, stripped and not.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use observer::runtimes::tokio::{FutureTypes, TokioImage};
use observer::sys::elf::ElfImage;

fuzz_target!(|data: &[u8]| {
    // The fuzzer need not find the path that says "tokio".
    let mut bytes = data.to_vec();
    bytes.extend_from_slice(b"/tokio-1.54.1/src/runtime/");
    let Ok(elf) = ElfImage::from_bytes("fuzz", &bytes) else {
        return;
    };
    if let Some(image) = TokioImage::read(&elf) {
        for target in image.poll_targets(&elf).targets {
            assert!(target.file_offset < bytes.len() as u64);
        }
        image.task_types(&elf);
        // Where parked tasks are suspended, from debug information.
        let elf = Arc::new(elf);
        FutureTypes::read(&elf, None, image.vtables()).ok();
    }
});
