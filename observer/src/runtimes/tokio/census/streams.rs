//! HTTP/2: many streams share one connection, which a task of its own reads and writes. Who has a stream is there
//! for that connection, and who waits for a stream waits for its socket.

use std::collections::HashMap;

use crate::model::census::{Census, Holder, Reference, WaitKind};

/// The connections of one sample, by what their streams refer to.
#[derive(Debug, Default)]
pub struct Streams {
    descriptors: HashMap<u64, i32>,
}

impl Streams {
    /// For another sample.
    pub fn clear(&mut self) {
        self.descriptors.clear();
    }

    /// Notes a connection: the address of what its streams share, and its descriptor.
    pub fn note(&mut self, shared: u64, fd: i32) {
        self.descriptors.insert(shared, fd);
    }

    /// Replaces the streams of a census, which it has as addresses so far, by their connections: of who keeps
    /// one those whose descriptor is `watched`.
    pub fn resolve(&self, watched: impl Fn(i32) -> bool, census: &mut Census) {
        for wait in &mut census.waits {
            if wait.kind == WaitKind::Descriptor
                && let Some(shared) = wait.address.take()
            {
                wait.fd = wait.fd.or(self.descriptors.get(&shared).copied());
            }
        }
        if self.descriptors.is_empty() {
            return;
        }
        let Census {
            mentions, holders, ..
        } = census;
        mentions.retain(|mention| {
            let fd = self.descriptors.get(&mention.address);
            let Some(fd) = fd.filter(|_| mention.how == Reference::Owned) else {
                return true;
            };
            if watched(*fd) {
                holders.push(Holder {
                    task: mention.task,
                    fd: *fd,
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
        streams.note(0x1000, 7);
        streams.note(0x2000, 8);
        let mut census = Census::new(Mono(0));
        let wait = |kind, address| {
            let mut wait = WaitsOn::new(kind);
            wait.address = Some(address);
            wait
        };
        census.waits = vec![
            wait(WaitKind::Descriptor, 0x1000),
            wait(WaitKind::Descriptor, 0x3000),
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
        ];
        streams.resolve(|fd| fd == 7, &mut census);
        let waits: Vec<_> = census.waits.iter().map(|w| (w.fd, w.address)).collect();
        assert_eq!(waits, [(Some(7), None), (None, None), (None, Some(0x1000))]);
        let holders: Vec<_> = census.holders.iter().map(|h| (h.task, h.fd)).collect();
        assert_eq!(holders, [(1, 7)]);
        let left: Vec<_> = census.mentions.iter().map(|m| m.task).collect();
        assert_eq!(left, [3, 4]);
    }
}
