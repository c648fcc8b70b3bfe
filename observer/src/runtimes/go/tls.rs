//! Where a thread keeps its `g`: an offset from the TLS base.

use object::elf::PT_TLS;
use object::read::elf::ProgramHeader as _;

use super::decode::{self, TlsForm};
use super::symbols::GoSymbols;
use crate::model::Reason;
use crate::model::memory::Memory;
use crate::sys::elf::{self, Elf};

/// Bytes of a function that are decoded at most.
const CODE: usize = 256;

/// What the executable says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls {
    /// Where the word lies.
    pub form: TlsForm,
    /// How that is known, one clause.
    pub evidence: &'static str,
}

/// Finds the offset: from the instruction that the runtime itself uses, else from `runtime.tlsg`
/// and the TLS segment.
///
/// # Errors
/// The reason when neither is there.
pub fn find(elf: &Elf<'_>, symbols: &GoSymbols) -> Result<Tls, Reason> {
    if let Some(form) = by_code(elf, symbols) {
        let evidence = match form {
            TlsForm::Offset(_) => {
                "offset of g in thread-local storage from the code of runtime.stackcheck"
            }
            TlsForm::Word(_) => {
                "offset of g in thread-local storage through the global offset table"
            }
        };
        return Ok(Tls { form, evidence });
    }
    by_symbol(elf, symbols.tables().variables.tlsg)
        .map(|offset| Tls {
            form: TlsForm::Offset(offset),
            evidence: "offset of g in thread-local storage from the symbol runtime.tlsg",
        })
        .ok_or(Reason::new(
            "where threads keep their goroutine could not be found in the executable",
        ))
}

fn by_code(elf: &Elf<'_>, symbols: &GoSymbols) -> Option<TlsForm> {
    let table = symbols.pclntab()?;
    // The body and a wrapper can share the name: whichever reads the TLS first.
    table.named("runtime.stackcheck").find_map(|function| {
        let code = elf::bytes_at(elf, function.entry)?;
        let size = usize::try_from(function.end.checked_sub(function.entry)?).ok()?;
        decode::tls_form(&code[..code.len().min(size).min(CODE)], function.entry)
    })
}

/// The formula of the ELF TLS ABI, variant 2, as delve has it (`pkg/proc/bininfo.go`); -8 when the
/// Go linker laid the block out itself.
fn by_symbol(elf: &Elf<'_>, tlsg: Option<u64>) -> Option<i64> {
    let tlsg = tlsg?;
    let endian = elf.endian();
    let Some(segment) = elf
        .elf_program_headers()
        .iter()
        .find(|h| h.p_type(endian) == PT_TLS)
    else {
        return Some(-8);
    };
    static_offset(
        segment.p_memsz(endian),
        segment.p_vaddr(endian),
        segment.p_align(endian),
        tlsg,
    )
}

fn static_offset(size: u64, address: u64, align: u64, tlsg: u64) -> Option<i64> {
    let mask = align.max(1).checked_next_power_of_two()? - 1;
    let padding = 0_u64.wrapping_sub(address).wrapping_sub(size) & mask;
    let block = i64::try_from(size.checked_add(padding)?).ok()?;
    i64::try_from(tlsg).ok()?.checked_sub(block)
}

impl Tls {
    /// The offset in one process: reads the global offset table when the code goes through it.
    ///
    /// # Errors
    /// The reason when the word can not be read or is no offset.
    pub fn offset(&self, memory: &dyn Memory, bias: u64) -> Result<i64, Reason> {
        let offset = match self.form {
            TlsForm::Offset(offset) => offset,
            TlsForm::Word(address) => memory
                .read_u64(bias.wrapping_add(address))
                .map_err(|e| Reason::with(format!("the TLS offset of g could not be read: {e}")))?
                as i64,
        };
        // Below the TLS base on x86-64, within what a loader reserves.
        if (-(1 << 30)..0).contains(&offset) {
            Ok(offset)
        } else {
            Err(Reason::with(format!(
                "the TLS offset of g, {offset}, is not plausible"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_agrees_with_measured_programs() {
        // A static cgo program: memsz 0x218, align 0x10, tlsg 0x20 gave -0x200.
        assert_eq!(static_offset(0x218, 0, 0x10, 0x20), Some(-0x200));
        assert_eq!(static_offset(8, 0, 8, 0), Some(-8));
        assert_eq!(static_offset(u64::MAX, 0, 8, 0), None);
        assert_eq!(static_offset(8, 0, u64::MAX, 0), None);
    }
}
