//! Is tokio's runtime in an executable, and which version? Answered by byte search, so that looking
//! at every process of a host stays cheap.

use std::collections::BTreeSet;

use memchr::memmem;

use crate::sys::elf::ElfImage;

/// At most this many occurrences of a needle are looked at: a hostile file may be full of them.
const MAX_HITS: usize = 4096;
/// Bytes that are searched at once.
const BLOCK: usize = 4 << 20;

/// A tokio release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokioVersion {
    /// Always 1 so far.
    pub major: u16,
    /// Decides layouts.
    pub minor: u16,
    /// Never decided a layout.
    pub patch: u16,
}

impl std::fmt::Display for TokioVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What the bytes of a file say about tokio.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Versions named by panic locations of the runtime (`tokio-1.54.1/src/runtime/...`).
    pub versions: BTreeSet<TokioVersion>,
    /// A panic location of the runtime without a version (vendored sources).
    pub unversioned_path: bool,
    /// A symbol of the runtime.
    pub symbols: bool,
    /// The compiler, from `.comment` (`1.95.0`).
    pub rustc: Option<String>,
}

/// The same for a file, whose pages do not stay while all of it is searched.
pub fn presence_in(image: &ElfImage) -> Option<Presence> {
    look(image.bytes(), &|| image.release_pages())
}

/// Looks for tokio's runtime; `None` when nothing points to it. A program that uses only tokio's
/// channels has no `src/runtime` location and is not one.
pub fn presence(bytes: &[u8]) -> Option<Presence> {
    look(bytes, &|| {})
}

fn look(bytes: &[u8], release: &dyn Fn()) -> Option<Presence> {
    let mut found = Presence::default();
    // Panic locations: `<registry>/tokio-1.54.1/src/runtime/...` (cargo's naming of unpacked crates).
    for at in places(bytes, b"/src/runtime/", release).take(MAX_HITS) {
        match directory_before(bytes, at) {
            Some(b"tokio") => found.unversioned_path = true,
            Some(name) => {
                if let Some(version) = parse_version(name) {
                    found.versions.insert(version);
                }
            }
            None => {}
        }
    }
    // Both manglings spell a path's components as length and name.
    found.symbols = places(bytes, b"5tokio7runtime", release).next().is_some();
    if found == Presence::default() {
        return None;
    }
    let rustc = places(bytes, b"rustc version ", release).next();
    found.rustc = rustc.and_then(|at| {
        let rest = &bytes[at + 14..];
        let end = rest.iter().take(32).position(|&b| b == b' ' || b == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    });
    Some(found)
}

/// Where `needle` is, in order; `release` is called after each [`BLOCK`].
fn places<'b>(
    bytes: &'b [u8],
    needle: &'b [u8],
    release: &'b dyn Fn(),
) -> impl Iterator<Item = usize> + 'b {
    let starts = (0..bytes.len()).step_by(BLOCK);
    starts.flat_map(move |start| {
        if start != 0 {
            release();
        }
        // Together with one that begins in the block's last bytes.
        let end = start + BLOCK + needle.len() - 1;
        let block = &bytes[start..end.min(bytes.len())];
        memmem::find_iter(block, needle).map(move |at| start + at)
    })
}

/// The last path component that ends at `end`; at most 40 bytes.
fn directory_before(bytes: &[u8], end: usize) -> Option<&[u8]> {
    let window = &bytes[end.saturating_sub(40)..end];
    let start = window.iter().rposition(|&b| b == b'/')? + 1;
    Some(&window[start..])
}

/// `tokio-1.54.1` (also with a pre-release or build suffix).
fn parse_version(name: &[u8]) -> Option<TokioVersion> {
    let text = std::str::from_utf8(name.strip_prefix(b"tokio-")?).ok()?;
    let mut numbers = text.split(['.', '-', '+']).map(str::parse);
    Some(TokioVersion {
        major: numbers.next()?.ok()?,
        minor: numbers.next()?.ok()?,
        patch: numbers.next()?.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_across_two_blocks_is_found_once() {
        let text = b"/r/tokio-1.54.1/src/runtime/";
        for shift in 0..text.len() + 2 {
            let mut bytes = vec![0_u8; 2 * BLOCK];
            let at = BLOCK + 1 - shift;
            bytes[at..at + text.len()].copy_from_slice(text);
            let needle = b"/src/runtime/";
            let found: Vec<usize> = places(&bytes, needle, &|| {}).collect();
            assert_eq!(found, [at + text.len() - needle.len()], "{shift}");
            assert_eq!(presence(&bytes).unwrap().versions.len(), 1, "{shift}");
        }
    }

    #[test]
    fn a_runtime_location_gives_the_version_and_a_channel_location_does_not() {
        let found = presence(
            b"\0/r/tokio-1.54.1/src/runtime/task/core.rs\0 rustc version 1.95.0 (5980 2026)\0",
        )
        .unwrap();
        assert_eq!(
            found
                .versions
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["1.54.1"]
        );
        assert_eq!(found.rustc.as_deref(), Some("1.95.0"));
        assert_eq!(presence(b"/r/tokio-1.54.1/src/sync/mpsc.rs"), None);
        assert_eq!(presence(b"/r/tokio-util-0.7.1/src/runtime/x"), None);
        assert!(
            presence(b"vendor/tokio/src/runtime/x")
                .unwrap()
                .unversioned_path
        );
        assert!(
            presence(b"_ZN5tokio7runtime4task3raw4poll17h0E")
                .unwrap()
                .symbols
        );
    }
}
