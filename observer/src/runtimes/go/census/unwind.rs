//! Stacks of goroutines that do not run, by the frame sizes in the function table.
//!
//! Frame sizes are exact at every call in every Go version, where frame pointers are missing from
//! `g.sched` of goroutines in system calls before Go 1.23.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::live::u64_at;
use super::super::pclntab::Function;
use super::super::symbols::GoSymbols;
use super::uses::UseTable;
use crate::model::census::{Direction, Uses, WaitKind};

/// Frames of one stack.
pub const MAX_DEPTH: usize = 64;
/// Different instructions whose frames are remembered.
const MAX_CACHED: usize = 1 << 16;

/// Bytes above a return address where a function keeps its register arguments (five words: more
/// than any function of interest has; Go's internal ABI, `src/cmd/compile/abi-internal.md`).
const SPILL: usize = 40;

/// What a frame means to the census.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nothing special.
    Plain,
    /// Made by the compiler to call the function of a `go` or `defer` statement.
    Wrapper,
    /// The first function of every goroutine.
    Bottom,
    /// The stack is left here for another one.
    Switch,
    /// Its caller was interrupted: the address in it is no return address.
    Interrupt,
    /// Holds the sudog of a semaphore wait.
    SemAcquire,
    /// Holds the pollDesc of a network wait.
    PollWait,
    /// Holds the condition variable.
    CondWait,
    /// Says whom a semaphore belongs to.
    Owner(WaitKind, Option<Direction>),
}

/// What is known of the frame of one instruction.
#[derive(Debug, Clone, Copy)]
struct FrameInfo {
    /// Bytes between stack pointer and return address.
    size: u32,
    role: Role,
    uses: Uses,
    entry: u64,
}

/// Multiplies: addresses need no more.
#[derive(Debug, Default, Clone, Copy)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
    }
}

/// A map from addresses.
pub type AddressMap<T> = HashMap<u64, T, BuildHasherDefault<AddressHasher>>;

/// Where an unfinished walk is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walk {
    /// Stack pointer of the current frame.
    pub sp: u64,
    /// Its instruction.
    pub pc: u64,
    /// `pc` is the instruction itself, not a return address.
    pub exact: bool,
    /// Frames found so far.
    pub depth: usize,
    /// Bytes of stack that the next step needs, from `sp`; 0: the walk is over.
    pub needs: usize,
    /// It came to the goroutine's first function.
    pub whole: bool,
}

/// One frame, with the bytes from its stack pointer up to its return address, and those above it
/// where its arguments are kept.
#[derive(Debug)]
pub struct FrameView<'a> {
    /// What it means.
    pub role: Role,
    /// Its instruction.
    pub pc: u64,
    /// What its function's code does with channels and mutexes.
    pub uses: Uses,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Walks stacks of one process.
#[derive(Debug)]
pub struct Unwinder {
    symbols: GoSymbols,
    bias: u64,
    cache: AddressMap<Option<FrameInfo>>,
    /// Who uses channels and mutexes; looked for when it is asked for first.
    uses: Option<UseTable>,
    /// [`Self::step`] visits every frame.
    all: bool,
}

impl Unwinder {
    /// For a process with this load bias.
    pub fn new(symbols: GoSymbols, bias: u64) -> Self {
        Self {
            symbols,
            bias,
            cache: AddressMap::default(),
            uses: None,
            all: false,
        }
    }

    /// Tells [`Self::step`] to visit the frames of functions that use channels or mutexes, too.
    pub fn look_for_uses(&mut self) {
        if self.uses.is_none() {
            self.uses = Some(UseTable::new(&self.symbols));
            self.cache.clear();
        }
    }

    /// Tells [`Self::step`] to visit the frames of all functions, or of those of interest only.
    pub fn show_all(&mut self, all: bool) {
        self.all = all;
    }

    /// Name of the function that holds `pc` (address in the process).
    pub fn function_name(&self, pc: u64) -> Option<&str> {
        self.symbols.function_name(pc.wrapping_sub(self.bias))
    }

    fn info(&mut self, pc: u64) -> Option<FrameInfo> {
        if let Some(info) = self.cache.get(&pc) {
            return *info;
        }
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        let info = self.find(pc);
        self.cache.insert(pc, info);
        info
    }

    fn find(&self, pc: u64) -> Option<FrameInfo> {
        let file_pc = pc.wrapping_sub(self.bias);
        let function = self.symbols.pclntab()?.find(file_pc)?;
        let role = match function.name().map_or(Role::Plain, role_of) {
            Role::Plain if self.is_wrapper(&function) => Role::Wrapper,
            role => role,
        };
        let uses = match &self.uses {
            Some(table) if role == Role::Plain => table.of(&self.symbols, &function),
            _ => Uses::default(),
        };
        Some(FrameInfo {
            uses,
            size: match role {
                Role::Bottom | Role::Switch => 0,
                _ => function.frame_size(file_pc)?,
            },
            role,
            entry: function.entry.wrapping_add(self.bias),
        })
    }

    /// Where names do not tell it.
    fn is_wrapper(&self, function: &Function<'_>) -> bool {
        let wrapper = self.symbols.tables().wrapper;
        wrapper.is_some_and(|id| function.id() == Some(id))
    }

    /// Starts a walk at a saved stack pointer and program counter.
    pub fn start(&mut self, sp: u64, pc: u64) -> Walk {
        // A goroutine that has not run yet is about to execute its first instruction.
        let exact = self.info(pc).is_some_and(|i| i.entry == pc);
        Walk {
            sp,
            pc,
            exact,
            depth: 0,
            needs: if sp == 0 || pc == 0 { 0 } else { 8 },
            whole: false,
        }
    }

    /// Walks on as far as `window`, the stack's bytes from `walk.sp`, reaches. Addresses go to
    /// `frames`; `visit` sees each frame of interest.
    pub fn step(
        &mut self,
        walk: &mut Walk,
        window: &[u8],
        frames: &mut [u64],
        visit: &mut dyn FnMut(&FrameView<'_>),
    ) {
        let base = walk.sp;
        walk.needs = 0;
        while walk.depth < frames.len().min(MAX_DEPTH) {
            let at = if walk.exact {
                walk.pc
            } else {
                walk.pc.wrapping_sub(1)
            };
            let Some(info) = self.info(at) else {
                return;
            };
            if info.role == Role::Bottom {
                walk.whole = true;
                return;
            }
            let from = (walk.sp - base) as usize;
            let to = from + info.size as usize;
            if info.role == Role::Switch {
                frames[walk.depth] = at;
                walk.depth += 1;
                return;
            }
            let plain = matches!(info.role, Role::Plain | Role::Wrapper);
            let reach = to + 8 + if plain { 0 } else { SPILL };
            let (Some(caller), Some(bytes)) = (u64_at(window, to), window.get(from..reach)) else {
                walk.needs = reach - from;
                return;
            };
            frames[walk.depth] = at;
            walk.depth += 1;
            // Arguments too, as far as they were read: the outermost frame has few words above it.
            let bytes = match info.role {
                Role::Plain | Role::Wrapper => window.get(from..(to + 8 + SPILL).min(window.len())),
                _ => Some(bytes),
            };
            if (self.all || !plain || info.uses.any())
                && let Some(bytes) = bytes
            {
                visit(&FrameView {
                    role: info.role,
                    pc: at,
                    uses: info.uses,
                    bytes,
                });
            }
            let Some(sp) = walk.sp.checked_add(u64::from(info.size) + 8) else {
                return;
            };
            walk.sp = sp;
            walk.pc = caller;
            walk.exact = info.role == Role::Interrupt;
            if caller == 0 {
                return;
            }
        }
    }
}

/// By name; the names are those of Go 1.18 to 1.27.
fn role_of(name: &str) -> Role {
    match name {
        "runtime.goexit" => Role::Bottom,
        "runtime.mstart"
        | "runtime.systemstack"
        | "runtime.mcall"
        | "runtime.cgocallback"
        | "runtime.rt0_go"
        | "runtime.morestack" => Role::Switch,
        "runtime.asyncPreempt" | "runtime.sigpanic" => Role::Interrupt,
        "runtime.semacquire1" => Role::SemAcquire,
        "runtime.netpollblock" | "internal/poll.runtime_pollWait" => Role::PollWait,
        "sync.(*Cond).Wait" => Role::CondWait,
        "sync.(*WaitGroup).Wait" => Role::Owner(WaitKind::WaitGroup, None),
        "sync.(*Mutex).lockSlow" | "internal/sync.(*Mutex).lockSlow" => {
            Role::Owner(WaitKind::Mutex, None)
        }
        "sync.(*RWMutex).RLock" => Role::Owner(WaitKind::RwMutex, Some(Direction::Receive)),
        "sync.(*RWMutex).Lock" => Role::Owner(WaitKind::RwMutex, Some(Direction::Send)),
        // `src/cmd/compile/internal/ir/func.go`, closureName: `main.serve.gowrap1`, from Go 1.22 on.
        _ if is_wrapper(name) => Role::Wrapper,
        _ => Role::Plain,
    }
}

fn is_wrapper(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    ["gowrap", "deferwrap"].iter().any(|kind| {
        last.strip_prefix(kind)
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}
