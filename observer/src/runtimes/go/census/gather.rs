//! Many small reads in few system calls: neighbours become one range, ranges one batch.

use crate::model::memory::{Memory, ReadError, ReadRequest};

/// Reads closer than this are joined: copying the gap is cheaper than another range.
const GAP: u64 = 1024;
/// A joined range is no longer than this.
const MAX_RANGE: u64 = 64 << 10;
/// All reads of one batch together.
const MAX_TOTAL: u64 = 64 << 20;

/// Reads that are collected, done together, and looked at by their number. Keeps its buffers.
#[derive(Debug, Default)]
pub struct Gather {
    wanted: Vec<(u64, u32)>,
    order: Vec<u32>,
    /// Where each read's bytes lie in `buffer`; `None`: not readable.
    place: Vec<Option<usize>>,
    buffer: Vec<u8>,
    /// Ranges: first and one past the last index into `order`, address, length.
    ranges: Vec<(usize, usize, u64, usize)>,
    /// Bytes read since the counter was last taken.
    pub bytes: u64,
}

impl Gather {
    /// Forgets all reads.
    pub fn clear(&mut self) {
        self.wanted.clear();
        self.place.clear();
    }

    /// Number of reads.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Asks for `len` bytes at `address`; answers the read's number.
    pub fn add(&mut self, address: u64, len: usize) -> usize {
        self.wanted.push((address, len as u32));
        self.wanted.len() - 1
    }

    /// The bytes of a read; `None` when they could not be read.
    pub fn get(&self, number: usize) -> Option<&[u8]> {
        let start = (*self.place.get(number)?)?;
        let len = self.wanted.get(number)?.1 as usize;
        self.buffer.get(start..start + len)
    }

    /// Does all reads.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn read(&mut self, memory: &dyn Memory) -> Result<(), ReadError> {
        self.place.clear();
        self.place.resize(self.wanted.len(), None);
        self.plan();
        let total = self.ranges.iter().map(|r| r.3).sum();
        if self.buffer.len() < total {
            self.buffer.resize(total, 0);
        }
        let mut requests = Vec::with_capacity(self.ranges.len());
        let mut rest = &mut self.buffer[..total];
        for &(_, _, addr, len) in &self.ranges {
            let (buf, tail) = rest.split_at_mut(len);
            requests.push(ReadRequest {
                addr,
                buf,
                ok: false,
            });
            rest = tail;
        }
        memory.read_batch(&mut requests)?;
        let done: Vec<bool> = requests.iter().map(|r| r.ok).collect();
        let mut start = 0;
        for (&(from, to, address, len), ok) in self.ranges.iter().zip(done) {
            for &number in &self.order[from..to] {
                let (wanted, size) = self.wanted[number as usize];
                let at = start + (wanted - address) as usize;
                let whole = ok || {
                    // Part of the range is not mapped: each read on its own.
                    let buf = &mut self.buffer[at..at + size as usize];
                    match memory.read(wanted, buf) {
                        Ok(()) => true,
                        Err(ReadError::Unmapped(_)) => false,
                        Err(error) => return Err(error),
                    }
                };
                if whole {
                    self.place[number as usize] = Some(at);
                }
            }
            start += len;
            self.bytes += len as u64;
        }
        Ok(())
    }

    fn plan(&mut self) {
        self.ranges.clear();
        self.order.clear();
        self.order.extend(0..self.wanted.len() as u32);
        let wanted = &self.wanted;
        self.order.sort_unstable_by_key(|&i| wanted[i as usize].0);
        let mut total = 0;
        let mut i = 0;
        while i < self.order.len() {
            let (address, len) = wanted[self.order[i] as usize];
            let Some(mut end) = address.checked_add(u64::from(len)) else {
                break;
            };
            let from = i;
            i += 1;
            while let Some(&next) = self.order.get(i) {
                let (next, len) = wanted[next as usize];
                let Some(next_end) = next.checked_add(u64::from(len)) else {
                    break;
                };
                if next > end.saturating_add(GAP) || next_end - address > MAX_RANGE {
                    break;
                }
                end = end.max(next_end);
                i += 1;
            }
            total += end - address;
            if total > MAX_TOTAL {
                break;
            }
            self.ranges
                .push((from, i, address, (end - address) as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::go::census::fake::Bytes;

    #[test]
    fn neighbours_are_joined_and_holes_only_cost_themselves() {
        let memory = Bytes::new(&[(0x1000, (0..=255).collect()), (0x9000, vec![9; 64])]);
        let mut gather = Gather::default();
        let numbers: Vec<usize> = [
            (0x1080, 8),
            (0x9000, 64),
            (0x1000, 4),
            (0x10f8, 16),
            (u64::MAX, 8),
            (0x1004, 0),
        ]
        .map(|(at, len)| gather.add(at, len))
        .to_vec();
        gather.read(&memory).unwrap();
        assert_eq!(
            gather.get(numbers[0]),
            Some(&[128, 129, 130, 131, 132, 133, 134, 135][..])
        );
        assert_eq!(gather.get(numbers[1]), Some(&[9; 64][..]));
        assert_eq!(gather.get(numbers[2]), Some(&[0, 1, 2, 3][..]));
        assert_eq!(gather.get(numbers[3]), None);
        assert_eq!(gather.get(numbers[4]), None);
        assert_eq!(gather.get(99), None);
    }
}
