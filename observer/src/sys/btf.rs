//! The kernel's type information (BTF): where the fields lie that the kernel programs read.
//!
//! Layout: Linux `include/uapi/linux/btf.h` (6.18), unchanged in these parts since 5.2; the kinds
//! and their sizes are listed in `trailing_size`. A parser of untrusted bytes: it never panics,
//! reads in bounds only, and its one allocation is a table of type offsets.

use std::fs::File;
use std::io;

use memmap2::Mmap;

use crate::model::{Known, Reason};

/// Where the kernel publishes its own types (`kernel/bpf/sysfs_btf.c`, 5.4).
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name_off, info, size or type.
const TYPE_SIZE: usize = 12;
/// `struct btf_member`, `struct btf_var_secinfo`: three words.
const MEMBER_SIZE: usize = 12;
/// No kernel comes near this; it bounds the table made from a hostile file.
const MAX_TYPES: usize = 4 << 20;
/// Members looked at for one question: bounds the search through anonymous members, which a
/// hostile file can nest so that plain recursion would take for ever.
const MAX_STEPS: u32 = 1 << 20;
/// Nesting of anonymous members and of typedefs.
const MAX_DEPTH: u32 = 16;

const KIND_PTR: u8 = 2;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_TYPEDEF: u8 = 8;
const KIND_VOLATILE: u8 = 9;
const KIND_CONST: u8 = 10;
const KIND_RESTRICT: u8 = 11;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_VAR: u8 = 14;
const KIND_DATASEC: u8 = 15;
const KIND_TYPE_TAG: u8 = 18;

/// Why type information can not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// It could not be read.
    #[error(
        "{path}: {source}: the kernel publishes no type information (needs CONFIG_DEBUG_INFO_BTF)"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not BTF, or cut off.
    #[error("type information is damaged: {0}")]
    Format(&'static str),
}

/// The file, mapped or read.
#[derive(Debug)]
pub struct BtfImage(Bytes);

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl BtfImage {
    /// The running kernel's own.
    ///
    /// # Errors
    /// When the kernel does not publish it.
    pub fn vmlinux() -> Result<Self, BtfError> {
        Self::open(VMLINUX)
    }

    /// A BTF file, such as one of BTFHub for a kernel that does not publish its own.
    ///
    /// # Errors
    /// When it can not be read.
    pub fn open(path: &str) -> Result<Self, BtfError> {
        let wrap = |source| BtfError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(wrap)?;
        // Kernels before 6.16 can not map the sysfs file: then it is read.
        // SAFETY: private and read-only; the sysfs file never changes, and another file that is
        // cut while mapped is the operator's own (`--btf FILE`).
        if let Ok(map) = unsafe { Mmap::map(&file) }
            && !map.is_empty()
        {
            return Ok(Self(Bytes::Mapped(map)));
        }
        std::fs::read(path)
            .map(|bytes| Self(Bytes::Read(bytes)))
            .map_err(wrap)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

/// Parsed type information. Type ids start at 1; 0 is void.
#[derive(Debug)]
pub struct Btf<'a> {
    /// The type section.
    types: &'a [u8],
    /// The string section.
    strings: &'a [u8],
    /// Where type `id` starts in `types`: index id - 1.
    offsets: Vec<u32>,
    /// Where the structs, unions and sections start: a tenth of all, and what is asked for by name.
    records: Vec<u32>,
}

/// One `struct btf_type` and what follows it.
#[derive(Debug, Clone, Copy)]
struct Type<'a> {
    name_off: u32,
    kind: u8,
    /// Number of members, variables...
    vlen: usize,
    /// `kind_flag`: member offsets carry a bitfield size in their top byte.
    flag: bool,
    /// Size in bytes, or the id of the type referred to.
    size_or_id: u32,
    /// The `vlen` records that follow.
    rest: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Bytes after `struct btf_type`, by kind.
fn trailing_size(kind: u8, vlen: usize) -> Option<usize> {
    Some(match kind {
        // INT, VAR, DECL_TAG
        1 | KIND_VAR | 17 => 4,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | 19 => MEMBER_SIZE.checked_mul(vlen)?,
        // ENUM, FUNC_PROTO
        6 | KIND_FUNC_PROTO => vlen.checked_mul(8)?,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        KIND_PTR | 7..=12 | 16 | KIND_TYPE_TAG => 0,
        // A kind of a later kernel: its size is not known, so nothing after it can be found.
        _ => return None,
    })
}

impl<'a> Btf<'a> {
    /// Indexes type information.
    ///
    /// # Errors
    /// When it is not BTF, is cut off, or holds a kind of type that this program does not know.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        let header = |at| word(data, at).ok_or(BtfError::Format("the header is cut off"));
        let first = header(0)?;
        if first as u16 != MAGIC {
            return Err(BtfError::Format("no little-endian BTF magic"));
        }
        if (first >> 16) as u8 != 1 {
            return Err(BtfError::Format("not BTF version 1"));
        }
        // struct btf_header: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
        let header_len = header(4)?;
        let section = |offset: u32, len: u32| {
            let start = usize::try_from(u64::from(header_len) + u64::from(offset)).ok()?;
            data.get(start..start.checked_add(len as usize)?)
        };
        let types = section(header(8)?, header(12)?)
            .ok_or(BtfError::Format("the type section is cut off"))?;
        let strings = section(header(16)?, header(20)?)
            .ok_or(BtfError::Format("the string section is cut off"))?;
        // Types take 18 bytes on average; growing the table would copy it several times.
        let mut offsets = Vec::with_capacity((types.len() / 16).min(MAX_TYPES));
        let mut records = Vec::with_capacity(offsets.capacity() / 8);
        let mut at = 0_usize;
        while at < types.len() {
            if offsets.len() >= MAX_TYPES {
                return Err(BtfError::Format("more types than any kernel has"));
            }
            let info = word(types, at + 4).ok_or(BtfError::Format("a type is cut off"))?;
            offsets.push(at as u32);
            let kind = (info >> 24) as u8 & 0x1f;
            if matches!(kind, KIND_STRUCT | KIND_UNION | KIND_DATASEC) {
                records.push(at as u32);
            }
            let trailing = trailing_size(kind, (info & 0xffff) as usize)
                .ok_or(BtfError::Format("a kind of type of a later kernel"))?;
            at += TYPE_SIZE + trailing;
        }
        if at != types.len() {
            return Err(BtfError::Format("the last type is cut off"));
        }
        Ok(Self {
            types,
            strings,
            offsets,
            records,
        })
    }

    /// Number of types.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no type at all.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The offset in bytes of a member of struct (or union) `name`. `path` goes through embedded
    /// structs (`thread.fsbase`); each step may list aliases, first found first taken
    /// (`__state|state`). Anonymous members are searched; qualifiers and typedefs are followed.
    pub fn member_offset(&self, name: &str, path: &str) -> Known<u32> {
        let mut found = None;
        let mut reason = Reason::with(format!("this kernel has no struct {name}"));
        for ty in self.records().filter(|ty| self.is_named(ty, name)) {
            match self.path_offset(ty, name, path) {
                Known::Known(offset) => {
                    if found.is_some_and(|other| other != offset) {
                        return Known::Unknown(Reason::with(format!(
                            "this kernel has several structs {name} that differ in {path}"
                        )));
                    }
                    found = Some(offset);
                }
                Known::Unknown(why) => reason = why,
            }
        }
        found.map_or(Known::Unknown(reason), Known::Known)
    }

    /// The size in bytes of struct or union `name`.
    pub fn struct_size(&self, name: &str) -> Option<u32> {
        self.records()
            .find(|ty| self.is_named(ty, name))
            .map(|ty| ty.size_or_id)
    }

    /// Whether the kernel has a function `name` that type information covers (what fentry needs).
    pub fn has_func(&self, name: &str) -> bool {
        self.all()
            .any(|ty| ty.kind == KIND_FUNC && self.name_is(ty.name_off, name))
    }

    /// How many arguments raw tracepoint `name` passes (`sched_switch` got its fourth in 5.18).
    /// `None`: this kernel has no such tracepoint.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        // include/trace/bpf_probe.h: typedef void (*btf_trace_NAME)(void *__data, arguments...).
        let typedef = format!("btf_trace_{name}");
        let ty = self
            .all()
            .find(|ty| ty.kind == KIND_TYPEDEF && self.name_is(ty.name_off, &typedef))?;
        let pointer = self.by_id(ty.size_or_id).filter(|p| p.kind == KIND_PTR)?;
        let proto = self.by_id(pointer.size_or_id)?;
        (proto.kind == KIND_FUNC_PROTO).then(|| proto.vlen.saturating_sub(1))
    }

    /// The offset in bytes of variable `name` in section `section` (`.data..percpu`).
    pub fn section_variable(&self, section: &str, name: &str) -> Known<u32> {
        let sections = self.records.iter().filter_map(|&at| self.read(at as usize));
        for ty in sections.filter(|ty| ty.kind == KIND_DATASEC) {
            if !self.is_named(&ty, section) {
                continue;
            }
            // struct btf_var_secinfo: type, offset, size.
            for record in ty.rest.chunks_exact(MEMBER_SIZE) {
                let variable = word(record, 0).and_then(|id| self.by_id(id));
                if variable.is_some_and(|v| v.kind == KIND_VAR && self.name_is(v.name_off, name))
                    && let Some(offset) = word(record, 4)
                {
                    return Known::Known(offset);
                }
            }
        }
        Known::Unknown(Reason::with(format!(
            "this kernel's type information has no {name} in {section}"
        )))
    }

    fn read(&self, at: usize) -> Option<Type<'a>> {
        let info = word(self.types, at.checked_add(4)?)?;
        let kind = (info >> 24) as u8 & 0x1f;
        let vlen = (info & 0xffff) as usize;
        let start = at.checked_add(TYPE_SIZE)?;
        Some(Type {
            name_off: word(self.types, at)?,
            kind,
            vlen,
            flag: info >> 31 == 1,
            size_or_id: word(self.types, at.checked_add(8)?)?,
            rest: self
                .types
                .get(start..start.checked_add(trailing_size(kind, vlen)?)?)?,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type<'a>> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        self.read(*self.offsets.get(index)? as usize)
    }

    fn all(&self) -> impl Iterator<Item = Type<'a>> + '_ {
        self.offsets.iter().filter_map(|&at| self.read(at as usize))
    }

    fn records(&self) -> impl Iterator<Item = Type<'a>> + '_ {
        self.records
            .iter()
            .filter_map(|&at| self.read(at as usize))
            .filter(|ty| matches!(ty.kind, KIND_STRUCT | KIND_UNION))
    }

    fn is_named(&self, ty: &Type<'_>, name: &str) -> bool {
        self.name_is(ty.name_off, name)
    }

    /// Whether the string at `offset` is `name`: compared in place, byte after it included.
    fn name_is(&self, offset: u32, name: &str) -> bool {
        let start = offset as usize;
        self.strings
            .get(start..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn path_offset(&self, ty: Type<'a>, name: &str, path: &str) -> Known<u32> {
        let mut current = ty;
        let mut total = 0_u32;
        let mut steps = MAX_STEPS;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let Some((bits, member)) = self.find_member(current, part, 0, &mut steps) else {
                return Known::Unknown(Reason::with(format!(
                    "struct {name} of this kernel has no member {part}"
                )));
            };
            let Some(sum) = total.checked_add(bits / 8).filter(|_| bits % 8 == 0) else {
                return Known::Unknown(Reason::with(format!(
                    "{name}.{path} is a bitfield in this kernel"
                )));
            };
            total = sum;
            if parts.peek().is_some() {
                match self.resolve(member) {
                    Some(next) if matches!(next.kind, KIND_STRUCT | KIND_UNION) => current = next,
                    _ => {
                        return Known::Unknown(Reason::with(format!(
                            "{name}.{part} is not a struct in this kernel"
                        )));
                    }
                }
            }
        }
        Known::Known(total)
    }

    /// The bit offset and type id of the first of the aliases in `part` that `ty` has.
    fn find_member(
        &self,
        ty: Type<'a>,
        part: &str,
        depth: u32,
        steps: &mut u32,
    ) -> Option<(u32, u32)> {
        part.split('|')
            .find_map(|alias| self.find_named(ty, alias, depth, steps))
    }

    fn find_named(
        &self,
        ty: Type<'a>,
        name: &str,
        depth: u32,
        steps: &mut u32,
    ) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        for record in ty.rest.chunks_exact(MEMBER_SIZE).take(ty.vlen) {
            *steps = steps.checked_sub(1)?;
            // struct btf_member: name_off, type, offset.
            let (name_off, id, raw) = (word(record, 0)?, word(record, 4)?, word(record, 8)?);
            // BTF_MEMBER_BIT_OFFSET, BTF_MEMBER_BITFIELD_SIZE.
            let (bits, bitfield) = if ty.flag {
                (raw & 0x00ff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if self.name_is(name_off, name) {
                // A bitfield has no byte address, even when it begins on a byte: an offset that is
                // no multiple of 8 makes the caller say so.
                return Some((if bitfield == 0 { bits } else { bits | 1 }, id));
            }
            if self.name_is(name_off, "")
                && let Some(inner) = self.resolve(id)
                && matches!(inner.kind, KIND_STRUCT | KIND_UNION)
                && let Some((at, id)) = self.find_named(inner, name, depth + 1, steps)
            {
                return Some((bits.checked_add(at)?, id));
            }
        }
        None
    }

    /// Follows typedefs, qualifiers and tags.
    fn resolve(&self, id: u32) -> Option<Type<'a>> {
        let mut ty = self.by_id(id)?;
        for _ in 0..MAX_DEPTH {
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    ty = self.by_id(ty.size_or_id)?;
                }
                _ => return Some(ty),
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
