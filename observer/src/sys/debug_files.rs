//! Files with symbols and debug information that were split from a program: found by build id
//! (`/usr/lib/debug/.build-id/ab/cdef.debug`) or by `.gnu_debuglink`, as gdb does.
//!
//! Layout: gdb manual, "Debugging Information in Separate Files". A file counts only when it has the
//! program's build id, or, for a program without one, the checksum that the link names.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSection as _, ObjectSymbolTable as _};

use super::elf::{Elf, ElfImage};

/// Where debug files are looked for, separated by `:`; before the system's own place.
pub const VARIABLE: &str = "OBSERVER_DEBUG_DIR";
/// The system's own place.
const SYSTEM: &str = "/usr/lib/debug";
/// Directories looked at.
const MAX_DIRECTORIES: usize = 16;
/// A debug file that is only found by name is read as a whole for its checksum: up to this size.
const MAX_CHECKED: usize = 1 << 30;

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct DebugDirs(Vec<PathBuf>);

impl DebugDirs {
    /// The directories of the environment, then the system's own. `root`: the target's root
    /// directory, whose debug files come first (it may be a container).
    pub fn of(root: &Path) -> Self {
        let named = std::env::var_os(VARIABLE).unwrap_or_default();
        let mut all: Vec<PathBuf> = std::env::split_paths(&named)
            .filter(|dir| !dir.as_os_str().is_empty())
            .take(MAX_DIRECTORIES)
            .collect();
        all.push(root.join(SYSTEM.trim_start_matches('/')));
        all.push(PathBuf::from(SYSTEM));
        Self(all)
    }

    /// These directories and no others.
    pub fn only(dirs: &[PathBuf]) -> Self {
        Self(dirs.to_vec())
    }

    /// The debug file of a program or library that lies (or was built to lie) at `path`; `root` as
    /// in [`DebugDirs::of`]. `None`: there is none, or none that belongs to it.
    pub fn find(&self, image: &ElfImage, root: &Path, path: &Path) -> Option<ElfImage> {
        let elf = image.parse().ok()?;
        let id = elf.build_id().ok().flatten();
        if let Some(id) = id {
            let (first, rest) = id.split_first()?;
            let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
            let found = self.0.iter().find_map(|dir| {
                let image = open(&dir.join(&name))?;
                belongs(&image, id).then_some(image)
            });
            if found.is_some() {
                return found;
            }
        }
        let (name, checksum) = elf.gnu_debuglink().ok().flatten()?;
        let name = Path::new(std::str::from_utf8(name).ok()?);
        // A name, not a path: a file says what is opened here.
        if name.components().count() != 1 || name.file_name() != Some(name.as_os_str()) {
            return None;
        }
        let dir = path.parent()?;
        let inside = dir.strip_prefix("/").unwrap_or(dir);
        let beside = [root.join(inside), root.join(inside).join(".debug")];
        let below = self.0.iter().map(|debug| debug.join(inside));
        beside.into_iter().chain(below).find_map(|dir| {
            let image = open(&dir.join(name))?;
            let fits = match id {
                Some(id) => belongs(&image, id),
                None => image.bytes().len() <= MAX_CHECKED && crc32(image.bytes()) == checksum,
            };
            fits.then_some(image)
        })
    }
}

/// A debug file that names something.
fn open(path: &Path) -> Option<ElfImage> {
    // Devices and pipes are no files: opening them could block or have effects.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let image = ElfImage::open(path).ok()?;
    image.parse().is_ok_and(|elf| tells(&elf)).then_some(image)
}

/// Whether a file has symbols or debug information.
fn tells(elf: &Elf<'_>) -> bool {
    has_debug_info(elf)
        || elf
            .symbol_table()
            .is_some_and(|t| t.symbols().next().is_some())
}

/// Whether a file holds debug information itself.
pub fn has_debug_info(elf: &Elf<'_>) -> bool {
    elf.section_by_name(".debug_info")
        .is_some_and(|section| section.size() > 0)
}

fn belongs(image: &ElfImage, id: &[u8]) -> bool {
    image
        .parse()
        .is_ok_and(|elf| elf.build_id().ok().flatten() == Some(id))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

/// The checksum of `.gnu_debuglink`: CRC-32 as in zlib (polynomial 0xedb88320).
fn crc32(bytes: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (value, entry) in (0_u32..).zip(&mut table) {
        *entry = (0..8).fold(value, |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)));
    }
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (crc >> 8) ^ table[usize::from(crc as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_build_id_is_written_as_file_names_have_it() {
        assert_eq!(hex(&[0x0a, 0xff, 0x30]), "0aff30");
    }
}
