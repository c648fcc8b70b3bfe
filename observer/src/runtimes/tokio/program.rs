//! tokio in one process: the copy in the executable, and those in its libraries (Python and Node
//! extensions, plug-ins). Each linked copy has task types, ids and thread-locals of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::memory::Memory;
use crate::model::{Known, Reason};
use crate::runtimes::{
    CodeProbes, MAX_TOKIO_COPIES, RuntimeImage, TaskCensus, TaskFinder, TaskReader, TokioReader,
    TokioReaders,
};
use crate::sys::debug_files::{DebugDirs, has_debug_info};
use crate::sys::elf::{ElfImage, mapped_code};
use crate::sys::modules::{CodeMapping, ModuleId, code_mappings};
use crate::sys::process::Process;

use super::census::TokioCensus;
use super::finder::{FinderCopy, TokioFinder};
use super::shared::{SharedTokio, mapping_of_exe, shared_objects};
use super::{TokioImage, live, thread_bases};

/// One copy.
#[derive(Debug)]
struct TokioCopy {
    image: TokioImage,
    elf: Arc<ElfImage>,
    /// The library's file name; `None`: the executable.
    library: Option<String>,
    /// What addresses in the process have more than in the file.
    bias: Option<u64>,
}

/// All copies in a process.
#[derive(Debug)]
pub(super) struct TokioProgram {
    copies: Vec<TokioCopy>,
    /// Libraries with tokio beyond the bound.
    left_out: usize,
    /// Copies whose tasks are not read, and why, although others are.
    unread: Mutex<Vec<String>>,
}

impl TokioProgram {
    /// Looks at the executable and at what is mapped besides; `None` without tokio.
    pub(super) fn detect(elf: &Arc<ElfImage>, process: &Process) -> Option<Self> {
        let pid = process.id.pid;
        let mappings = code_mappings(pid).unwrap_or_default();
        let mut copies = Vec::new();
        let root = process.root();
        let dirs = DebugDirs::of(&root);
        let read = |elf: &ElfImage, path: &Path| {
            TokioImage::read_with(elf, || {
                let whole = elf.parse().is_ok_and(|elf| has_debug_info(&elf));
                let found = (!whole).then(|| dirs.find(elf, &root, path))?;
                found.map(Arc::new)
            })
        };
        if let Some(image) = read(elf, &process.exe) {
            let bias = mapping_of_exe(&mappings, ModuleId::of_exe(pid), &process.exe)
                .and_then(|mapping| bias(elf, mapping));
            copies.push(TokioCopy {
                image,
                elf: Arc::clone(elf),
                library: None,
                bias,
            });
        }
        let mut left_out = 0;
        for SharedTokio { path, elf, mapping } in shared_objects(pid, &mappings) {
            let Some(image) = read(&elf, Path::new(&path)) else {
                continue;
            };
            if copies.len() == MAX_TOKIO_COPIES {
                left_out += 1;
                continue;
            }
            let bias = bias(&elf, &mapping);
            copies.push(TokioCopy {
                image,
                elf,
                library: Some(path.rsplit('/').next().unwrap_or(&path).to_owned()),
                bias,
            });
        }
        (!copies.is_empty()).then_some(Self {
            copies,
            left_out,
            unread: Mutex::default(),
        })
    }
}

/// How much higher than in the file a mapping lies.
fn bias(elf: &ElfImage, mapping: &CodeMapping) -> Option<u64> {
    let address = mapped_code(&elf.parse().ok()?, mapping.offset)?;
    Some(mapping.start.wrapping_sub(address))
}

impl TokioCopy {
    /// The copy's reader, with its thread-locals found and checked on the live process.
    fn reader(
        &self,
        bases: &[super::ThreadBase],
        memory: &dyn Memory,
    ) -> Result<TokioReader, Reason> {
        let context = &self.image.context;
        let mut reader = match &context.reader {
            Known::Known(reader) => *reader,
            Known::Unknown(reason) => return Err(reason.clone()),
        };
        if let Some(pairs) = &context.pairs {
            let bias = self.bias.ok_or_else(|| {
                Reason::new("the library was not found in the process's mappings")
            })?;
            let (locals, raise) = match pairs.live(bias, memory) {
                Known::Known(found) => found,
                Known::Unknown(reason) => return Err(reason),
            };
            let raised = |offset: i64| offset.wrapping_add(raise);
            reader.locals = locals;
            reader.id_offset = raised(reader.id_offset);
            reader.entered_offset = reader.entered_offset.map(raised);
            reader.budget_offset = reader.budget_offset.map(raised);
            if bases.is_empty() {
                return Err(Reason::new(
                    "no thread's control block was found (not glibc?), so a library's thread-locals can not be checked",
                ));
            }
        }
        let tasks = live::check(&reader, bases, memory)?;
        if context.unconfirmed && tasks == 0 {
            return Err(Reason::new(
                "tokio's task id offset comes from a version table only and no thread confirms it",
            ));
        }
        Ok(reader)
    }

    fn place(&self) -> &str {
        self.library.as_deref().unwrap_or("the executable")
    }
}

impl RuntimeImage for TokioProgram {
    fn version(&self) -> Known<String> {
        if let [only] = self.copies.as_slice() {
            return only.image.version();
        }
        let versions: BTreeSet<String> = self
            .copies
            .iter()
            .map(|copy| match copy.image.version() {
                Known::Known(version) => version,
                Known::Unknown(_) => "unknown".to_owned(),
            })
            .collect();
        let versions: Vec<String> = versions.into_iter().collect();
        Known::Known(format!(
            "{} ({} copies)",
            versions.join(" and "),
            self.copies.len() + self.left_out
        ))
    }

    fn evidence(&self) -> Vec<String> {
        let mut evidence = Vec::new();
        for copy in &self.copies {
            let clauses = copy.image.evidence();
            match &copy.library {
                None => evidence.extend(clauses),
                Some(library) => {
                    evidence.extend(
                        clauses
                            .into_iter()
                            .map(|clause| format!("{library}: {clause}")),
                    );
                }
            }
        }
        if self.left_out > 0 {
            evidence.push(format!(
                "{} more libraries with tokio, whose tasks are not read",
                self.left_out
            ));
        }
        let unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        evidence.extend(unread.iter().cloned());
        evidence
    }

    fn task_reader(&self, process: &Process, memory: &dyn Memory) -> Known<TaskReader> {
        let bases = thread_bases(process, memory);
        let mut readers = TokioReaders::default();
        let mut reasons = Vec::new();
        for (place, copy) in readers.0.iter_mut().zip(&self.copies) {
            match copy.reader(&bases, memory) {
                Ok(reader) => *place = Some(reader),
                Err(reason) => reasons.push((copy.place(), reason)),
            }
        }
        let read = readers.iter().next().is_some();
        // When no copy is read, the reason is the answer.
        let unread = reasons
            .iter()
            .filter(|_| read)
            .map(|(place, reason)| format!("tasks of {place} are not read: {reason}"))
            .collect();
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = unread;
        match reasons.into_iter().next() {
            Some((_, reason)) if !read => Known::Unknown(reason),
            _ => Known::Known(TaskReader::Tokio(readers)),
        }
    }

    fn census(&self, process: &Process, memory: &dyn Memory) -> Known<Box<dyn TaskCensus>> {
        let Known::Known(TaskReader::Tokio(readers)) = self.task_reader(process, memory) else {
            return Known::unknown("its tasks are not read");
        };
        // Ids of several copies would be taken for each other.
        let Some((number, reader)) = readers.iter().next() else {
            return Known::unknown("its tasks are not read");
        };
        let Some(copy) = self.copies.get(usize::from(number)) else {
            return Known::unknown("its tasks are not read");
        };
        let Some(bias) = copy.bias else {
            return Known::unknown("its tokio was not found in the process's mappings");
        };
        let library = copy.library.as_deref();
        let place = (bias, *reader);
        let others = self.copies.len() - 1 + self.left_out;
        match TokioCensus::new(process, (&copy.image, &copy.elf), library, place, others) {
            Ok(census) => Known::Known(Box::new(census)),
            Err(reason) => Known::Unknown(reason),
        }
    }

    fn code_probes(&self, _process: &Process, _memory: &dyn Memory) -> Known<CodeProbes> {
        let own = self.copies.iter().find(|copy| copy.library.is_none());
        let Some(copy) = own else {
            return Known::unknown(
                "its tokio is in a library, and probes are put into executables only",
            );
        };
        let Some(bias) = copy.bias else {
            return Known::unknown("the executable was not found in the process's mappings");
        };
        match super::polls::code_probes(&copy.image, &copy.elf, bias) {
            Ok(probes) => Known::Known(probes),
            Err(reason) => Known::Unknown(reason),
        }
    }

    fn task_finder(&self, _process: &Process) -> Option<Box<dyn TaskFinder>> {
        let copies = self
            .copies
            .iter()
            .map(|copy| {
                Some(FinderCopy::new(
                    copy.image.clone(),
                    Arc::clone(&copy.elf),
                    copy.bias?,
                ))
            })
            .collect();
        Some(Box::new(TokioFinder::new(copies)))
    }
}
