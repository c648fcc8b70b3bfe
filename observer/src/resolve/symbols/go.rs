//! Go's own function table as a source of symbols: exact names, files, lines and inlined calls, in
//! stripped programs too.

use std::path::Path;

use super::plugin::{ModuleSymbols, ResolvedFrame};
use crate::model::FrameKind;
use crate::runtimes::go::GoSymbols;
use crate::sys::elf::ElfImage;

/// The symbols of a Go executable; `None` when the module has no Go function table.
pub fn go_symbols(image: &ElfImage) -> Option<Box<dyn ModuleSymbols>> {
    let symbols = GoSymbols::open(Path::new(image.path())).ok()?;
    Some(Box::new(GoModule(symbols)))
}

#[derive(Debug)]
struct GoModule(GoSymbols);

impl GoModule {
    fn frame(&self, function: &str, file: Option<String>, line: Option<u32>) -> ResolvedFrame {
        let kind = if self.0.is_runtime_function(function) {
            FrameKind::Runtime
        } else {
            FrameKind::User
        };
        ResolvedFrame {
            function: function.to_owned(),
            file,
            line,
            kind: Some(kind),
        }
    }
}

impl ModuleSymbols for GoModule {
    fn lookup(&self, file_vaddr: u64) -> Option<Vec<ResolvedFrame>> {
        let found = self.0.lookup(file_vaddr)?;
        let mut frames: Vec<ResolvedFrame> = found
            .inlined
            .into_iter()
            .map(|call| self.frame(&call.function, call.file, call.line))
            .collect();
        frames.push(self.frame(&found.function, found.file, found.line));
        Some(frames)
    }
}
