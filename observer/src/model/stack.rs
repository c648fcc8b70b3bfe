//! Stacks as they are shown: symbolized frames, nearest first.

use std::sync::Arc;

use super::known::Reason;

/// Where a frame's code belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameKind {
    /// The application or a library it chose.
    User,
    /// The language's runtime or standard library, libc included.
    Runtime,
    /// The kernel.
    Kernel,
}

impl FrameKind {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Runtime => "runtime",
            Self::Kernel => "kernel",
        }
    }
}

/// One frame of a stack. The same function is in a great many stacks, so its texts are shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The instruction address in the process (or kernel).
    pub address: u64,
    /// Demangled function name, if known.
    pub function: Option<Arc<str>>,
    /// Source file, if known.
    pub file: Option<Arc<str>>,
    /// Source line, if known.
    pub line: Option<u32>,
    /// File name of the module (executable or library).
    pub module: Option<Arc<str>>,
    /// Of code without a name: its address in the module's file, where the module lies as the file says.
    pub module_offset: Option<u64>,
    /// What kind of code it is.
    pub kind: FrameKind,
    /// Why the function is not known, when it is not.
    pub unknown_reason: Option<Reason>,
}

impl Frame {
    /// The frame that stands for those that are missing in its place.
    pub fn missing(reason: Reason) -> Self {
        Self {
            address: 0,
            function: None,
            file: None,
            line: None,
            module: None,
            module_offset: None,
            kind: FrameKind::User,
            unknown_reason: Some(reason),
        }
    }
}
