//! Any words as the memory of a process: the search for a scheduler's list of tasks, and the walk along it.
//! Addresses are small numbers, so that words often refer to each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::model::memory::{Memory, ReadError};
use observer::runtimes::tokio::{TokioImage, example_program, tasks_of};

/// The input, from address 4096 on.
struct Bytes<'a>(&'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = addr.checked_sub(4096).and_then(|at| usize::try_from(at).ok());
        let bytes = start.and_then(|start| self.0.get(start..start.checked_add(buf.len())?));
        buf.copy_from_slice(bytes.ok_or(ReadError::Unmapped(addr))?);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(image) = TokioImage::from_bytes(&example_program(&[0xc3])) else {
        panic!("the frame of the example is not recognised");
    };
    let ids = tasks_of(4096, (image.vtables(), 0), &Bytes(data));
    // Every task has a header of its own.
    assert!(ids.is_ok_and(|ids| ids.len() * 8 <= data.len()));
});
