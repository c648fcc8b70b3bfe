//! Recognises Go in an executable and prepares what is needed to read its processes.

use std::path::Path;
use std::sync::Arc;

use object::{Object, ObjectSegment};

use super::buildinfo::{self, GoVersion};
use super::c_calls::{self, GoStacks};
use super::census::GoCensus;
use super::dwarf;
use super::live::{Anchors, Check, load_bias};
use super::offsets::{self, GoOffsets};
use super::sched::{self, SchedAnchors, SchedReader};
use super::symbols::GoSymbols;
use super::tls::{self, Tls};
use super::transitions;
use super::waitreason;
use crate::model::memory::Memory;
use crate::model::{Known, Reason};
use crate::runtimes::{
    CodeProbes, GoReader, Runtime, RuntimeImage, RuntimeKind, TaskCensus, TaskReader, TaskStacks,
};
use crate::sys::elf::{self, ElfImage};
use crate::sys::process::Process;

/// The row for the table of runtimes.
#[derive(Debug, Clone, Copy)]
pub struct Go;

impl Runtime for Go {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Go
    }

    fn detect(&self, elf: &Arc<ElfImage>, _process: &Process) -> Option<Box<dyn RuntimeImage>> {
        GoImage::detect(elf).map(|image| Box::new(image) as Box<dyn RuntimeImage>)
    }
}

/// Go in one executable.
#[derive(Debug)]
pub struct GoImage {
    version: Known<GoVersion>,
    parts: Result<Parts, Reason>,
}

/// What reading a process needs, from the executable alone.
#[derive(Debug)]
struct Parts {
    symbols: GoSymbols,
    tls: Result<Tls, Reason>,
    anchors: Anchors,
    /// Where its Go code lies in the file, when it calls C.
    c_calls: Option<(u64, u64)>,
    sched: Option<SchedAnchors>,
}

/// One process that passed the check.
#[derive(Debug, Clone)]
pub struct GoProcess {
    /// Functions of the executable.
    pub symbols: GoSymbols,
    /// 26 of Go 1.26.8.
    pub minor: u32,
    /// Offsets that fit the process.
    pub offsets: GoOffsets,
    /// Load bias.
    pub bias: u64,
    /// Address of `runtime.allgs` in the process.
    pub allgs: u64,
    /// Where the executable's segments lie in the process.
    pub variables: std::ops::Range<u64>,
    /// Address of `runtime.gomaxprocs` in the process; `None` in stripped programs.
    pub gomaxprocs: Option<u64>,
    /// What reads its scheduler, or why nothing does.
    pub sched: Result<SchedReader, Reason>,
    /// Where its Go code lies in the process, when the program calls C.
    pub c_calls: Option<(u64, u64)>,
    /// Where a thread keeps its `g`.
    pub tls_offset: Known<i64>,
    /// How all this is known, one clause each.
    pub evidence: Vec<String>,
}

impl GoImage {
    /// Recognises Go by its build record.
    pub fn detect(image: &ElfImage) -> Option<Self> {
        let elf = image.parse().ok()?;
        let info = buildinfo::find(&elf)?;
        // The image outlives the caller's view of the file: it is mapped once more.
        let parts = ElfImage::open(Path::new(image.path()))
            .map_err(|e| Reason::with(e.to_string()))
            .and_then(|own| GoSymbols::new(Arc::new(own)))
            .map(|symbols| Parts {
                tls: tls::find(&elf, &symbols),
                anchors: Anchors::find(&elf, &symbols),
                c_calls: c_calls::code_of(&symbols),
                sched: SchedAnchors::find(&elf, &symbols),
                symbols,
            });
        Some(Self {
            version: info.go_version(),
            parts,
        })
    }

    /// The functions of the executable.
    pub fn symbols(&self) -> Result<&GoSymbols, &Reason> {
        self.parts.as_ref().map(|p| &p.symbols)
    }

    /// Prepares to read one process: finds what is needed and checks it on the live memory.
    ///
    /// # Errors
    /// The reason why goroutines can not be read in this process.
    pub fn attach(&self, process: &Process, memory: &dyn Memory) -> Result<GoProcess, Reason> {
        let version = match &self.version {
            Known::Known(version) => version,
            Known::Unknown(reason) => return Err(reason.clone()),
        };
        let parts = self.parts.as_ref().map_err(Clone::clone)?;
        let elf = parts
            .symbols
            .image()
            .parse()
            .map_err(|e| Reason::with(e.to_string()))?;
        let bias = load_bias(&elf, process)?;
        let at = |address: u64| bias.wrapping_add(address);
        let allgs = parts.anchors.allgs.map(at).ok_or(Reason::new(
            "the list of goroutines could not be found in the executable",
        ))?;
        let try_offsets = |offsets: &GoOffsets| {
            let check = Check {
                offsets,
                symbols: &parts.symbols,
                allgs,
                g0: parts.anchors.g0.map(at),
                bias,
            };
            check.run(memory, process)
        };
        // The table first: debug information takes far longer to read, and the check decides.
        let table = offsets::by_minor(version.minor).filter(|_| !version.devel);
        let by_table = match table {
            Some(offsets) => try_offsets(&offsets).map(|checked| {
                let source = format!("offsets of Go 1.{} from the built-in table", version.minor);
                (offsets, source, checked)
            }),
            None => Err(Reason::with(format!(
                "Go {} is not a known version (1.{} to 1.{} are)",
                version.text,
                offsets::KNOWN_MINORS.start(),
                offsets::KNOWN_MINORS.end()
            ))),
        };
        let (offsets, source, checked) = by_table.or_else(|reason| {
            let found = dwarf::offsets(&elf).map_err(|e| Reason::with(format!("{reason}; {e}")))?;
            let checked =
                try_offsets(&found).map_err(|e| Reason::with(format!("{reason}; {e}")))?;
            Ok::<_, Reason>((
                found,
                "offsets from the program's debug information".to_owned(),
                checked,
            ))
        })?;
        let tls = parts.tls.clone();
        let tls_offset = match tls.and_then(|t| t.offset(memory, bias)) {
            Ok(offset) => Known::Known(offset),
            Err(reason) => Known::Unknown(reason),
        };
        let mut evidence = self.evidence();
        evidence.extend([source, checked]);
        if !waitreason::knows(version.minor) {
            evidence.push(format!("wait reasons of Go {} are not known", version.text));
        }
        Ok(GoProcess {
            symbols: parts.symbols.clone(),
            minor: version.minor,
            offsets,
            bias,
            allgs,
            variables: segments(&elf, bias),
            gomaxprocs: parts.symbols.tables().variables.gomaxprocs.map(at),
            sched: sched::offsets(version.minor, version.devel, &elf)
                .and_then(|offsets| SchedReader::new(parts.sched, offsets, bias, memory)),
            c_calls: parts.c_calls.map(|(start, end)| (at(start), at(end))),
            tls_offset,
            evidence,
        })
    }
}

/// Where the executable lies in the process; nowhere when it has no segments.
fn segments(elf: &elf::Elf<'_>, bias: u64) -> std::ops::Range<u64> {
    let at = |address: u64| bias.wrapping_add(address);
    let start = elf.segments().map(|s| s.address()).min();
    let end = elf
        .segments()
        .map(|s| s.address().saturating_add(s.size()))
        .max();
    match (start, end) {
        (Some(start), Some(end)) => at(start)..at(end),
        _ => 0..0,
    }
}

impl RuntimeImage for GoImage {
    fn version(&self) -> Known<String> {
        self.version.clone().map(|v| v.text)
    }

    fn evidence(&self) -> Vec<String> {
        let mut evidence = vec!["Go by its build record".to_owned()];
        match &self.parts {
            Ok(parts) => {
                evidence.push(parts.symbols.tables().evidence.to_owned());
                if parts.c_calls.is_some() {
                    evidence.push("calls C: it has the way back from C".to_owned());
                }
                evidence.push(match &parts.tls {
                    Ok(tls) => tls.evidence.to_owned(),
                    Err(reason) => reason.to_string(),
                });
                evidence.push(
                    match (parts.anchors.allgs, parts.symbols.tables().variables.allgs) {
                        (Some(_), Some(_)) => "list of goroutines by symbol".to_owned(),
                        (Some(_), None) => {
                            "list of goroutines from the code of runtime.forEachG".to_owned()
                        }
                        (None, _) => "list of goroutines not found".to_owned(),
                    },
                );
            }
            Err(reason) => evidence.push(reason.to_string()),
        }
        evidence
    }

    fn task_reader(&self, process: &Process, memory: &dyn Memory) -> Known<TaskReader> {
        match self.attach(process, memory) {
            Ok(go) => go
                .tls_offset
                .map(|offset| TaskReader::Go(go.offsets.reader(offset, go.c_calls))),
            Err(reason) => Known::Unknown(reason),
        }
    }

    fn task_stacks(&self, process: &Process, reader: &TaskReader) -> Option<Box<dyn TaskStacks>> {
        let TaskReader::Go(GoReader { cgo: Some(cgo), .. }) = reader else {
            return None;
        };
        let symbols = &self.parts.as_ref().ok()?.symbols;
        let bias = load_bias(&symbols.image().parse().ok()?, process).ok()?;
        Some(Box::new(GoStacks::new(symbols.clone(), bias, *cgo)))
    }

    fn census(&self, process: &Process, memory: &dyn Memory) -> Known<Box<dyn TaskCensus>> {
        match self.attach(process, memory) {
            Ok(go) => Known::Known(Box::new(GoCensus::new(go))),
            Err(reason) => Known::Unknown(reason),
        }
    }

    fn code_probes(&self, process: &Process, memory: &dyn Memory) -> Known<CodeProbes> {
        let devel = self.version.known().is_some_and(|version| version.devel);
        match self.attach(process, memory) {
            Ok(_) if devel => Known::unknown("a development version of Go: its code is not known"),
            Ok(go) => transitions::code_probes(&go),
            Err(reason) => Known::Unknown(reason),
        }
    }
}
