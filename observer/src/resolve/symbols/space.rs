//! The code of one process: which address belongs to which file, kept after it has exited.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::modules::{Module, Modules};
use crate::model::{Pid, Reason};
use crate::sys::modules::{Backing, CodeMapping, code_mappings};
use crate::sys::process::Process;

/// A process maps new code now and then (dlopen, JIT): looked for at most this often, since an
/// address in no mapping can also be a broken stack.
const REFRESH: Duration = Duration::from_millis(250);

/// Unmapped ranges kept per process: a JIT unmaps without end.
const MAX_GONE: usize = 4096;

/// What an address of a process belongs to.
#[derive(Debug)]
pub enum Place<'a> {
    /// A file, at this offset.
    File(&'a Rc<Module>, u64),
    /// Code without a usable file, with the reason and the name to show.
    Nameless(Option<&'a str>, Reason),
}

#[derive(Debug)]
struct Range {
    mapping: CodeMapping,
    module: Result<Rc<Module>, Reason>,
}

/// The code of one process.
#[derive(Debug)]
pub struct Space {
    process: Process,
    ranges: Vec<Range>,
    read_at: Instant,
    /// When it was last asked for, as a count of requests: the least recent one makes room.
    pub used: u64,
}

impl Space {
    /// Reads the mappings of a live process and opens its modules.
    pub fn read(pid: Pid, modules: &mut Modules) -> Result<Self, Reason> {
        let process = Process::open(pid).map_err(|error| Reason::with(error.to_string()))?;
        let mut space = Self {
            process,
            ranges: Vec::new(),
            read_at: Instant::now(),
            used: 0,
        };
        space.load(modules)?;
        Ok(space)
    }

    /// Looks for new code if it makes sense: whether there may be some.
    pub fn refresh(&mut self, modules: &mut Modules) -> bool {
        if self.read_at.elapsed() < REFRESH || !self.process.is_alive() {
            return false;
        }
        self.load(modules).is_ok()
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    fn load(&mut self, modules: &mut Modules) -> Result<(), Reason> {
        self.read_at = Instant::now();
        let pid = self.process.id.pid;
        let mappings = code_mappings(pid)?;
        let mut old: BTreeMap<u64, Range> = std::mem::take(&mut self.ranges)
            .into_iter()
            .map(|range| (range.mapping.start, range))
            .collect();
        let mut ranges: Vec<Range> = mappings
            .into_iter()
            .map(|mapping| match old.remove(&mapping.start) {
                // A range that did not change needs no second open.
                Some(range) if range.mapping == mapping => range,
                _ => Range {
                    module: modules.open(pid, &mapping),
                    mapping,
                },
            })
            .collect();
        // Code that was unmapped meanwhile can still be in stacks that wait to be symbolized.
        let gone: Vec<Range> = old
            .into_values()
            .filter(|range| {
                let after = ranges.partition_point(|new| new.mapping.end <= range.mapping.start);
                ranges
                    .get(after)
                    .is_none_or(|new| new.mapping.start >= range.mapping.end)
            })
            .take(MAX_GONE)
            .collect();
        ranges.extend(gone);
        ranges.sort_by_key(|range| range.mapping.start);
        self.ranges = ranges;
        Ok(())
    }

    /// What `address` belongs to; `None` when no code is mapped there.
    pub fn find(&self, address: u64) -> Option<Place<'_>> {
        let after = self
            .ranges
            .partition_point(|range| range.mapping.start <= address);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        if address >= range.mapping.end {
            return None;
        }
        let offset = address - range.mapping.start + range.mapping.offset;
        Some(match (&range.module, &range.mapping.backing) {
            (Ok(module), _) => Place::File(module, offset),
            (Err(reason), Backing::File { path, .. }) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                Place::Nameless(Some(name), reason.clone())
            }
            (Err(_), Backing::Vdso) => Place::Nameless(
                Some("[vdso]"),
                Reason::new("code of the kernel's vdso page, which is not symbolized"),
            ),
            (Err(_), Backing::Anonymous) => Place::Nameless(
                None,
                Reason::new("code made at run time (JIT): it is in no file"),
            ),
        })
    }
}
