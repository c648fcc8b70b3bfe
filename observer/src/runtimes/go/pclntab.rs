//! `.gopclntab`: functions, lines and stack frame sizes of a Go executable, stripped or not.
//!
//! Source of the format: Go 1.18 to 1.27, `src/runtime/symtab.go` (pcHeader, pcvalue),
//! `src/runtime/runtime2.go` (_func), `src/internal/abi/symtab.go` (funcdata numbers).
//! Every read is checked: the bytes come from a file that may be damaged on purpose.

/// Header magic of Go 1.18 and 1.19.
pub const MAGIC_118: u32 = 0xffff_fff0;
/// Header magic of Go 1.20 and later.
pub const MAGIC_120: u32 = 0xffff_fff1;
/// Size of the header: 8 bytes and eight words.
const HEADER: usize = 72;
/// More functions than any program has.
const MAX_FUNCTIONS: u64 = 8 << 20;
/// Steps through one pc-value table: more than any function has.
const MAX_STEPS: usize = 1 << 20;
/// A name or path longer than this is garbage.
const MAX_NAME: usize = 8 << 10;
/// `PCDATA_InlTreeIndex`.
const PCDATA_INLINE_INDEX: u32 = 2;
/// `FUNCDATA_InlTree`.
const FUNCDATA_INLINE_TREE: u32 = 3;

/// Why a table can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PclntabError {
    /// Shorter than its header.
    #[error("the Go function table is cut off")]
    Truncated,
    /// Not a table of a known format.
    #[error("the Go function table has format {0:#x}, which is not known (Go 1.18 to 1.27 are)")]
    Magic(u32),
    /// Not for 64-bit x86.
    #[error("the Go function table is not for a 64-bit x86 program")]
    NotAmd64,
    /// The header points outside.
    #[error("the Go function table's header is damaged")]
    Header,
}

/// A parsed header over the table's bytes. Making one reads the header only.
#[derive(Debug, Clone, Copy)]
pub struct Pclntab<'a> {
    /// Entry addresses count from here (file virtual address).
    text: u64,
    magic: u32,
    names: &'a [u8],
    units: &'a [u8],
    files: &'a [u8],
    values: &'a [u8],
    functions: &'a [u8],
    count: usize,
}

/// One function's record.
#[derive(Debug, Clone, Copy)]
pub struct Function<'a> {
    table: Pclntab<'a>,
    record: &'a [u8],
    /// First instruction (file virtual address).
    pub entry: u64,
    /// One past the last instruction (start of the next function).
    pub end: u64,
}

/// One level of inlining at an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlinedCall<'a> {
    /// The function whose body was inlined.
    pub name: &'a str,
    /// The line that its `func` keyword is on (Go 1.20 and later).
    pub start_line: Option<u32>,
    /// An instruction of the caller whose position is the call's (file virtual address).
    pub caller_pc: u64,
}

impl<'a> Pclntab<'a> {
    /// Reads the header. `text` is `moduledata.text` when the caller knows it: Go 1.26 and later
    /// keep 0 in the header, and so do position-independent executables in their file.
    ///
    /// # Errors
    /// When the bytes are not a table of Go 1.18 or later for x86-64.
    pub fn parse(data: &'a [u8], text: Option<u64>) -> Result<Self, PclntabError> {
        if data.len() < HEADER {
            return Err(PclntabError::Truncated);
        }
        let word = |i: usize| read_u64(data, 8 + 8 * i).ok_or(PclntabError::Truncated);
        let magic = read_u32(data, 0).ok_or(PclntabError::Truncated)?;
        if magic != MAGIC_118 && magic != MAGIC_120 {
            return Err(PclntabError::Magic(magic));
        }
        if data[4..8] != [0, 0, 1, 8] {
            return Err(PclntabError::NotAmd64);
        }
        let count = word(0)?;
        if count > MAX_FUNCTIONS {
            return Err(PclntabError::Header);
        }
        let tail = |i: usize| {
            let start = usize::try_from(word(i)?).map_err(|_| PclntabError::Header)?;
            data.get(start..).ok_or(PclntabError::Header)
        };
        let table = Self {
            text: text.unwrap_or(word(2)?),
            magic,
            names: tail(3)?,
            units: tail(4)?,
            files: tail(5)?,
            values: tail(6)?,
            functions: tail(7)?,
            count: count as usize,
        };
        if table.functions.len() < table.count * 8 + 4 {
            return Err(PclntabError::Header);
        }
        Ok(table)
    }

    /// `textStart` as the header has it; 0 from Go 1.26 on, and in position-independent files.
    pub fn header_text(data: &[u8]) -> Option<u64> {
        read_u64(data, 24)
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn entry_offset(&self, index: usize) -> Option<u32> {
        read_u32(self.functions, index.checked_mul(8)?)
    }

    /// The function at `index` in address order.
    pub fn function(&self, index: usize) -> Option<Function<'a>> {
        if index >= self.count {
            return None;
        }
        let start = self.entry_offset(index)?;
        let end = self.entry_offset(index + 1)?;
        let at = read_u32(self.functions, index * 8 + 4)? as usize;
        let record = self.functions.get(at..)?;
        // The record repeats its entry: a mismatch means that the table is damaged.
        if read_u32(record, 0)? != start {
            return None;
        }
        Some(Function {
            table: *self,
            record,
            entry: self.text.checked_add(u64::from(start))?,
            end: self.text.checked_add(u64::from(end))?,
        })
    }

    /// The function that holds the instruction at `pc` (file virtual address).
    pub fn find(&self, pc: u64) -> Option<Function<'a>> {
        let offset = u32::try_from(pc.checked_sub(self.text)?).ok()?;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry_offset(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let function = self.function(low.checked_sub(1)?)?;
        (pc < function.end).then_some(function)
    }

    /// The functions with this exact name. The table drops the suffix `.abi0`, so that a body and
    /// its calling-convention wrapper share a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Function<'a>> {
        let (table, name) = (*self, name.to_owned());
        (0..self.count)
            .filter_map(move |i| table.function(i))
            .filter(move |f| f.has_name(&name))
    }

    /// The largest function with this exact name: the body rather than a wrapper.
    pub fn by_name(&self, name: &str) -> Option<Function<'a>> {
        self.named(name)
            .max_by_key(|f| f.end.saturating_sub(f.entry))
    }

    fn name_at(&self, offset: u32) -> Option<&'a str> {
        text_at(self.names, offset as usize)
    }

    /// The value that a pc-value table holds at `pc`, for a function that starts at `entry`.
    fn value_at(&self, table: u32, entry: u64, pc: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut rest = self.values.get(table as usize..)?;
        let (mut value, mut at) = (-1_i32, entry);
        for step in 0..MAX_STEPS {
            let delta = take_varint(&mut rest)?;
            if delta == 0 && step > 0 {
                return None;
            }
            // Zigzag.
            value = value.wrapping_add(((delta >> 1) as i32) ^ -((delta & 1) as i32));
            at = at.checked_add(u64::from(take_varint(&mut rest)?))?;
            if pc < at {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Function<'a> {
    /// The name, such as `net/http.(*conn).serve`.
    pub fn name(&self) -> Option<&'a str> {
        self.table.name_at(read_u32(self.record, 4)?)
    }

    fn has_name(&self, name: &str) -> bool {
        let matches = || {
            let start = read_u32(self.record, 4)? as usize;
            let end = start.checked_add(name.len())?;
            let names = self.table.names;
            Some(names.get(start..end)? == name.as_bytes() && *names.get(end)? == 0)
        };
        matches() == Some(true)
    }

    /// Source file of the instruction at `pc`.
    pub fn file(&self, pc: u64) -> Option<&'a str> {
        let number = self
            .table
            .value_at(read_u32(self.record, 20)?, self.entry, pc)?;
        let unit = read_u32(self.record, 32)?;
        let slot = unit.checked_add(u32::try_from(number).ok()?)?;
        let offset = read_u32(self.table.units, slot as usize * 4)?;
        if offset == u32::MAX {
            return None;
        }
        text_at(self.table.files, offset as usize)
    }

    /// Source line of the instruction at `pc`.
    pub fn line(&self, pc: u64) -> Option<u32> {
        let line = self
            .table
            .value_at(read_u32(self.record, 24)?, self.entry, pc)?;
        u32::try_from(line).ok()
    }

    /// The line of the `func` keyword (Go 1.20 and later).
    pub fn start_line(&self) -> Option<u32> {
        if self.table.magic == MAGIC_118 {
            return None;
        }
        u32::try_from(read_u32(self.record, 36)? as i32).ok()
    }

    /// Bytes between the stack pointer and the return address when `pc` executes.
    pub fn frame_size(&self, pc: u64) -> Option<u32> {
        let size = self
            .table
            .value_at(read_u32(self.record, 16)?, self.entry, pc)?;
        u32::try_from(size).ok().filter(|s| s % 8 == 0)
    }

    /// Bytes of the record before its pcdata; the last of them counts the funcdata.
    fn fixed(&self) -> usize {
        // The line of `func` came with Go 1.20.
        if self.table.magic == MAGIC_118 {
            40
        } else {
            44
        }
    }

    /// What the runtime takes the function for (`abi.FuncID`); the numbers differ by version.
    pub fn id(&self) -> Option<u8> {
        self.record.get(self.fixed() - 4).copied()
    }

    /// Where the function's inlining tree lies, counted from `moduledata.gofunc`.
    pub fn inline_tree(&self) -> Option<u32> {
        let pcdata = read_u32(self.record, 28)?;
        let fixed = self.fixed();
        if u32::from(*self.record.get(fixed - 1)?) <= FUNCDATA_INLINE_TREE {
            return None;
        }
        let slot = pcdata.checked_add(FUNCDATA_INLINE_TREE)?;
        let offset = read_u32(self.record, fixed + slot as usize * 4)?;
        (offset != u32::MAX).then_some(offset)
    }

    /// The inlined call that `pc` belongs to, innermost; `tree` are the bytes at the inlining tree.
    /// Repeat with [`InlinedCall::caller_pc`] for the next level.
    pub fn inlined_at(&self, tree: &[u8], pc: u64) -> Option<InlinedCall<'a>> {
        if read_u32(self.record, 28)? <= PCDATA_INLINE_INDEX {
            return None;
        }
        let table = read_u32(self.record, self.fixed() + PCDATA_INLINE_INDEX as usize * 4)?;
        let index = usize::try_from(self.table.value_at(table, self.entry, pc)?).ok()?;
        // inlinedCall, 16 bytes: funcID u8, 3 bytes, nameOff i32, parentPc i32, startLine i32. Before Go
        // 1.20 20 bytes: parent i16, funcID u8, 1 byte, file i32, line i32, func_ i32, parentPc i32.
        let (at, name, parent, start_line) = if self.table.magic == MAGIC_118 {
            let at = index.checked_mul(20)?;
            (at, 12, 16, None)
        } else {
            let at = index.checked_mul(16)?;
            let line = read_u32(tree, at.checked_add(12)?)?;
            (at, 4, 8, Some(u32::try_from(line as i32).ok()?))
        };
        let parent_pc = read_u32(tree, at.checked_add(parent)?)?;
        let caller_pc = self.entry.checked_add(u64::from(parent_pc))?;
        if caller_pc >= self.end {
            return None;
        }
        Some(InlinedCall {
            name: self.table.name_at(read_u32(tree, at + name)?)?,
            start_line,
            caller_pc,
        })
    }
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn read_u64(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn take_varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for i in 0..5 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn text_at(data: &[u8], offset: usize) -> Option<&str> {
    let rest = data.get(offset..)?;
    let rest = &rest[..rest.len().min(MAX_NAME)];
    let end = rest.iter().position(|&b| b == 0)?;
    std::str::from_utf8(&rest[..end])
        .ok()
        .filter(|s| !s.is_empty())
}
