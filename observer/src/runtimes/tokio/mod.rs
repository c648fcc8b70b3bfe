//! The tokio runtime, read from outside: which tokio, where a thread keeps the id of the task that it
//! polls, and which task types there are. Facts and figures: docs/tokio.md.

mod accessors;
mod awaits;
mod census;
mod cheap;
mod context;
mod detect;
mod disasm;
mod dwarf;
mod example;
mod finder;
mod flow;
mod functions;
mod live;
mod locals;
mod names;
mod pointers;
mod polled;
mod polls;
mod program;
mod registers;
mod scheduler;
mod shared;
mod targets;
mod task;
mod threads;
mod vtables;

#[cfg(test)]
mod damage;
#[cfg(test)]
pub(crate) mod live_tests;

pub use awaits::{AwaitPoint, FutureTypes, PointKind, Suspended};
pub use census::tasks_of;
use detect::presence_in;
pub use detect::{Presence, TokioVersion, presence};
pub use example::{example_library, example_program};
pub use live::{TaskNow, read_task};
pub use locals::locals_of;
pub use names::{SchedulerKind, TaskType};
pub use scheduler::{RuntimeOf, runtimes_of};
pub use shared::{SharedTokio, shared_objects};
pub use targets::{PollTarget, PollTargets};
pub use task::{SpawnLocation, TaskAt, id_of, spawn_location, vtable_of};
pub use threads::{ThreadBase, thread_bases};
pub use vtables::{TaskOffsets, Vtable, VtableForm};

use std::sync::Arc;

use crate::model::memory::Memory;
use crate::model::{Known, Reason};
use crate::sys::elf::{Elf, ElfImage};
use crate::sys::process::Process;

use super::{Runtime, RuntimeImage, RuntimeKind, TokioReader};
use context::{ContextFacts, context_facts};
use pointers::{CodePointers, CodeRanges};

/// tokio, as a row of the runtimes' table.
#[derive(Debug, Clone, Copy)]
pub struct Tokio;

impl Runtime for Tokio {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Tokio
    }

    fn detect(&self, elf: &Arc<ElfImage>, process: &Process) -> Option<Box<dyn RuntimeImage>> {
        let program = program::TokioProgram::detect(elf, process)?;
        Some(Box::new(program))
    }
}

/// tokio in one executable.
#[derive(Debug, Clone)]
pub struct TokioImage {
    presence: Presence,
    vtables: Vec<Vtable>,
    context: ContextFacts,
    /// Holds symbols and debug information in place of the file itself.
    debug: Option<Arc<ElfImage>>,
}

impl TokioImage {
    /// Recognises tokio in an executable; `None` when its runtime is not there.
    pub fn read(elf: &ElfImage) -> Option<Self> {
        Self::read_with(elf, || None)
    }

    /// The same, with a file that holds the executable's symbols and debug information where it has
    /// none itself; it is asked for only when there is tokio.
    pub fn read_with(
        elf: &ElfImage,
        debug: impl FnOnce() -> Option<Arc<ElfImage>>,
    ) -> Option<Self> {
        let presence = presence_in(elf)?;
        let elf = elf.parse().ok()?;
        let debug = debug();
        let info = debug.as_ref().and_then(|image| image.parse().ok());
        let mut image = Self::analyze(presence, &elf, info.as_ref())?;
        image.debug.clone_from(&debug);
        Some(image)
    }

    /// As [`TokioImage::read`], on any bytes: never panics, bounded work.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let presence = presence(bytes)?;
        Self::analyze(presence, &Elf::parse(bytes).ok()?, None)
    }

    fn analyze(presence: Presence, elf: &Elf<'_>, info: Option<&Elf<'_>>) -> Option<Self> {
        let code = CodeRanges::new(elf);
        let pointers = CodePointers::read(elf, &code);
        let version = single_version(&presence);
        let mut vtables = vtables::find(elf, &pointers);
        if vtables.is_empty() && version.is_some_and(|v| (21..=22).contains(&v.minor)) {
            vtables = vtables::find_old(elf, &pointers);
        }
        // A symbol alone may be a type name in another crate's generics: no task type, no runtime.
        if presence.versions.is_empty() && vtables.is_empty() {
            return None;
        }
        let mut context = context_facts(
            (elf, info.unwrap_or(elf)),
            &code,
            &pointers,
            &vtables,
            version,
        );
        if info.is_some() {
            let clause = "symbols and debug information from a file of their own (found by build id or debug link)";
            context.evidence.insert(0, clause.to_owned());
        }
        Some(Self {
            presence,
            vtables,
            context,
            debug: None,
        })
    }

    /// What the bytes say: versions, compiler.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The task types' vtables, in address order. Addresses are as in the file.
    pub fn vtables(&self) -> &[Vtable] {
        &self.vtables
    }

    /// Names the task types; `elf` is the file that this image was read from. Not cached: it decodes
    /// code (tens of milliseconds), so callers keep the answer.
    pub fn task_types(&self, elf: &ElfImage) -> Vec<TaskType> {
        let info = self.debug.as_ref().and_then(|image| image.parse().ok());
        elf.parse()
            .map_or_else(|_| Vec::new(), |elf| self.name_types(&elf, info.as_ref()))
    }

    fn name_types(&self, elf: &Elf<'_>, info: Option<&Elf<'_>>) -> Vec<TaskType> {
        let code = CodeRanges::new(elf);
        let pointers = CodePointers::read(elf, &code);
        let minor = single_version(&self.presence).map(|v| v.minor);
        names::task_types((elf, info.unwrap_or(elf)), &pointers, &self.vtables, minor)
    }

    /// Where uprobes on task polls may be put. What cannot be verified is refused, with its reason.
    pub fn poll_targets(&self, elf: &ElfImage) -> PollTargets {
        elf.parse().map_or_else(
            |_| PollTargets::default(),
            |elf| targets::poll_targets(&elf, &self.vtables),
        )
    }

    /// The task reader as the file gives it, before the self-check on a live process.
    pub fn reader(&self) -> &Known<TokioReader> {
        &self.context.reader
    }

    /// The version, as the panic locations name it.
    pub fn version(&self) -> Known<String> {
        if self.presence.versions.is_empty() {
            return Known::unknown("the panic locations do not name tokio's version");
        }
        let versions: Vec<_> = self
            .presence
            .versions
            .iter()
            .map(ToString::to_string)
            .collect();
        Known::Known(versions.join(" and "))
    }

    /// How it was recognised and where each offset comes from, one clause each.
    pub fn evidence(&self) -> Vec<String> {
        let mut evidence = Vec::new();
        if let Known::Known(version) = self.version() {
            evidence.push(format!("panic locations name tokio {version}"));
        }
        if let Some(rustc) = &self.presence.rustc {
            evidence.push(format!("compiled by rustc {rustc}"));
        }
        evidence.push(format!(
            "{} task types by their vtables",
            self.vtables.len()
        ));
        evidence.extend(self.context.evidence.iter().cloned());
        evidence
    }

    /// The task whose `Header` is at `header` in a process where the file lies `bias` higher than
    /// its own addresses: its type, id and spawn location. A few bounded reads.
    ///
    /// # Errors
    /// When no task of this copy of tokio is there, or it can not be read.
    pub fn task_at(&self, header: u64, bias: u64, memory: &dyn Memory) -> Result<TaskAt, Reason> {
        let unreadable = |e| Reason::with(format!("the task could not be read: {e}"));
        let address = vtable_of(header, memory).map_err(unreadable)?;
        let place = self
            .vtables
            .binary_search_by_key(&address.wrapping_sub(bias), |vtable| vtable.address)
            .map_err(|_| Reason::new("no task with a known type is at that address"))?;
        let offsets = self.vtables[place]
            .offsets
            .ok_or_else(|| Reason::new("tokio before 1.23 does not tell where a task's id is"))?;
        Ok(TaskAt {
            vtable: place,
            id: id_of(header, &offsets, memory).map_err(unreadable)?,
            spawned_at: spawn_location(header, &offsets, memory),
        })
    }
}

/// The version, when there is exactly one.
fn single_version(presence: &Presence) -> Option<TokioVersion> {
    let mut versions = presence.versions.iter();
    versions
        .next()
        .copied()
        .filter(|_| versions.next().is_none())
}
