//! tokio in shared objects of a process: a Python or Node extension, a plug-in.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Pid;
use crate::sys::elf::ElfImage;
use crate::sys::modules::{Backing, CodeMapping, FileStamp, ModuleFile, ModuleId};

use super::detect::presence_in;

/// Files looked at in one process.
const MAX_FILES: usize = 1024;
/// Files remembered to hold no tokio.
const MAX_REMEMBERED: usize = 16_384;

/// Libraries without tokio: most are shared by many processes, and need not be read for each.
static WITHOUT: Mutex<Option<HashSet<FileStamp>>> = Mutex::new(None);

/// A library that holds tokio.
#[derive(Debug, Clone)]
pub struct SharedTokio {
    /// Its path in the target's mount namespace.
    pub path: String,
    /// The file.
    pub elf: Arc<ElfImage>,
    /// One of its executable mappings.
    pub mapping: CodeMapping,
}

/// The first code mapping of the executable at `path`: told by its name, else by its inode number
/// (either may differ from the kernel's text on stacked file systems).
pub(super) fn mapping_of_exe<'a>(
    mappings: &'a [CodeMapping],
    id: Option<ModuleId>,
    path: &Path,
) -> Option<&'a CodeMapping> {
    let path = path.to_str().unwrap_or_default();
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let is = |check: &dyn Fn(&str, u64) -> bool| {
        mappings.iter().find(|mapping| match &mapping.backing {
            Backing::File { path, inode, .. } => check(path, *inode),
            Backing::Vdso | Backing::Anonymous => false,
        })
    };
    is(&|mapped, _| mapped == path)
        .or_else(|| is(&|_, inode| id.is_some_and(|id| id.inode == inode)))
}

/// Libraries of a process that hold tokio's runtime. Reads every mapped file once (milliseconds); a
/// file that can not be opened is not looked at, and the symbolizer says so where it matters.
pub fn shared_objects(pid: Pid, mappings: &[CodeMapping]) -> Vec<SharedTokio> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for mapping in mappings {
        let Backing::File { path, .. } = &mapping.backing else {
            continue;
        };
        if seen.len() >= MAX_FILES || !seen.insert(path.as_str()) {
            continue;
        }
        let Ok(file) = ModuleFile::open(pid, mapping) else {
            continue;
        };
        let stamp = file.stamp();
        if stamp.is_some_and(is_known_without) {
            continue;
        }
        let Ok(image) = file.image() else {
            continue;
        };
        let is_library = image
            .parse()
            .is_ok_and(|elf| super::pointers::is_shared_object(&elf));
        if is_library && presence_in(&image).is_some() {
            found.push(SharedTokio {
                path: path.clone(),
                elf: Arc::new(image),
                mapping: mapping.clone(),
            });
        } else if let Some(stamp) = stamp {
            remember_without(stamp);
        }
    }
    found
}

fn is_known_without(stamp: FileStamp) -> bool {
    let known = WITHOUT.lock().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().is_some_and(|set| set.contains(&stamp))
}

fn remember_without(stamp: FileStamp) {
    let mut known = WITHOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let set = known.get_or_insert_with(HashSet::new);
    if set.len() >= MAX_REMEMBERED {
        set.clear();
    }
    set.insert(stamp);
}
