//! A task in a process's memory, from the pointer to its `Header`.

use crate::model::memory::{Memory, ReadError};
use crate::model::{Known, Reason};

use super::vtables::TaskOffsets;

/// `Header::vtable`: state, queue_next, vtable (`repr(C)`, tokio `task/core.rs`, 1.21 to 1.54). Bytes.
const HEADER_VTABLE: u64 = 16;
/// Paths longer than this are not source files.
const MAX_PATH: u64 = 4096;

/// Where a task was spawned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnLocation {
    /// Source file, as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl std::fmt::Display for SpawnLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A task in a process's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskAt {
    /// Its type: the place in [`super::TokioImage::vtables`] and in what
    /// [`super::TokioImage::task_types`] gives.
    pub vtable: usize,
    /// Its id.
    pub id: u64,
    /// Where it was spawned.
    pub spawned_at: Known<SpawnLocation>,
}

/// The run-time address of a task's vtable.
///
/// # Errors
/// When the header can not be read.
pub fn vtable_of(header: u64, memory: &dyn Memory) -> Result<u64, ReadError> {
    memory.read_u64(header.wrapping_add(HEADER_VTABLE))
}

/// A task's id.
///
/// # Errors
/// When the task can not be read.
pub fn id_of(header: u64, offsets: &TaskOffsets, memory: &dyn Memory) -> Result<u64, ReadError> {
    memory.read_u64(header.wrapping_add(offsets.id))
}

/// Where a task was spawned; known only for programs built with `tokio_unstable` (tokio 1.46 and
/// later). `core::panic::Location` is file (pointer, length), line, column (rustc 1.95, all releases
/// looked at); implausible values are refused.
pub fn spawn_location(
    header: u64,
    offsets: &TaskOffsets,
    memory: &dyn Memory,
) -> Known<SpawnLocation> {
    let Some(offset) = offsets.spawn_location else {
        return Known::unknown("the spawn location is kept only with tokio_unstable");
    };
    let unreadable = |e: ReadError| Reason::with(format!("the spawn location was not read: {e}"));
    let read = || {
        let location = memory
            .read_u64(header.wrapping_add(offset))
            .map_err(unreadable)?;
        let word = |at: u64| {
            memory
                .read_u64(location.wrapping_add(at))
                .map_err(unreadable)
        };
        let (file, mut length, position) = (word(0)?, word(8)?, word(16)?);
        // Since rustc 1.91 the file is NUL-terminated and its length may count the NUL.
        if length == 0 || length > MAX_PATH {
            return Err(Reason::new("the spawn location is not plausible"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        memory.read(file, &mut bytes).map_err(unreadable)?;
        if bytes.last() == Some(&0) {
            length -= 1;
            bytes.truncate(usize::try_from(length).unwrap_or(0));
        }
        let file = String::from_utf8(bytes)
            .map_err(|_| Reason::new("the spawn location is not plausible"))?;
        let (line, column) = (position as u32, (position >> 32) as u32);
        if line == 0 || file.chars().any(char::is_control) {
            return Err(Reason::new("the spawn location is not plausible"));
        }
        Ok(SpawnLocation { file, line, column })
    };
    match read() {
        Ok(location) => Known::Known(location),
        Err(reason) => Known::Unknown(reason),
    }
}
