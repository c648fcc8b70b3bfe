//! What the tasks of a group wait on, of one sample: each thing once, however many tasks wait on it.

use std::collections::HashSet;

use crate::model::census::{WaitKind, WaitsOn};

/// Descriptors that are kept, to be looked up.
const MAX_FDS: usize = 16;

/// Descriptors, channels, locks.
#[derive(Debug, Clone, Default)]
pub struct Things {
    /// How many there are.
    pub count: u64,
    /// Descriptors among them; bounded.
    pub fds: Vec<i32>,
    /// An address among them.
    pub address: Option<u64>,
    /// All descriptors that are counted: streams of HTTP/2 share one.
    counted: HashSet<i32>,
}

impl Things {
    /// For another sample.
    pub fn clear(&mut self) {
        self.count = 0;
        self.fds.clear();
        self.address = None;
        self.counted.clear();
    }

    /// Adds what a task waits on; `kind` is the group's.
    pub fn add(&mut self, kind: Option<WaitKind>, waits: &[WaitsOn]) {
        let mut address = None;
        for wait in waits {
            let is_new = wait.fd.is_none_or(|fd| self.counted.insert(fd));
            if let Some(fd) = wait.fd.filter(|_| is_new && self.fds.len() < MAX_FDS) {
                self.fds.push(fd);
            }
            if Some(wait.kind) == kind {
                self.count += u64::from(is_new);
                address = address.or(wait.address);
            }
        }
        self.address = address.or(self.address);
    }

    /// Adds those of another group.
    pub fn merge(&mut self, other: &Self) {
        let shared = self.counted.intersection(&other.counted).count() as u64;
        self.count += other.count.saturating_sub(shared);
        self.counted.extend(&other.counted);
        self.fds.extend(&other.fds);
        self.fds.sort_unstable();
        self.fds.dedup();
        self.address = self.address.or(other.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_several_tasks_counts_once() {
        let socket = |fd| WaitsOn {
            fd: Some(fd),
            ..WaitsOn::new(WaitKind::Descriptor)
        };
        let kind = Some(WaitKind::Descriptor);
        let mut things = Things::default();
        for fd in [7, 8, 7, 7] {
            things.add(kind, &[socket(fd)]);
        }
        things.add(kind, &[WaitsOn::new(WaitKind::Descriptor)]);
        assert_eq!((things.count, things.fds.as_slice()), (3, &[7, 8][..]));
        let mut other = Things::default();
        other.add(kind, &[socket(8)]);
        other.add(kind, &[socket(9)]);
        things.merge(&other);
        assert_eq!((things.count, things.fds.as_slice()), (4, &[7, 8, 9][..]));
        for fd in 100..200 {
            things.add(kind, &[socket(fd)]);
        }
        assert_eq!((things.count, things.fds.len()), (104, MAX_FDS));
        things.clear();
        assert_eq!((things.count, things.fds.len()), (0, 0));
    }
}
