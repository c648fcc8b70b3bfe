//! At which `.await` a parked task is suspended: the async backtrace, from outside.
//!
//! rustc describes an async function as a structure with a number (`__state`) and a variant for each
//! `.await`, whose source line stands with it; the variant holds the future that is awaited
//! (`__awaitee`). So from the type of a task's future, its memory gives the whole chain. Everything is
//! taken from debug information once; after that a task costs a read or two. Facts: docs/tokio.md.

mod branches;
mod coroutines;
mod decode;
mod dies;
mod keepers;
mod kept;
mod layout;
mod leaves;
mod node;
mod paths;
mod plans;
mod tables;
mod units;
mod walk;
mod window;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod live_tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use gimli::{Dwarf, EndianSlice, LittleEndian};

use crate::model::Reason;
use crate::model::census::WaitsOn;
use crate::model::memory::Memory;
use crate::model::time::Mono;
use crate::sys::elf::{Elf, ElfImage, section};

use super::vtables::Vtable;
pub use layout::Keeps;

use decode::Decoder;
use dies::{Die, Dies, Index};
use layout::{Layouts, Root, TypeId};
use paths::Names;
use walk::{Scratch, Walk};

/// Debug information larger than this is not read: it takes seconds (bytes of `.debug_info`).
const MAX_INFO: usize = 2 << 30;
/// Points for futures that are polled together: 2, 3, ... and the last for more.
const SEVERAL: usize = 8;

const NO_INFORMATION: Reason = Reason::new(
    "the program has no debug information; build it with `debug = 2`, or install its debug file",
);
const NO_TYPES: Reason = Reason::new(
    "the program has no debug information on types (line tables only); build it with `debug = 2`, or install its debug file",
);
const UNKNOWN: Reason = Reason::new("debug information does not tell the task's future");
const MERGED: Reason = Reason::new("the compiler merged its code with that of other task types");

/// What a point of a backtrace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// An `.await` in an async function or block.
    Await,
    /// An async function or block that was not polled yet.
    NotStarted,
    /// A future that is not an async function: its type.
    Leaf,
    /// Several futures that are polled together (`select!`, `join!`).
    Several,
}

/// A place at which a future is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwaitPoint {
    /// The function (`app::handler::{async_fn#0}`); of a leaf the type.
    pub function: String,
    /// Source file of the `.await`.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// What it is.
    pub kind: PointKind,
}

/// Something that a task's futures keep, and others may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptThing {
    /// What it is.
    pub what: Keeps,
    /// The lock's or channel's address, as those who wait for it have it in [`WaitsOn::address`]; of a
    /// connection the descriptor; of streams the address of what they all share.
    pub number: u64,
    /// Of a connection that carries streams its descriptor.
    pub fd: Option<i32>,
    /// The [`AwaitPoint`] of the function that keeps it.
    pub point: u32,
}

/// Where a task is suspended.
#[derive(Debug, Default)]
pub struct Suspended {
    /// Ids of [`AwaitPoint`]s, the innermost first, the task's own future last.
    pub points: Vec<u32>,
    /// What it waits for; several when futures are polled together (`select!`, `join!`).
    pub waits: Vec<WaitsOn>,
    /// Of several futures polled together `points` follow one. So many of `waits`, from the first, are
    /// that one's; none when there are no others.
    pub followed: Option<usize>,
    /// What its futures keep meanwhile.
    pub kept: Vec<KeptThing>,
    /// Not all of that was looked at.
    pub kept_more: bool,
    /// The earliest time limit (`timeout`) around what it waits for.
    pub limit: Option<Mono>,
    /// Why the backtrace ends before the innermost future.
    pub cut: Option<Reason>,
}

impl Suspended {
    fn clear(&mut self) {
        self.points.clear();
        self.waits.clear();
        self.followed = None;
        self.kept.clear();
        self.kept_more = false;
        self.limit = None;
        self.cut = None;
    }
}

/// What the futures of one program look like in memory, from its debug information.
#[derive(Debug)]
pub struct FutureTypes {
    layouts: Layouts,
    /// By the place in the list of vtables.
    roots: Vec<Result<Root, Reason>>,
    /// What lies in boxes of traits, by the addresses of their vtables.
    tables: Vec<(u64, TypeId)>,
    several: Vec<u32>,
    scratch: Scratch,
    is_full: bool,
}

impl FutureTypes {
    /// Reads a program's debug information, all that is needed of it: nothing of the file is kept.
    /// `info`: the file that holds it when that is another one.
    ///
    /// # Errors
    /// Why await points are not known.
    pub fn read(
        elf: &Arc<ElfImage>,
        info: Option<&Arc<ElfImage>>,
        vtables: &[Vtable],
    ) -> Result<Self, Reason> {
        let image = info.unwrap_or(elf);
        let found = image
            .parse()
            .map_err(|_| NO_INFORMATION)
            .and_then(|elf| Self::from_elf(&elf, Some(image), vtables));
        // What was touched would count as memory of the observer.
        image.release_pages();
        found
    }

    fn from_elf(
        elf: &Elf<'_>,
        image: Option<&ElfImage>,
        vtables: &[Vtable],
    ) -> Result<Self, Reason> {
        let bytes = section(elf, ".debug_info").map_or(0, |s| s.1.len());
        if bytes == 0 {
            return Err(NO_INFORMATION);
        }
        if bytes > MAX_INFO {
            return Err(Reason::new("the program's debug information is too large"));
        }
        let load = |id: gimli::SectionId| -> Result<_, gimli::Error> {
            // Only these are read; a compressed section is unpacked into memory.
            let wanted = matches!(
                id,
                gimli::SectionId::DebugInfo
                    | gimli::SectionId::DebugAbbrev
                    | gimli::SectionId::DebugStr
                    | gimli::SectionId::DebugLine
                    | gimli::SectionId::DebugLineStr
                    | gimli::SectionId::DebugAddr
                    | gimli::SectionId::DebugStrOffsets
            );
            Ok(Some(id)
                .filter(|_| wanted)
                .and_then(|id| section(elf, id.name()))
                .map(|s| s.1)
                .unwrap_or_default())
        };
        let sections = gimli::DwarfSections::load(load).map_err(|_| NO_INFORMATION)?;
        let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        Self::from_dwarf(&dwarf, image, vtables)
    }

    fn from_dwarf(
        dwarf: &Dwarf<EndianSlice<'_, LittleEndian>>,
        image: Option<&ElfImage>,
        vtables: &[Vtable],
    ) -> Result<Self, Reason> {
        let mut dies = Dies::new(dwarf, image);
        let functions = vtables.iter().flat_map(|v| [v.poll, v.dealloc, v.shutdown]);
        let wanted: BTreeSet<u64> = functions.collect();
        let mut index = dies.index(&wanted);
        if !index.has_types {
            return Err(NO_TYPES);
        }
        let cores: Vec<Result<Die, Reason>> = cores(&dies, &index, vtables);
        let names = Names::new(std::mem::take(&mut index.blocks));
        let mut decoder = Decoder::new(&mut dies, names);
        let roots: Vec<Result<Root, Reason>> = vtables
            .iter()
            .zip(cores)
            .map(|(vtable, core)| {
                let offsets = vtable.offsets.ok_or(Reason::new(
                    "tokio before 1.23 does not tell where a task's future is",
                ))?;
                decoder
                    .root(core?, offsets.scheduler, offsets.id)
                    .ok_or(UNKNOWN)
            })
            .collect();
        if roots.iter().all(Result::is_err) {
            return Err(UNKNOWN);
        }
        let tables = tables::concrete(&mut decoder, &index.tables);
        decoder.run();
        let is_full = decoder.is_full || decoder.dies.is_cut();
        let mut layouts = decoder.layouts;
        let several = (2..=SEVERAL)
            .map(|n| format!("{n} futures polled together"))
            .chain([format!("more than {SEVERAL} futures polled together")])
            .map(|name| layouts.intern_name(name, PointKind::Several))
            .collect();
        layouts.finish(tables.iter().map(|(_, of)| *of));
        Ok(Self {
            layouts,
            roots,
            tables,
            several,
            scratch: Scratch::default(),
            is_full,
        })
    }

    /// Whether types were left out because there are too many: backtraces may end early.
    pub fn is_incomplete(&self) -> bool {
        self.is_full
    }

    /// Whether the future of a vtable's tasks is known.
    ///
    /// # Errors
    /// Why not.
    pub fn knows(&self, vtable: usize) -> Result<(), Reason> {
        self.root(vtable).map(|_| ())
    }

    fn root(&self, vtable: usize) -> Result<&Root, Reason> {
        match self.roots.get(vtable) {
            Some(Ok(root)) => Ok(root),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(UNKNOWN),
        }
    }

    /// Where the task is suspended whose `Header` is at `header`. `vtable` is the place in the list
    /// that was given to [`FutureTypes::read`]; `bias` is how much higher the file lies in the process.
    /// The task may run meanwhile: the caller looks whether its state has changed.
    ///
    /// # Errors
    /// When the future is not known, can not be read, or is in no state that there is. What it keeps is in
    /// `out` all the same, as far as the walk came.
    pub fn suspended(
        &mut self,
        vtable: usize,
        header: u64,
        bias: u64,
        memory: &dyn Memory,
        out: &mut Suspended,
    ) -> Result<(), Reason> {
        out.clear();
        let root = match self.roots.get(vtable) {
            Some(Ok(root)) => root,
            Some(Err(reason)) => return Err(reason.clone()),
            None => return Err(UNKNOWN),
        };
        let mut walk = Walk::new(
            &self.layouts,
            &self.tables,
            &self.several,
            (bias, memory),
            &mut self.scratch,
            out,
        );
        let found = walk.task(header, root);
        walk.kept();
        found
    }

    /// A place, by its id.
    pub fn point(&self, id: u32) -> Option<&AwaitPoint> {
        self.layouts.points.get(id as usize)
    }

    /// How many places there are: ids are smaller.
    pub fn points(&self) -> usize {
        self.layouts.points.len()
    }
}

/// The `Core<T, S>` of each vtable, by a function that no other vtable has.
fn cores(dies: &Dies<'_>, index: &Index<'_>, vtables: &[Vtable]) -> Vec<Result<Die, Reason>> {
    let mut uses: HashMap<u64, usize> = HashMap::new();
    for vtable in vtables {
        for function in BTreeSet::from([vtable.poll, vtable.dealloc, vtable.shutdown]) {
            *uses.entry(function).or_default() += 1;
        }
    }
    vtables
        .iter()
        .map(|vtable| {
            // The poll tells best: it has the future's code in it, the others only how it is dropped.
            let own = [vtable.poll, vtable.shutdown, vtable.dealloc]
                .into_iter()
                .filter(|f| uses.get(f) == Some(&1))
                .filter_map(|f| index.functions.get(&f));
            let named = own.map(|found| {
                let found = found.iter().filter_map(|die| task_function(dies, *die));
                found.collect::<Vec<_>>()
            });
            let Some(named) = named.into_iter().find(|named| !named.is_empty()) else {
                let shared = uses.get(&vtable.poll).is_some_and(|n| *n > 1);
                return Err(if shared { MERGED } else { UNKNOWN });
            };
            let arguments: BTreeSet<&[u8]> = named.iter().map(|(text, _)| *text).collect();
            let (Some(text), 1) = (arguments.first(), arguments.len()) else {
                return Err(MERGED);
            };
            let units: Vec<Option<Die>> = named.iter().map(|(_, future)| *future).collect();
            let cores = index.cores.get(text).map(Vec::as_slice).unwrap_or_default();
            same_type(dies, cores, &units).ok_or(UNKNOWN)
        })
        .collect()
}

/// The text of the arguments of a function such as `poll<T, S>`, and the entry of `T`.
fn task_function<'a>(dies: &Dies<'a>, die: Die) -> Option<(&'a [u8], Option<Die>)> {
    let mut node = dies.node(die)?;
    for _ in 0..4 {
        match (node.name.is_empty(), node.origin) {
            (true, Some(origin)) => node = dies.node(origin)?,
            _ => break,
        }
    }
    let name = node.name;
    let arguments = [&b"poll<"[..], b"dealloc<", b"shutdown<"]
        .iter()
        .find_map(|function| name.strip_prefix(*function)?.strip_suffix(b">"))?;
    Some((arguments, first_argument(dies, node.die)))
}

fn first_argument(dies: &Dies<'_>, die: Die) -> Option<Die> {
    dies.children(die)
        .into_iter()
        .find(|child| child.tag == gimli::DW_TAG_template_type_parameter)?
        .of
}

/// The `Core` of the future that a function names. Types of two versions of a crate may have one
/// name: then it must be the one with the same future, or all must look the same.
fn same_type(dies: &Dies<'_>, cores: &[Die], futures: &[Option<Die>]) -> Option<Die> {
    let exact = cores
        .iter()
        .find(|core| first_argument(dies, **core).is_some_and(|t| futures.contains(&Some(t))));
    if let Some(core) = exact {
        return Some(*core);
    }
    let sizes: BTreeMap<Option<u64>, Die> = cores
        .iter()
        .filter_map(|core| Some((dies.node(*core)?.size, *core)))
        .collect();
    match (sizes.len(), sizes.into_values().next()) {
        (1, core) => core,
        _ => None,
    }
}
