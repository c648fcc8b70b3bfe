//! A few instructions of the runtime, decoded: where stripped programs keep `allgs`, `g0` and `g`.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Instructions that are looked at in one function.
const MAX_INSTRUCTIONS: usize = 64;

/// Where a thread keeps its `g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsForm {
    /// At this offset from the thread's TLS base.
    Offset(i64),
    /// At the offset that the word at this file virtual address holds (initial-exec, through the GOT).
    Word(u64),
}

fn instructions(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> + '_ {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .take(MAX_INSTRUCTIONS)
        .take_while(|i| i.code() != Code::INVALID)
}

fn destination(i: &Instruction) -> Option<Register> {
    (i.op0_kind() == OpKind::Register).then(|| i.op0_register().full_register())
}

fn loads_memory(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Mov && i.op1_kind() == OpKind::Memory
}

/// The address of the first 8-byte load relative to the instruction pointer: in `runtime.forEachG`
/// that is `runtime.allgs` (Go 1.18 to 1.27, measured).
pub fn first_load(code: &[u8], address: u64) -> Option<u64> {
    instructions(code, address)
        .find(|i| loads_memory(i) && i.is_ip_rel_memory_operand() && i.op0_register().is_gpr64())
        .map(|i| i.ip_rel_memory_address())
}

/// The address that the first `lea` relative to the instruction pointer takes: in `runtime.rt0_go`
/// that is `runtime.g0` (`src/runtime/asm_amd64.s`).
pub fn first_lea(code: &[u8], address: u64) -> Option<u64> {
    instructions(code, address)
        .find(|i| i.mnemonic() == Mnemonic::Lea && i.is_ip_rel_memory_operand())
        .map(|i| i.ip_rel_memory_address())
}

/// How `runtime.stackcheck`, which opens by loading `g`, finds it. Forms seen: `mov %fs:-8,%rax`;
/// `mov $-8,%rcx; mov %fs:(%rcx),%rax`; `mov GOT(%rip),%rcx; mov %fs:(%rcx),%rax`.
pub fn tls_form(code: &[u8], address: u64) -> Option<TlsForm> {
    let mut known: Option<(Register, TlsForm)> = None;
    for i in instructions(code, address).take(16) {
        if loads_memory(&i) && i.memory_segment() == Register::FS {
            if i.memory_index() != Register::None {
                return None;
            }
            let displacement = i.memory_displacement64() as i64;
            return match (i.memory_base(), known) {
                (Register::None, _) => Some(TlsForm::Offset(displacement)),
                (base, Some((register, form))) if base == register => match form {
                    TlsForm::Offset(o) => Some(TlsForm::Offset(o.checked_add(displacement)?)),
                    word @ TlsForm::Word(_) => (displacement == 0).then_some(word),
                },
                _ => None,
            };
        }
        let Some(register) = destination(&i) else {
            continue;
        };
        if i.mnemonic() != Mnemonic::Mov {
            continue;
        }
        if loads_memory(&i) && i.is_ip_rel_memory_operand() {
            known = Some((register, TlsForm::Word(i.ip_rel_memory_address())));
        } else if matches!(i.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate64) {
            known = Some((register, TlsForm::Offset(i.immediate(1) as i64)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_tls_access_is_understood() {
        let check =
            |code: &[u8], expected| assert_eq!(tls_form(code, 0x1000), expected, "{code:x?}");
        // mov %fs:0xfffffffffffffff8,%rax
        check(
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0xf8, 0xff, 0xff, 0xff],
            Some(TlsForm::Offset(-8)),
        );
        // mov $-8,%rcx; mov %fs:(%rcx),%rax
        check(
            &[
                0x48, 0xc7, 0xc1, 0xf8, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x01,
            ],
            Some(TlsForm::Offset(-8)),
        );
        // mov 0x10(%rip),%rcx; mov %fs:(%rcx),%rax
        check(
            &[0x48, 0x8b, 0x0d, 0x10, 0, 0, 0, 0x64, 0x48, 0x8b, 0x01],
            Some(TlsForm::Word(0x1017)),
        );
        // mov %fs:(%rcx),%rax with nothing known of rcx
        check(&[0x64, 0x48, 0x8b, 0x01], None);
        check(&[], None);
        check(&[0xff; 32], None);
    }

    #[test]
    fn loads_and_leas_are_found() {
        // lea 0x10(%rip),%rax; mov 0x20(%rip),%rcx
        let code = [
            0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0x48, 0x8b, 0x0d, 0x20, 0, 0, 0,
        ];
        assert_eq!(first_lea(&code, 0x1000), Some(0x1017));
        assert_eq!(first_load(&code, 0x1000), Some(0x102e));
        assert_eq!(first_load(&[0x90; 200], 0), None);
    }
}
