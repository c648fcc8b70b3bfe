//! Made-up memory for tests.

use crate::model::memory::{Memory, ReadError};

/// Memory that consists of a few pieces.
#[derive(Debug, Default)]
pub struct Bytes {
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Bytes {
    /// Pieces with their addresses.
    pub fn new(pieces: &[(u64, Vec<u8>)]) -> Self {
        Self {
            pieces: pieces.to_vec(),
        }
    }
}

impl Memory for Bytes {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.pieces
            .iter()
            .find_map(|(start, bytes)| {
                let at = usize::try_from(addr.checked_sub(*start)?).ok()?;
                buf.copy_from_slice(bytes.get(at..at.checked_add(buf.len())?)?);
                Some(())
            })
            .ok_or(ReadError::Unmapped(addr))
    }
}
