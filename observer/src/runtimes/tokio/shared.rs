//! tokio in shared objects of a process: a Python or Node extension, a plug-in. It is recognised and
//! said; its tasks are not read, because the thread-locals of a library lie elsewhere in each thread.

use crate::model::{Pid, Reason};
use crate::sys::modules::{Backing, ModuleFile, code_mappings};

use super::detect::{Presence, presence};

/// Files looked at in one process.
const MAX_FILES: usize = 1024;

/// A library that holds tokio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedTokio {
    /// Its path in the target's mount namespace.
    pub path: String,
    /// What its bytes say.
    pub presence: Presence,
}

impl SharedTokio {
    /// Why its tasks are not read.
    pub fn reason(&self) -> Reason {
        let file = self.path.rsplit('/').next().unwrap_or(&self.path);
        Reason::with(format!(
            "tokio is in {file}, a shared object, whose thread-locals are dynamic"
        ))
    }
}

/// Libraries of a process that hold tokio's runtime. Reads every mapped file once (milliseconds).
///
/// # Errors
/// The reason, when the process is gone or may not be read.
pub fn shared_objects(pid: Pid) -> Result<Vec<SharedTokio>, Reason> {
    let mut seen = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for mapping in code_mappings(pid)? {
        let Backing::File { path, .. } = &mapping.backing else {
            continue;
        };
        if seen.len() >= MAX_FILES || !seen.insert(path.clone()) {
            continue;
        }
        // A file that cannot be opened is not looked at; the symbolizer says so where it matters.
        let Ok(image) = ModuleFile::open(pid, &mapping).and_then(|file| file.image()) else {
            continue;
        };
        let is_library = image
            .parse()
            .is_ok_and(|elf| super::pointers::is_shared_object(&elf));
        if let (true, Some(presence)) = (is_library, presence(image.bytes())) {
            found.push(SharedTokio {
                path: path.clone(),
                presence,
            });
        }
    }
    Ok(found)
}
