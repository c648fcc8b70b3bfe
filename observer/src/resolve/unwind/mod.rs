//! User stacks without frame pointers: a copied piece of the stack and three registers, unwound by
//! the `.eh_frame` tables of the files that are mapped (crate `framehop`). Most Rust programs have no
//! frame pointers. Functions without a table (musl's) are left by their own instructions. What cannot be
//! unwound ends the stack and says why: a frame is never guessed.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, Module, ModuleSectionInfo, Unwinder as _};

use object::Endianness;
use object::elf::{PF_X, PT_LOAD};
use object::read::elf::ProgramHeader as _;

use crate::model::{Pid, Reason};
use crate::sys::elf::{ElfImage, bytes_at, mapped_code};
use crate::sys::modules::{Backing, CodeMapping, code_mappings};

mod frame_pointers;
mod leave;
mod tables;

#[cfg(test)]
mod live_tests;

pub use frame_pointers::{Coverage, has_frame_pointers};
pub use tables::TableCache;

use frame_pointers::{FrameRule, frame_rule};
use leave::{Place, Saved, Way, follows_a_call, ways_out};
use tables::{Part, Tables};

/// More frames than this are never asked for.
const MAX_FRAMES: usize = 1024;
/// Rules remembered per process.
const MAX_RULES: usize = 16_384;
/// Stands for a frame pointer that was not read; not a canonical address, so no program has it.
const UNKNOWN_FRAME_POINTER: u64 = 0x8000_0000_dead_0001;
/// The frame pointer register in a thread's first function, where nothing else tells that nothing called it
/// (System V ABI for x86-64, 3.4.1; musl's `clone` keeps to it).
const LAST_FRAME: u64 = 0;
/// Modules per process.
const MAX_MODULES: usize = 4096;

/// A thread's registers. `bp` is `None` when it was not read (`/proc/PID/task/TID/syscall` does not
/// tell it); frames that need it then end the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regs {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer register, which holds anything in code without frame pointers.
    pub bp: Option<u64>,
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwound {
    /// The instruction pointer, then return addresses (as they are: one past the call), nearest first.
    pub frames: Vec<u64>,
    /// The stack pointer in each frame.
    pub stack_pointers: Vec<u64>,
    /// Why the stack is not whole, when it is not.
    pub truncated: Option<Reason>,
}

/// The executable ranges of one process and how to unwind through them.
pub struct Unwinder {
    pid: Pid,
    ranges: Vec<CodeRange>,
    framehop: UnwinderX86_64<Part>,
    cache: CacheX86_64,
    rules: HashMap<u64, FrameRule>,
    /// Ways out of functions without a table, by address.
    ways: HashMap<u64, Arc<[Way]>>,
}

/// A file's tables as framehop asks for them. The base is 0: addresses are as in the file.
struct Sections(Arc<Tables>);

impl Sections {
    fn part(&self, name: &[u8]) -> Option<&(u64, Part)> {
        let part = match name {
            b".eh_frame_hdr" => &self.0.header,
            b".eh_frame" => &self.0.frames,
            _ => return None,
        };
        (!part.1.is_empty()).then_some(part)
    }
}

impl ModuleSectionInfo<Part> for Sections {
    fn base_svma(&self) -> u64 {
        0
    }

    fn section_svma_range(&mut self, name: &[u8]) -> Option<std::ops::Range<u64>> {
        self.part(name)
            .map(|(start, data)| *start..start.saturating_add(data.len() as u64))
    }

    fn section_data(&mut self, name: &[u8]) -> Option<Part> {
        self.part(name).map(|part| part.1.clone())
    }
}

/// One mapping.
#[derive(Debug)]
struct CodeRange {
    start: u64,
    end: u64,
    module: Result<Loaded, Reason>,
}

#[derive(Debug)]
struct Loaded {
    tables: Arc<Tables>,
    bias: u64,
}

impl std::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unwinder")
            .field("pid", &self.pid)
            .field("ranges", &self.ranges)
            .finish_non_exhaustive()
    }
}

impl Unwinder {
    /// Looks at what a process has mapped.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn new(pid: Pid, tables: &mut TableCache) -> Result<Self, Reason> {
        let mut unwinder = Self::empty(pid);
        unwinder.refresh(tables)?;
        Ok(unwinder)
    }

    /// Unwinds in one file, mapped as its own headers ask: for tests, and stacks of recordings.
    ///
    /// # Errors
    /// When the file has no unwind tables.
    pub fn of_file(image: ElfImage) -> Result<Self, Reason> {
        let image = Arc::new(image);
        let tables = Arc::new(Tables::read(Arc::clone(&image))?);
        let mut unwinder = Self::empty(Pid(0));
        let elf = image
            .parse()
            .map_err(|_| Reason::new("the file is damaged"))?;
        for segment in elf.elf_program_headers().iter().take(MAX_MODULES) {
            let is_code = segment.p_flags(Endianness::Little) & PF_X != 0;
            if segment.p_type(Endianness::Little) != PT_LOAD || !is_code {
                continue;
            }
            let (offset, size) = segment.file_range(Endianness::Little);
            let start = segment.p_vaddr(Endianness::Little);
            let end = start.saturating_add(size);
            let module = unwinder.add(Arc::clone(&tables), start..end, offset);
            unwinder.ranges.push(CodeRange { start, end, module });
        }
        unwinder.ranges.sort_by_key(|r| r.start);
        Ok(unwinder)
    }

    fn empty(pid: Pid) -> Self {
        Self {
            pid,
            ranges: Vec::new(),
            framehop: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            rules: HashMap::new(),
            ways: HashMap::new(),
        }
    }

    /// Looks again: after `dlopen`, when [`Unwinder::knows`] says no to an address of a stack.
    ///
    /// # Errors
    /// When the process is gone or may not be read; what was known stays.
    pub fn refresh(&mut self, tables: &mut TableCache) -> Result<(), Reason> {
        let mappings = code_mappings(self.pid)?;
        self.framehop = UnwinderX86_64::new();
        self.ranges.clear();
        self.rules.clear();
        self.ways.clear();
        for mapping in mappings.into_iter().take(MAX_MODULES) {
            let module = self.load(&mapping, tables);
            self.ranges.push(CodeRange {
                start: mapping.start,
                end: mapping.end,
                module,
            });
        }
        Ok(())
    }

    /// Whether `address` is in code that is known.
    pub fn knows(&self, address: u64) -> bool {
        self.range(address).is_some()
    }

    fn range(&self, address: u64) -> Option<&CodeRange> {
        let after = self.ranges.partition_point(|r| r.start <= address);
        self.ranges[..after].last().filter(|r| address < r.end)
    }

    fn load(&mut self, mapping: &CodeMapping, tables: &mut TableCache) -> Result<Loaded, Reason> {
        match mapping.backing {
            Backing::File { .. } => {}
            Backing::Vdso => return Err(Reason::new("the stack goes through the vDSO")),
            Backing::Anonymous => {
                return Err(Reason::new(
                    "the stack goes through code without a file (made at run time)",
                ));
            }
        }
        let tables = tables.tables(self.pid, mapping)?;
        self.add(tables, mapping.start..mapping.end, mapping.offset)
    }

    /// Adds the file's bytes from `offset` on, mapped at `range`.
    fn add(
        &mut self,
        tables: Arc<Tables>,
        range: Range<u64>,
        offset: u64,
    ) -> Result<Loaded, Reason> {
        let elf = tables
            .image
            .parse()
            .map_err(|_| Reason::new("a mapped file is damaged"))?;
        let address = mapped_code(&elf, offset)
            .ok_or_else(|| Reason::new("a mapping does not fit the segments of its file"))?;
        let bias = range.start.wrapping_sub(address);
        let info = Sections(Arc::clone(&tables));
        // framehop counts from the module's base in 32 bits. A biased base is always below its code.
        let module = Module::new(String::new(), range, bias, info);
        self.framehop.add_module(module);
        drop(elf);
        Ok(Loaded { tables, bias })
    }

    /// Unwinds from `regs`; `stack` are the bytes from `regs.sp` upwards.
    pub fn unwind(&mut self, regs: Regs, stack: &[u8], max_frames: usize) -> Unwound {
        let max_frames = max_frames.min(MAX_FRAMES);
        let mut out = Unwound {
            frames: Vec::new(),
            stack_pointers: Vec::new(),
            truncated: None,
        };
        let mut registers =
            UnwindRegsX86_64::new(regs.ip, regs.sp, regs.bp.unwrap_or(UNKNOWN_FRAME_POINTER));
        let mut outside = false;
        // A frame with a table was met.
        let mut covered = false;
        let mut read = |address: u64| {
            let word = address
                .checked_sub(regs.sp)
                .and_then(|offset| usize::try_from(offset).ok())
                .and_then(|offset| stack.get(offset..)?.first_chunk::<8>().copied())
                .map(u64::from_le_bytes);
            outside |= word.is_none();
            word.ok_or(())
        };
        let mut at = FrameAddress::from_instruction_pointer(regs.ip);
        loop {
            if out.frames.len() == max_frames {
                out.truncated = Some(Reason::new("the stack is deeper than the limit on frames"));
                return out;
            }
            out.frames.push(at.address());
            out.stack_pointers.push(registers.sp());
            match self.may_unwind(at.address_for_lookup(), registers.bp()) {
                Ok(true) => covered = true,
                Ok(false) => {
                    let next = self.leave(at.address(), &mut registers, &mut read);
                    let Some(next) = next.and_then(FrameAddress::from_return_address) else {
                        // Elsewhere the register may be 0 by chance: calls lie between a thread's first
                        // function and its last ones.
                        if covered && registers.bp() == LAST_FRAME {
                            return out;
                        }
                        out.truncated = Some(if outside {
                            Reason::new("the stack is deeper than the piece that was copied")
                        } else {
                            Reason::new("a function has no unwind table (hand-written assembly?)")
                        });
                        return out;
                    };
                    at = next;
                    continue;
                }
                Err(reason) => {
                    out.truncated = reason;
                    return out;
                }
            }
            match self
                .framehop
                .unwind_frame(at, &mut registers, &mut self.cache, &mut read)
            {
                Ok(None) | Err(framehop::Error::ReturnAddressIsNull) => return out,
                Ok(Some(next)) => match FrameAddress::from_return_address(next) {
                    Some(next) => at = next,
                    None => return out,
                },
                Err(_) => {
                    out.truncated = Some(if outside {
                        Reason::new("the stack is deeper than the piece that was copied")
                    } else {
                        Reason::new("the unwind tables do not fit the stack")
                    });
                    return out;
                }
            }
        }
    }

    /// Leaves a function without a table, from `address` in it. Gives the return address; `None` when it is
    /// not told for certain.
    fn leave(
        &mut self,
        address: u64,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Option<u64> {
        let ways = if let Some(known) = self.ways.get(&address) {
            Arc::clone(known)
        } else {
            let loaded = self.range(address)?.module.as_ref().ok()?;
            let elf = loaded.tables.image.parse().ok()?;
            let code = |at| bytes_at(&elf, at);
            let ways: Arc<[Way]> = ways_out(code, address.wrapping_sub(loaded.bias)).into();
            if self.ways.len() >= MAX_RULES {
                self.ways.clear();
            }
            self.ways.insert(address, Arc::clone(&ways));
            ways
        };
        let (sp, bp) = (registers.sp(), registers.bp());
        let at = |place| match place {
            Place::Stack(by) => Some(sp.wrapping_add_signed(by)),
            Place::Frame(by) if bp != UNKNOWN_FRAME_POINTER => Some(bp.wrapping_add_signed(by)),
            Place::Frame(_) => None,
        };
        let mut likely = ways.iter().filter_map(|way| {
            let at = at(way.return_address).filter(|at| *at >= sp)?;
            let address = read(at).ok()?;
            self.follows_a_call(address)
                .then_some((at, address, way.frame_pointer))
        });
        let (stack, address, frame) = likely.next()?;
        if likely.any(|other| (other.0, other.1) != (stack, address)) {
            return None;
        }
        let frame = match frame {
            Saved::Kept => bp,
            Saved::At(place) => at(place)
                .and_then(|at| read(at).ok())
                .unwrap_or(UNKNOWN_FRAME_POINTER),
            Saved::Lost => UNKNOWN_FRAME_POINTER,
        };
        *registers = UnwindRegsX86_64::new(address, stack.checked_add(8)?, frame);
        Some(address)
    }

    fn follows_a_call(&self, address: u64) -> bool {
        let in_file = || {
            let loaded = self.range(address)?.module.as_ref().ok()?;
            let elf = loaded.tables.image.parse().ok()?;
            let code = |at| bytes_at(&elf, at);
            Some(follows_a_call(code, address.wrapping_sub(loaded.bias)))
        };
        in_file().unwrap_or(false)
    }

    /// Whether the tables have a rule for `address` that can be followed; `Ok(false)`: they have none.
    /// framehop would fall back to the frame pointer then, which is a guess. `Err(None)` is the stack's end.
    fn may_unwind(&mut self, address: u64, bp: u64) -> Result<bool, Option<Reason>> {
        let known = self.rules.get(&address).copied();
        let rule = if let Some(rule) = known {
            rule
        } else {
            let rule = self.look_up(address).map_err(Some)?;
            if self.rules.len() >= MAX_RULES {
                self.rules.clear();
            }
            self.rules.insert(address, rule);
            rule
        };
        match rule {
            FrameRule::Other => Ok(true),
            FrameRule::End => Err(None),
            FrameRule::Missing => Ok(false),
            FrameRule::ByFramePointer => match bp {
                UNKNOWN_FRAME_POINTER => Err(Some(Reason::new(
                    "a frame needs the frame pointer register, which was not read",
                ))),
                0 => Err(Some(Reason::new("the unwind tables do not fit the stack"))),
                _ => Ok(true),
            },
        }
    }

    fn look_up(&self, address: u64) -> Result<FrameRule, Reason> {
        let range = self.range(address).ok_or_else(|| {
            Reason::new("a return address is outside of all code that was mapped")
        })?;
        let loaded = range.module.as_ref().map_err(Clone::clone)?;
        Ok(frame_rule(
            &loaded.tables,
            address.wrapping_sub(loaded.bias),
        ))
    }
}
