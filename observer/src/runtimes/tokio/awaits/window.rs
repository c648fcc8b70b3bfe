//! Memory of one task, read in few and bounded reads.

use crate::model::memory::{Memory, ReadError};

/// Bytes of one future that are read at once: most are smaller, and of larger ones only parts count.
const MAX_WINDOW: u64 = 4096;
/// Reads per task: one for itself, one for each box, some for what it waits for.
const MAX_READS: u32 = 64;
/// Windows that are kept per task.
const MAX_WINDOWS: usize = 32;
/// What lies outside of a window is read with what follows it (bytes): of a large future several
/// numbers are wanted that lie near each other.
const NEAR: u64 = 256;

/// What was read of a task. The buffers are used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Windows {
    bytes: Vec<u8>,
    /// Address, and where its bytes are.
    loaded: Vec<(u64, std::ops::Range<usize>)>,
    reads: u32,
}

/// Why nothing could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The memory is not there.
    Memory(ReadError),
    /// More reads than any future needs.
    TooMany,
}

impl Windows {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.loaded.clear();
        self.reads = 0;
    }

    /// Reads `size` bytes, or as many as a window has, for what follows.
    pub(super) fn load(
        &mut self,
        address: u64,
        size: u64,
        memory: &dyn Memory,
    ) -> Result<(), Refused> {
        let size = size.min(MAX_WINDOW) as usize;
        if size <= 8 || self.loaded.len() >= MAX_WINDOWS || self.find(address, size).is_some() {
            return Ok(());
        }
        let start = self.bytes.len();
        let end = start + size;
        self.bytes.resize(end, 0);
        let buffer = self.bytes.get_mut(start..end).unwrap_or_default();
        if let Err(refused) = count(&mut self.reads)
            .and_then(|()| memory.read(address, buffer).map_err(Refused::Memory))
        {
            self.bytes.truncate(start);
            return Err(refused);
        }
        self.loaded.push((address, start..end));
        Ok(())
    }

    /// Lets some more be read, whatever was read so far.
    pub(super) fn allow(&mut self, more: u32) {
        self.reads = self.reads.min(MAX_READS.saturating_sub(more));
    }

    /// Whether more was to be read than may be.
    pub(super) fn is_spent(&self) -> bool {
        self.reads > MAX_READS
    }

    fn find(&self, address: u64, size: usize) -> Option<&[u8]> {
        self.loaded.iter().find_map(|(start, place)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            let from = place.start.checked_add(offset)?;
            let to = from.checked_add(size).filter(|to| *to <= place.end)?;
            self.bytes.get(from..to)
        })
    }

    /// A little-endian number of 1 to 8 bytes.
    pub(super) fn number(
        &mut self,
        address: u64,
        size: u8,
        memory: &dyn Memory,
    ) -> Result<u64, Refused> {
        let mut word = [0; 8];
        let size = usize::from(size).min(word.len());
        let wanted = word.get_mut(..size).unwrap_or_default();
        if self.find(address, size).is_none() {
            // At the end of a mapping only the number itself can be read.
            match self.load(address, NEAR, memory) {
                Ok(()) | Err(Refused::Memory(ReadError::Unmapped(_))) => {}
                Err(refused) => return Err(refused),
            }
        }
        if let Some(bytes) = self.find(address, size) {
            wanted.copy_from_slice(bytes);
        } else {
            count(&mut self.reads)?;
            memory.read(address, wanted).map_err(Refused::Memory)?;
        }
        Ok(u64::from_le_bytes(word))
    }
}

fn count(reads: &mut u32) -> Result<(), Refused> {
    *reads += 1;
    if *reads > MAX_READS {
        return Err(Refused::TooMany);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 bytes at 4096, each its offset.
    #[derive(Debug)]
    struct Small;

    impl Memory for Small {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let start = addr.checked_sub(4096).ok_or(ReadError::Unmapped(addr))?;
            for (offset, byte) in (start..).zip(buf) {
                *byte = u8::try_from(offset)
                    .ok()
                    .filter(|offset| *offset < 64)
                    .ok_or(ReadError::Unmapped(addr))?;
            }
            Ok(())
        }
    }

    #[test]
    fn numbers_come_from_windows_and_from_the_end_of_a_mapping() {
        let mut windows = Windows::default();
        windows.load(4096, 16, &Small).unwrap();
        assert_eq!(windows.number(4098, 2, &Small), Ok(0x0302));
        assert_eq!(windows.reads, 1);
        assert_eq!(windows.number(4096 + 62, 2, &Small), Ok(0x3f3e));
        let gone = windows.number(4096 + 63, 2, &Small);
        assert!(matches!(gone, Err(Refused::Memory(_))), "{gone:?}");
        let high = windows.number(u64::MAX, 8, &Small);
        assert!(matches!(high, Err(Refused::Memory(_))), "{high:?}");
        let refused = (0..100).find_map(|_| {
            windows
                .number(0, 1, &Small)
                .err()
                .filter(|e| *e == Refused::TooMany)
        });
        assert!(refused.is_some());
    }
}
