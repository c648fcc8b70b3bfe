//! Made-up memory and records for tests.

use super::record::Record;
use super::unwind::Walk;
use crate::model::census::TaskState;
use crate::model::memory::{Memory, ReadError};

/// A goroutine that waits for no known reason, and has an address of its own.
pub fn record(goid: u64) -> Record {
    Record {
        g: goid << 12,
        goid,
        state: TaskState::Waiting,
        leaked: false,
        reason: None,
        sp: 0,
        pc: 0,
        stack_hi: 0,
        m: 0,
        locked: false,
        parent: 0,
        gopc: 0,
        startpc: 0,
        waiting: 0,
        tracking: 0,
        ready_since: None,
        sleep_when: None,
        timer: 0,
        walk: Walk::default(),
        owner: None,
        found: None,
        tid: None,
        torn: false,
        stackless: false,
    }
}

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
