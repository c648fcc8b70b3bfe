//! What the tasks of a group wait on, of one sample: each thing once, however many tasks wait on it.

use crate::model::census::{WaitKind, WaitsOn};
use crate::model::hashing::QuickSet;

/// Descriptors that are kept, to be looked up.
const MAX_FDS: usize = 16;

/// Descriptors, channels, locks.
#[derive(Debug, Clone, Default)]
pub struct Things {
    /// How many there are.
    pub count: u64,
    /// Waits for descriptors that are not known.
    pub unknown: u64,
    /// Descriptors that the tasks wait for; bounded for each group.
    pub fds: Vec<i32>,
    /// An address among them.
    pub address: Option<u64>,
    /// All descriptors that are counted: streams of HTTP/2 share one.
    counted: QuickSet<i32>,
}

impl Things {
    /// For another sample.
    pub fn clear(&mut self) {
        self.count = 0;
        self.unknown = 0;
        self.fds.clear();
        self.address = None;
        self.counted.clear();
    }

    /// Adds what a task waits on; `kind` is the group's.
    pub fn add(&mut self, kind: Option<WaitKind>, waits: &[WaitsOn]) {
        let mut address = None;
        for wait in waits {
            if let Some(fd) = wait.fd
                && self.fds.len() < MAX_FDS
                && !self.fds.contains(&fd)
            {
                self.fds.push(fd);
            }
            if Some(wait.kind) != kind {
                continue;
            }
            match wait.fd {
                Some(fd) => self.count += u64::from(self.counted.insert(fd)),
                None if wait.kind == WaitKind::Descriptor => self.unknown += 1,
                None => self.count += 1,
            }
            address = address.or(wait.address);
        }
        self.address = address.or(self.address);
    }

    /// Adds those of another group.
    pub fn merge(&mut self, other: &Self) {
        let shared = self.counted.intersection(&other.counted).count() as u64;
        self.count += other.count.saturating_sub(shared);
        self.unknown += other.unknown;
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
    fn what_is_of_another_kind_does_not_count() {
        let kind = Some(WaitKind::Channel);
        let waits = |channel| {
            let mut own = WaitsOn::new(WaitKind::Channel);
            own.address = Some(channel);
            let mut socket = WaitsOn::new(WaitKind::Descriptor);
            socket.fd = Some(7);
            [own, socket]
        };
        let (mut things, mut other) = (Things::default(), Things::default());
        things.add(kind, &waits(0x1000));
        other.add(kind, &waits(0x2000));
        things.merge(&other);
        assert_eq!((things.count, things.unknown), (2, 0));
        assert_eq!(things.fds, [7]);
    }

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
        assert_eq!((things.count, things.unknown), (2, 1));
        assert_eq!(things.fds, [7, 8]);
        let mut other = Things::default();
        other.add(kind, &[socket(8)]);
        other.add(kind, &[socket(9)]);
        things.merge(&other);
        assert_eq!((things.count, things.unknown), (3, 1));
        assert_eq!(things.fds, [7, 8, 9]);
        for fd in 100..200 {
            things.add(kind, &[socket(fd)]);
        }
        assert_eq!((things.count, things.fds.len()), (103, MAX_FDS));
        things.clear();
        assert_eq!((things.count, things.fds.len()), (0, 0));
    }
}
