//! Where uprobes may be put: a probe that is not at an instruction's first byte kills its target, so
//! a place that cannot be verified is refused.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions};
use object::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, SymbolKind};

use crate::model::Reason;
use crate::sys::elf::{Elf, bytes_at, file_offset};

use super::functions::Functions;
use super::vtables::Vtable;

/// A function that is polled through task vtables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollTarget {
    /// Its address, as in the file.
    pub address: u64,
    /// Its offset in the file: what a uprobe is placed by.
    pub file_offset: u64,
    /// The vtables that name it (identical code is shared), as addresses in the file.
    pub vtables: Vec<u64>,
}

/// The places, and what was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollTargets {
    /// Verified places, one per address.
    pub targets: Vec<PollTarget>,
    /// Addresses that could not be verified, and why.
    pub refused: Vec<(u64, Reason)>,
}

/// Verifies the polls of `vtables`.
pub(super) fn poll_targets(elf: &Elf<'_>, vtables: &[Vtable]) -> PollTargets {
    let mut polls: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for vtable in vtables {
        polls.entry(vtable.poll).or_default().push(vtable.address);
    }
    let functions = Functions::read(elf);
    let mut found = PollTargets::default();
    for (address, vtables) in polls {
        match verify(elf, functions, address) {
            Ok(file_offset) => found.targets.push(PollTarget {
                address,
                file_offset,
                vtables,
            }),
            Err(reason) => found.refused.push((address, reason)),
        }
    }
    found
}

/// The file offset of a function's first instruction.
pub(super) fn verify(
    elf: &Elf<'_>,
    functions: Option<Functions<'_>>,
    address: u64,
) -> Result<u64, Reason> {
    let by_table = functions.is_some_and(|f| f.starts_at(address));
    if !by_table && !is_function_symbol(elf, address) {
        return Err(Reason::new(
            "neither unwind tables nor symbols say that a function starts there",
        ));
    }
    let code = bytes_at(elf, address).unwrap_or_default();
    let code = &code[..code.len().min(16)];
    let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return Err(Reason::new("its first bytes are no instruction"));
    }
    if code.first() == Some(&0xcc) {
        return Err(Reason::new("it starts with a breakpoint instruction"));
    }
    let offset =
        file_offset(elf, address).ok_or_else(|| Reason::new("no segment of the file holds it"))?;
    // The two ways to the bytes must meet: the mapping is then certain.
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if elf
        .data()
        .get(start..)
        .is_none_or(|bytes| !bytes.starts_with(code))
    {
        return Err(Reason::new("its file offset and its address disagree"));
    }
    Ok(offset)
}

fn is_function_symbol(elf: &Elf<'_>, address: u64) -> bool {
    elf.symbol_table().is_some_and(|table| {
        table
            .symbols()
            .any(|s| s.address() == address && s.kind() == SymbolKind::Text && s.is_definition())
    })
}
