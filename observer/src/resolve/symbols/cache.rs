//! A bounded cache: two generations, of which the older one is dropped when the younger is full.
//!
//! Close to least-recently-used at the cost of a plain map: what is used survives by being moved
//! to the younger generation.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `2 * capacity` entries.
#[derive(Debug)]
pub struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    capacity: usize,
    dropped: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// A cache of two generations of `capacity` entries each.
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            capacity: capacity.max(1),
            dropped: 0,
        }
    }

    /// The cached value.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Adds or replaces a value.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&key) {
            self.dropped += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.dropped += self.len() as u64;
        self.young.clear();
        self.old.clear();
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries dropped so far, to make room or on request.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = Cache::new(8);
        cache.insert(1000, 1000);
        for i in 0..100 {
            cache.insert(i, i);
            assert_eq!(cache.get(&1000), Some(1000));
            assert!(cache.len() <= 16);
        }
        assert_eq!(cache.get(&0), None);
        assert_eq!(cache.get(&99), Some(99));
        cache.clear();
        assert_eq!((cache.len(), cache.get(&99)), (0, None));
        assert!(cache.dropped() >= 100);
    }
}
