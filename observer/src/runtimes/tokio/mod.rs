//! The tokio runtime, read from outside: which tokio, where a thread keeps the id of the task that it
//! polls, and which task types there are. Facts and figures: docs/tokio.md.

mod context;
mod detect;
mod disasm;
mod dwarf;
mod example;
mod flow;
mod functions;
mod live;
mod names;
mod pointers;
mod shared;
mod targets;
mod task;
mod threads;
mod vtables;

#[cfg(test)]
mod damage;
#[cfg(test)]
pub(crate) mod live_tests;

pub use detect::{Presence, TokioVersion, presence};
pub use example::example_program;
pub use live::{TaskNow, read_task};
pub use names::{SchedulerKind, TaskType};
pub use shared::{SharedTokio, shared_objects};
pub use targets::{PollTarget, PollTargets};
pub use task::{SpawnLocation, id_of, spawn_location, vtable_of};
pub use threads::{ThreadBase, thread_bases};
pub use vtables::{TaskOffsets, Vtable, VtableForm};

use crate::model::memory::Memory;
use crate::model::{Known, Reason};
use crate::sys::elf::{Elf, ElfImage};
use crate::sys::process::Process;

use super::{Runtime, RuntimeImage, RuntimeKind, TaskReader, TokioReader};
use context::{ContextFacts, context_facts};
use pointers::{CodePointers, CodeRanges};

/// tokio, as a row of the runtimes' table.
#[derive(Debug, Clone, Copy)]
pub struct Tokio;

impl Runtime for Tokio {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Tokio
    }

    fn detect(&self, elf: &ElfImage) -> Option<Box<dyn RuntimeImage>> {
        TokioImage::read(elf).map(|image| Box::new(image) as Box<dyn RuntimeImage>)
    }
}

/// tokio in one executable.
#[derive(Debug, Clone)]
pub struct TokioImage {
    presence: Presence,
    vtables: Vec<Vtable>,
    context: ContextFacts,
}

impl TokioImage {
    /// Recognises tokio in an executable; `None` when its runtime is not there.
    pub fn read(elf: &ElfImage) -> Option<Self> {
        let presence = presence(elf.bytes())?;
        Self::analyze(presence, &elf.parse().ok()?)
    }

    /// As [`TokioImage::read`], on any bytes: never panics, bounded work.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let presence = presence(bytes)?;
        Self::analyze(presence, &Elf::parse(bytes).ok()?)
    }

    fn analyze(presence: Presence, elf: &Elf<'_>) -> Option<Self> {
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
        let context = context_facts(elf, &code, &pointers, &vtables, version);
        Some(Self {
            presence,
            vtables,
            context,
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
        elf.parse()
            .map_or_else(|_| Vec::new(), |elf| self.name_types(&elf))
    }

    fn name_types(&self, elf: &Elf<'_>) -> Vec<TaskType> {
        let code = CodeRanges::new(elf);
        let pointers = CodePointers::read(elf, &code);
        let minor = single_version(&self.presence).map(|v| v.minor);
        names::task_types(elf, &pointers, &self.vtables, minor)
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
}

/// The version, when there is exactly one.
fn single_version(presence: &Presence) -> Option<TokioVersion> {
    let mut versions = presence.versions.iter();
    versions
        .next()
        .copied()
        .filter(|_| versions.next().is_none())
}

impl RuntimeImage for TokioImage {
    fn version(&self) -> Known<String> {
        if self.presence.versions.is_empty() {
            return Known::unknown("the executable's panic locations do not name tokio's version");
        }
        let versions: Vec<_> = self
            .presence
            .versions
            .iter()
            .map(ToString::to_string)
            .collect();
        Known::Known(versions.join(" and "))
    }

    fn evidence(&self) -> Vec<String> {
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

    fn task_reader(&self, process: &Process, memory: &dyn Memory) -> Known<TaskReader> {
        let reader = match &self.context.reader {
            Known::Known(reader) => *reader,
            Known::Unknown(reason) => return Known::Unknown(reason.clone()),
        };
        let bases = thread_bases(process, memory);
        match live::check(&reader, &bases, memory) {
            Err(reason) => Known::Unknown(reason),
            Ok(tasks) if self.context.unconfirmed && tasks == 0 => Known::Unknown(Reason::new(
                "tokio's task id offset comes from a version table only and no thread confirms it",
            )),
            Ok(_) => Known::Known(TaskReader::Tokio(reader)),
        }
    }
}
