//! Stacks as they are shown: symbolized frames, nearest first.

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

/// One frame of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The instruction address in the process (or kernel).
    pub address: u64,
    /// Demangled function name, if known.
    pub function: Option<String>,
    /// Source file, if known.
    pub file: Option<String>,
    /// Source line, if known.
    pub line: Option<u32>,
    /// File name of the module (executable or library).
    pub module: Option<String>,
    /// What kind of code it is.
    pub kind: FrameKind,
    /// Why the function is not known, when it is not.
    pub unknown_reason: Option<Reason>,
}
