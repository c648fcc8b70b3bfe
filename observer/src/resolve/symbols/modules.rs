//! The files that processes run, shared between processes, each with its sources of symbols.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::plugin::{ModuleSymbols, ModuleSymbolsFactory};
use crate::model::{FrameKind, Pid, Reason};
use crate::resolve::classify;
use crate::resolve::unwind::Coverage;
use crate::sys::elf::has_interpreter;
use crate::sys::modules::{Backing, CodeMapping, ModuleFile, ModuleId, ModuleLayout};

/// One file with code.
#[derive(Debug)]
pub struct Module {
    /// The open file.
    pub file: ModuleFile,
    /// How its addresses translate, or why they do not.
    pub layout: Result<ModuleLayout, Reason>,
    /// Its language's own symbols.
    pub symbols: Option<Box<dyn ModuleSymbols>>,
    /// Some address in it got a name: symbols exist, if only in a separate debug file.
    pub answered: Cell<bool>,
    /// The code that its unwind tables cover, once asked for.
    coverage: OnceCell<Option<Coverage>>,
    /// It is loaded without an interpreter, once asked for.
    is_static: OnceCell<bool>,
    /// Distinguishes it in the address cache, also from a later file with the same inode.
    pub serial: u64,
}

impl Module {
    /// The kind of code at `vaddr`, which has no symbol.
    pub fn nameless(&self, vaddr: Option<u64>) -> FrameKind {
        match vaddr {
            Some(vaddr) if self.is_without_table(vaddr) => FrameKind::Runtime,
            _ => classify::nameless(self.file.name()),
        }
    }

    /// The kind of the function at `vaddr`, when its name and source do not tell. Only of programs that are
    /// linked statically: in others the C library is a file of its own, and functions without tables are the
    /// program's; functions in assembly are what some libraries are for.
    pub fn plain_function(&self, vaddr: u64) -> Option<FrameKind> {
        let is_library = self.file.name().contains(".so");
        let is_static = || {
            *self.is_static.get_or_init(|| {
                let image = self.file.image().ok();
                image.is_some_and(|image| image.parse().is_ok_and(|elf| !has_interpreter(&elf)))
            })
        };
        (!is_library && is_static() && self.is_without_table(vaddr)).then_some(FrameKind::Runtime)
    }

    /// In a file with unwind tables, code without one is no compiler's: the C library, linked
    /// statically, or assembly.
    fn is_without_table(&self, vaddr: u64) -> bool {
        let coverage = self.coverage.get_or_init(|| {
            let image = self.file.image().ok()?;
            Coverage::read(Arc::new(image))
        });
        coverage
            .as_ref()
            .is_some_and(|coverage| !coverage.has(vaddr))
    }
}

/// All of them. A module lives as long as a process that maps it is remembered.
pub struct Modules {
    open: HashMap<ModuleId, Weak<Module>>,
    registered: HashMap<ModuleId, Box<dyn ModuleSymbols>>,
    plugins: Vec<ModuleSymbolsFactory>,
    limit: usize,
    next_serial: u64,
}

impl Modules {
    /// None yet; at most `limit` at a time.
    pub fn new(plugins: Vec<ModuleSymbolsFactory>, limit: usize) -> Self {
        Self {
            open: HashMap::new(),
            registered: HashMap::new(),
            plugins,
            limit,
            next_serial: 0,
        }
    }

    /// The module behind a mapping, opened if it is new.
    pub fn open(&mut self, pid: Pid, mapping: &CodeMapping) -> Result<Rc<Module>, Reason> {
        if !matches!(mapping.backing, Backing::File { .. }) {
            return Err(Reason::new("no file is mapped there"));
        }
        let file = ModuleFile::open(pid, mapping)?;
        if let Some(known) = self.open.get(&file.id()).and_then(Weak::upgrade) {
            return Ok(known);
        }
        if self.len() >= self.limit {
            return Err(Reason::with(format!(
                "{} different files with code are open already: the limit",
                self.limit
            )));
        }
        let symbols = self
            .registered
            .remove(&file.id())
            .or_else(|| self.own_symbols(&file));
        let id = file.id();
        self.next_serial += 1;
        let module = Rc::new(Module {
            layout: ModuleLayout::read(&file),
            file,
            symbols,
            answered: Cell::new(false),
            coverage: OnceCell::new(),
            is_static: OnceCell::new(),
            serial: self.next_serial,
        });
        self.open.insert(id, Rc::downgrade(&module));
        Ok(module)
    }

    fn own_symbols(&self, file: &ModuleFile) -> Option<Box<dyn ModuleSymbols>> {
        if self.plugins.is_empty() {
            return None;
        }
        let image = file.image().ok()?;
        self.plugins.iter().find_map(|make| make(&image))
    }

    /// Keeps symbols for a module until it is met. Modules that are open keep what they have.
    pub fn register(&mut self, id: ModuleId, symbols: Box<dyn ModuleSymbols>) {
        if self.registered.len() < self.limit {
            self.registered.insert(id, symbols);
        }
    }

    /// Modules open now. Forgets those that are not.
    pub fn len(&mut self) -> usize {
        self.open.retain(|_, module| module.strong_count() > 0);
        self.open.len()
    }
}
