//! Thread-locals of libraries. Code reaches them through `__tls_get_addr` or a TLS descriptor, with a
//! pair of words in the global offset table that names the module and the place in its block; the
//! dynamic loader fills in the module's number, which is read from the live process.
//!
//! ELF TLS ABI (general and local dynamic model, x86-64), TLS descriptors (`R_X86_64_TLSDESC`); the
//! thread's vector of blocks as glibc lays it out (`sysdeps/x86_64/nptl/tls.h`, `elf/dl-tls.c`, 2.3 on).

use std::collections::BTreeMap;

use crate::model::memory::{Memory, ReadError};
use crate::model::{Known, Reason};
use crate::runtimes::ThreadLocals;
use crate::sys::elf::{Elf, bytes_at};

use super::pointers::{DynamicTable, le64};

/// More pairs than any library has.
const MAX_PAIRS: usize = 65_536;
/// Pairs that are compared in the live process.
const MAX_COMPARED: usize = 4;
/// glibc counts modules from 1; no process loads this many with thread-locals.
const MAX_MODULE: u64 = 1 << 16;
/// A block that the thread has not used yet (glibc: `TLS_DTV_UNALLOCATED`).
const UNALLOCATED: u64 = u64::MAX;
/// Size of an entry of the vector (`dtv_t`: value, what to free).
const ENTRY: u64 = 16;

/// How a pair is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// Module number and offset, for `__tls_get_addr`.
    Module,
    /// Function and argument, for a call through the pair.
    Descriptor,
}

/// The pairs of a library that name its own thread-locals, by address (as in the file).
#[derive(Debug, Clone, Default)]
pub(super) struct TlsPairs {
    pairs: BTreeMap<u64, (Pair, i64)>,
}

impl TlsPairs {
    /// Reads the relocations (`R_X86_64_DTPMOD64`, `R_X86_64_TLSDESC` without a symbol: the own module).
    pub(super) fn read(elf: &Elf<'_>) -> Self {
        const DTPMOD64: u64 = 16;
        const TLSDESC: u64 = 36;
        let mut found = Self::default();
        let Some(table) = DynamicTable::read(elf) else {
            return found;
        };
        for rela in table
            .rela(elf)
            .chunks_exact(24)
            .chain(table.plt(elf).chunks_exact(24))
        {
            let (at, kind, addend) = (le64(rela), le64(&rela[8..]), le64(&rela[16..]));
            let pair = match kind {
                // The second word stays as it is in the file.
                DTPMOD64 => {
                    let second = at.checked_add(8).and_then(|a| bytes_at(elf, a)?.get(..8));
                    (Pair::Module, second.map_or(0, le64) as i64)
                }
                TLSDESC => (Pair::Descriptor, addend as i64),
                _ => continue,
            };
            if found.pairs.len() < MAX_PAIRS {
                found.pairs.insert(at, pair);
            }
        }
        found
    }

    /// The place in the block that `__tls_get_addr` gives for the pair at `address`.
    pub(super) fn by_module(&self, address: i64) -> Option<i64> {
        self.find(address, Pair::Module)
    }

    /// The same for a call through the descriptor at `address`.
    pub(super) fn by_descriptor(&self, address: i64) -> Option<i64> {
        self.find(address, Pair::Descriptor)
    }

    fn find(&self, address: i64, kind: Pair) -> Option<i64> {
        let &(found, offset) = self.pairs.get(&(address as u64))?;
        (found == kind).then_some(offset)
    }

    /// Where the loader put the library's thread-locals, and what offsets in the block are to be
    /// raised by: read from the pairs of the live process, which must agree.
    pub(super) fn live(&self, bias: u64, memory: &dyn Memory) -> Known<(ThreadLocals, i64)> {
        let mut answers = self
            .pairs
            .iter()
            .take(MAX_COMPARED)
            .map(|(&at, &(kind, offset))| live_pair(at.wrapping_add(bias), kind, offset, memory));
        let Some(first) = answers.next() else {
            return Known::unknown(
                "the library reaches its thread-locals in a way that is not known",
            );
        };
        match first {
            Err(e) => Known::Unknown(Reason::with(format!(
                "the loader's number for the library's thread-locals could not be read: {e}"
            ))),
            Ok(Some(found)) if answers.all(|other| other == Ok(Some(found))) => Known::Known(found),
            Ok(_) => {
                Known::unknown("the words that name the library's thread-locals are not plausible")
            }
        }
    }
}

/// What one pair of the live process says; `None`: nothing plausible.
fn live_pair(
    at: u64,
    kind: Pair,
    offset: i64,
    memory: &dyn Memory,
) -> Result<Option<(ThreadLocals, i64)>, ReadError> {
    let dynamic = |module: u64| {
        (1..MAX_MODULE)
            .contains(&module)
            .then_some((ThreadLocals::Dynamic { module }, 0))
    };
    if kind == Pair::Module {
        return Ok(dynamic(memory.read_u64(at)?));
    }
    let argument = memory.read_u64(at.wrapping_add(8))?;
    // The static form's argument is the distance from the TLS base, which is negative; the dynamic
    // form's points to module and offset (glibc `elf/tlsdesc.h`, `struct tlsdesc_dynamic_arg`).
    let distance = argument as i64;
    if (-(1 << 31)..0).contains(&distance) {
        return Ok(Some((ThreadLocals::Static, distance - offset)));
    }
    let (module, place) = (
        memory.read_u64(argument)?,
        memory.read_u64(argument.wrapping_add(8))?,
    );
    Ok(dynamic(module).filter(|_| place as i64 == offset))
}

/// What a thread's offsets count from; `None` when the thread has not used the library's
/// thread-locals yet.
///
/// # Errors
/// When the thread's memory can not be read.
pub fn locals_of(
    locals: ThreadLocals,
    tls_base: u64,
    memory: &dyn Memory,
) -> Result<Option<u64>, ReadError> {
    let ThreadLocals::Dynamic { module } = locals else {
        return Ok(Some(tls_base));
    };
    let vector = memory.read_u64(tls_base.wrapping_add(8))?;
    // The entry before the first holds how many there are.
    let length = memory.read_u64(vector.wrapping_sub(ENTRY))?;
    if module > length {
        return Ok(None);
    }
    let block = memory.read_u64(vector.wrapping_add(module.wrapping_mul(ENTRY)))?;
    Ok((block != 0 && block != UNALLOCATED).then_some(block))
}
