//! HTTP/2: many streams share one connection, which a task of its own reads and writes. Who has a stream is there
//! for that connection, and who waits for a stream waits for its socket.

use std::collections::HashMap;

use crate::model::census::{Census, Holder, Reference, WaitKind};

/// A connection that carries streams.
#[derive(Debug, Clone, Copy)]
struct Carrier {
    /// The task that drives it.
    task: u64,
    /// The address of what its streams share.
    shared: u64,
    fd: i32,
}

/// The connections of one sample.
#[derive(Debug, Default)]
pub struct Streams {
    carriers: Vec<Carrier>,
}

impl Streams {
    /// For another sample.
    pub fn clear(&mut self) {
        self.carriers.clear();
    }

    /// Notes a connection that a task drives: the address of what its streams share, and its descriptor.
    pub fn note(&mut self, task: u64, shared: u64, fd: i32) {
        self.carriers.push(Carrier { task, shared, fd });
    }

    /// Takes back what was noted of tasks that ran meanwhile.
    pub fn forget(&mut self, tasks: &[u64]) {
        self.carriers.retain(|one| !tasks.contains(&one.task));
    }

    /// Descriptors by what the streams share; of two for one neither counts.
    fn descriptors(&self) -> HashMap<u64, Option<i32>> {
        let mut descriptors = HashMap::new();
        for one in &self.carriers {
            let fd = descriptors.entry(one.shared).or_insert(Some(one.fd));
            *fd = fd.filter(|fd| *fd == one.fd);
        }
        descriptors
    }

    /// Replaces the streams of a census, which it has as addresses so far, by their connections: of who keeps
    /// one those whose descriptor is `watched`.
    pub fn resolve(&self, watched: impl Fn(i32) -> bool, census: &mut Census) {
        let descriptors = self.descriptors();
        for wait in &mut census.waits {
            if wait.kind == WaitKind::Descriptor
                && let Some(shared) = wait.address.take()
            {
                let fd = descriptors.get(&shared).copied().flatten();
                wait.fd = wait.fd.or(fd);
            }
        }
        if descriptors.is_empty() {
            return;
        }
        let Census {
            mentions, holders, ..
        } = census;
        mentions.retain(|mention| {
            let fd = descriptors.get(&mention.address);
            let Some(fd) = fd.filter(|_| mention.how == Reference::Owned) else {
                return true;
            };
            if let Some(fd) = fd.filter(|fd| watched(*fd)) {
                holders.push(Holder {
                    task: mention.task,
                    fd,
                    pc: mention.pc,
                    how: mention.how,
                });
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::census::{Mention, Uses, WaitsOn};
    use crate::model::time::Mono;

    #[test]
    fn streams_become_their_connections() {
        let mut streams = Streams::default();
        streams.note(11, 0x1000, 7);
        streams.note(12, 0x2000, 8);
        // It ran meanwhile, so that it says nothing; of two that differ neither does.
        streams.note(13, 0x1000, 9);
        streams.forget(&[13]);
        streams.note(14, 0x5000, 7);
        streams.note(15, 0x5000, 9);
        let mut census = Census::new(Mono(0));
        let wait = |kind, address| {
            let mut wait = WaitsOn::new(kind);
            wait.address = Some(address);
            wait
        };
        census.waits = vec![
            wait(WaitKind::Descriptor, 0x1000),
            wait(WaitKind::Descriptor, 0x3000),
            wait(WaitKind::Descriptor, 0x5000),
            wait(WaitKind::Mutex, 0x1000),
        ];
        let mention = |task, address, how| Mention {
            task,
            address,
            pc: 1,
            uses: Uses::default(),
            how,
        };
        census.mentions = vec![
            mention(1, 0x1000, Reference::Owned),
            mention(2, 0x2000, Reference::Owned),
            mention(3, 0x4000, Reference::Owned),
            mention(4, 0x1000, Reference::Guard),
            mention(5, 0x5000, Reference::Owned),
        ];
        streams.resolve(|fd| fd == 7, &mut census);
        let waits: Vec<_> = census.waits.iter().map(|w| (w.fd, w.address)).collect();
        let lock = (None, Some(0x1000));
        assert_eq!(waits, [(Some(7), None), (None, None), (None, None), lock]);
        let holders: Vec<_> = census.holders.iter().map(|h| (h.task, h.fd)).collect();
        assert_eq!(holders, [(1, 7)]);
        let left: Vec<_> = census.mentions.iter().map(|m| m.task).collect();
        assert_eq!(left, [3, 4]);
    }
}
