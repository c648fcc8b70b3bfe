//! A quick hash for maps with an entry per task: each sample looks all of them up. The standard one
//! costs more there than reading the tasks does. Each map has a random seed, because what is hashed
//! comes from observed processes.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

/// An odd number with many bits set (the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A map with the quick hash.
pub type QuickMap<K, V> = HashMap<K, V, QuickState>;
/// A set with the quick hash.
pub type QuickSet<K> = HashSet<K, QuickState>;

/// Makes hashers with one seed.
#[derive(Debug, Clone, Copy)]
pub struct QuickState(u64);

impl Default for QuickState {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u64))
    }
}

impl BuildHasher for QuickState {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher {
            state: self.0,
            seed: self.0,
        }
    }
}

/// Folds a wide product of what it is given and the seed.
#[derive(Debug, Clone, Copy)]
pub struct QuickHasher {
    state: u64,
    seed: u64,
}

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        fold(self.state, self.seed ^ FACTOR)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 59));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.state = fold(self.state ^ value, self.seed | 1);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64) ^ a.rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_spread_whatever_the_seed() {
        for _ in 0..8 {
            let state = QuickState::default();
            // Ids in a row, addresses in a row: as tasks have them. The map uses the low bits for its
            // place, and the highest seven.
            for step in [1, 8, 448, 4096, 1 << 32] {
                let hashes = (0..4096_u64).map(|i| state.hash_one(i * step));
                let mut low = vec![0_u32; 4096];
                for hash in hashes {
                    low[hash as usize % 4096] += 1;
                }
                let worst = low.iter().max().copied();
                assert!(worst < Some(16), "step {step}: {worst:?}");
            }
        }
    }

    #[test]
    fn maps_differ_in_their_seeds() {
        let (a, b) = (QuickState::default(), QuickState::default());
        assert_ne!(a.hash_one(7_u64), b.hash_one(7_u64));
        assert_eq!(a.hash_one("seven"), a.hash_one("seven"));
        assert_ne!(a.hash_one("seven"), a.hash_one("seven\0"));
    }
}
