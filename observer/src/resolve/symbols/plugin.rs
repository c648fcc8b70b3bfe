//! The seam for languages that bring their own symbol tables (Go's `.gopclntab`).

use std::fmt::Debug;

use crate::model::FrameKind;
use crate::sys::elf::ElfImage;

/// One function at an address; several when functions were inlined there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedFrame {
    /// Function name, readable.
    pub function: String,
    /// Source file, if known.
    pub file: Option<String>,
    /// Source line, if known.
    pub line: Option<u32>,
    /// What kind of code it is, when the language knows; else it is classified by name.
    pub kind: Option<FrameKind>,
}

/// Symbols of one module, by a language's own table. Used before ELF symbols and DWARF.
pub trait ModuleSymbols: Debug + Send {
    /// The functions at `file_vaddr` (virtual address as in the file, without load bias; for a
    /// return address already moved back into the call), innermost inlined one first. `None`: not
    /// in this table, so that ELF symbols may answer (C code in a cgo program).
    fn lookup(&self, file_vaddr: u64) -> Option<Vec<ResolvedFrame>>;
}

/// Makes the symbols of a module when it is first met; `None` when the module is not of that
/// language. Called on the symbolizer's thread.
pub type ModuleSymbolsFactory =
    Box<dyn Fn(&ElfImage) -> Option<Box<dyn ModuleSymbols>> + Send + 'static>;
