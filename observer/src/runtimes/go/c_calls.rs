//! Goroutines inside C calls: C runs on the thread's own stack, while the goroutine's was left in
//! `runtime.asmcgocall` (Go 1.18 to 1.27, `src/runtime/asm_amd64.s`), after `runtime.cgocall` had
//! noted where in `g.syscallsp` and `g.syscallpc` (`src/runtime/cgocall.go`, `reentersyscall`).

use super::census::unwind::{MAX_DEPTH, Unwinder};
use super::live::u64_at;
use super::symbols::GoSymbols;
use crate::model::Reason;
use crate::model::event::LeftStack;
use crate::model::memory::Memory;
use crate::runtimes::{CgoReader, TaskStack, TaskStacks};

/// Bytes of a goroutine's stack that are read at most.
const MAX_BYTES: usize = 32 << 10;
/// The unit in which they are read.
const PIECE: usize = 1024;

/// File virtual addresses of a program's Go code, when it calls C. Such a program has
/// `crosscall2`, the way back from C, which no other has.
pub fn code_of(symbols: &GoSymbols) -> Option<(u64, u64)> {
    let table = symbols.pclntab()?;
    table.by_name("crosscall2")?;
    let first = table.function(0)?;
    let last = table.function(table.len().checked_sub(1)?)?;
    (first.entry < last.end).then_some((first.entry, last.end))
}

/// Walks the stacks of goroutines of one process.
#[derive(Debug)]
pub struct GoStacks {
    unwinder: Unwinder,
    reader: CgoReader,
    frames: Vec<u64>,
    bytes: Vec<u8>,
}

impl GoStacks {
    /// For a process with this load bias.
    pub fn new(symbols: GoSymbols, bias: u64, reader: CgoReader) -> Self {
        Self {
            unwinder: Unwinder::new(symbols, bias),
            reader,
            frames: vec![0; MAX_DEPTH],
            bytes: Vec::new(),
        }
    }
}

impl TaskStacks for GoStacks {
    fn is_runtime_code(&self, address: u64) -> bool {
        (self.reader.text..self.reader.text_end).contains(&address)
    }

    fn leaves_stack(&self, address: u64) -> bool {
        self.unwinder
            .function_name(address.wrapping_sub(1))
            .is_some_and(|name| name.starts_with("runtime.asmcgocall"))
    }

    fn walk(&mut self, left: LeftStack<'_>) -> TaskStack {
        let mut walk = self.unwinder.start(left.sp, left.pc);
        // It is a return address even where it is a function's first instruction.
        walk.exact = false;
        let frames = &mut self.frames;
        self.unwinder
            .step(&mut walk, left.bytes, frames, &mut |_| {});
        let cut = if walk.whole {
            None
        } else if walk.depth == MAX_DEPTH {
            Some(Reason::new("the stack is deeper than the limit on frames"))
        } else if walk.needs > 0 {
            Some(Reason::new(
                "the goroutine's stack is deeper than the piece that was read",
            ))
        } else {
            Some(Reason::new(
                "the goroutine was called from C: the stack of that call is not known",
            ))
        };
        // As return addresses, like those of the C frames before them.
        let return_addresses = frames[..walk.depth].iter().map(|at| at.wrapping_add(1));
        TaskStack {
            // The goroutine's first function is where its walk ends.
            addresses: return_addresses
                .chain(walk.whole.then_some(walk.pc))
                .collect(),
            cut,
        }
    }

    fn read(&mut self, memory: &dyn Memory, task_at: u64) -> Option<TaskStack> {
        let at = |offset: u32| task_at.wrapping_add(u64::from(offset));
        let mut left = [0; 16];
        memory.read(at(self.reader.g_syscallsp), &mut left).ok()?;
        let (sp, pc) = (u64_at(&left, 0)?, u64_at(&left, 8)?);
        let end = memory.read_u64(at(self.reader.g_stack + 8)).ok()?;
        if sp == 0 || pc == 0 || sp >= end {
            return None;
        }
        let room = usize::try_from(end - sp).ok()?.min(MAX_BYTES);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(room, 0);
        let mut len = 0;
        for piece in bytes.chunks_mut(PIECE) {
            if memory.read(sp.wrapping_add(len as u64), piece).is_err() {
                break;
            }
            len += piece.len();
        }
        let stack = self.walk(LeftStack {
            sp,
            pc,
            bytes: &bytes[..len],
        });
        self.bytes = bytes;
        Some(stack)
    }
}
