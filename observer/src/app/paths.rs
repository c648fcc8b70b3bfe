//! Paths that waiting system calls were given, by what the kernel side knows them by.

use std::collections::HashMap;

use observer_common::events::path::{PATH_BYTES, Path};

use crate::model::Resource;
use crate::model::memory::Memory;

/// Paths of a session.
#[derive(Debug, Default)]
pub struct Paths(HashMap<u64, Path>);

impl Paths {
    /// Adds what the kernel side read.
    pub fn extend(&mut self, paths: impl Iterator<Item = (u64, Path)>) {
        self.0.extend(paths);
    }

    /// Reads the path at an address of a thread that waits, as the kernel side does. Its id, if there is one.
    pub fn read(&mut self, memory: &impl Memory, at: u64) -> Option<u64> {
        let mut bytes = [0; PATH_BYTES];
        // By pieces that lie in one page each: the string may end before the next one.
        const PIECE: u64 = 64;
        let mut len = 0;
        while len < PATH_BYTES {
            let from = at.checked_add(len as u64)?;
            let piece = ((PIECE - from % PIECE) as usize).min(PATH_BYTES - len);
            memory.read(from, &mut bytes[len..len + piece]).ok()?;
            let end = bytes[len..len + piece].iter().position(|byte| *byte == 0);
            if let Some(end) = end {
                bytes[len + end..].fill(0);
                break;
            }
            len += piece;
        }
        // As the kernel side's string, a cut one ends in NUL too.
        bytes[PATH_BYTES - 1] = 0;
        let mut path = Path {
            words: [0; PATH_BYTES / 8],
        };
        for (word, bytes) in path.words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let id = path.id();
        self.0.insert(id, path);
        Some(id)
    }

    /// What a wait is for.
    pub fn resource(&self, id: u64) -> Resource {
        let text = self.0.get(&id).map(text);
        let state = match &text {
            None => Some("its name could not be read"),
            Some((_, true)) => Some("the first 255 bytes of it"),
            Some((name, _)) if !name.starts_with('/') => Some("relative, as the call was given it"),
            Some(_) => None,
        };
        Resource {
            kind: "path",
            path: text.map(|(name, _)| name),
            state: state.map(str::to_owned),
            ..Resource::default()
        }
    }
}

/// A path as text, without control characters, and whether it is cut.
fn text(path: &Path) -> (String, bool) {
    let bytes: Vec<u8> = path.words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len());
    let name = String::from_utf8_lossy(&bytes[..end]);
    let name = name
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    (name, end >= PATH_BYTES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::memory::ReadError;

    /// Memory that holds bytes from an address on, and nothing else.
    struct Bytes(u64, Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let from = addr.checked_sub(self.0).ok_or(ReadError::Unmapped(addr))? as usize;
            let part = self.1.get(from..from + buf.len());
            buf.copy_from_slice(part.ok_or(ReadError::Unmapped(addr))?);
            Ok(())
        }
    }

    fn read(bytes: &[u8]) -> Option<Resource> {
        // It ends where a page does.
        let at = 0x2000 - bytes.len() as u64;
        let mut paths = Paths::default();
        let id = paths.read(&Bytes(at, bytes.to_vec()), at)?;
        Some(paths.resource(id))
    }

    #[test]
    fn a_path_at_the_end_of_mapped_memory_is_read() {
        let found = read(b"/tmp/x\0").unwrap();
        assert_eq!(
            (found.kind, found.path.as_deref()),
            ("path", Some("/tmp/x"))
        );
        assert_eq!(found.state, None);
        assert!(read(b"/tmp/x").is_none(), "it has no end");
    }

    #[test]
    fn what_is_not_the_whole_path_is_said() {
        let long = read(&[b'/'; 400]).unwrap();
        assert_eq!(long.path.unwrap().len(), 255);
        assert_eq!(long.state.as_deref(), Some("the first 255 bytes of it"));
        let relative = read(b"x\n\0").unwrap();
        assert_eq!(relative.path.as_deref(), Some("x\u{fffd}"));
        assert!(relative.state.unwrap().starts_with("relative"));
        let unread = Paths::default().resource(0);
        assert_eq!(unread.path, None);
        assert!(unread.state.unwrap().contains("could not be read"));
    }

    #[test]
    fn what_lies_behind_the_end_makes_no_other_path() {
        let mut paths = Paths::default();
        let mut id = |bytes: &[u8]| paths.read(&Bytes(0x1000, bytes.to_vec()), 0x1000);
        let mut first = vec![b'y'; 64];
        first[..3].copy_from_slice(b"/a\0");
        let one = id(&first);
        assert!(one.is_some());
        first[5] = b'z';
        assert_eq!(one, id(&first));
        first[1] = b'b';
        assert_ne!(one, id(&first));
    }
}
