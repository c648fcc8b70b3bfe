//! Where a probe costs a target least. The kernel executes some instructions itself; all others it
//! single-steps in the target, at more than ten times the cost (Linux `arch/x86/kernel/uprobes.c`:
//! `push_setup_xol_ops`, `branch_setup_xol_ops`). So a probe goes to the first instruction of the former
//! kind on the way that every call takes, while it is still known where the argument is.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use crate::model::Reason;
use crate::sys::code::{CodeSite, site_at};
use crate::sys::elf::{Elf, bytes_at};

use super::pointers::CodePointers;

/// Instructions looked at.
const MAX_INSTRUCTIONS: usize = 48;
/// Functions followed by jumps through a pointer in the file's data.
const MAX_JUMPS: usize = 2;

/// Where the first argument is when a probe is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    /// In a general register, by its number in instructions (0 = rax ... 15 = r15).
    Register(u8),
    /// In memory, so many bytes above the stack pointer.
    Stack(u16),
}

impl Argument {
    /// As the kernel side is told: `ARGUMENT_ON_STACK` and an offset, or a register.
    pub(super) fn encode(self) -> u32 {
        match self {
            Self::Register(number) => u32::from(number),
            Self::Stack(offset) => ON_STACK | u32::from(offset),
        }
    }
}

/// The same as `observer_common::events::poll::ARGUMENT_ON_STACK`, which wires it.
pub(super) const ON_STACK: u32 = 1 << 16;

/// A place for a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheapPlace {
    pub(super) site: CodeSite,
    pub(super) argument: Argument,
    /// How much lower than at the function's start the stack pointer is.
    pub(super) pushed: u32,
}

/// What is known of registers and stack on the way.
#[derive(Debug, Default)]
struct Known {
    /// Bit per register that holds the argument.
    registers: u16,
    /// Where it was stored, in bytes below the stack pointer at the start.
    stored: Option<u32>,
    /// How much lower the stack pointer is by now.
    pushed: u32,
}

impl Known {
    fn argument(&self) -> Option<Argument> {
        if self.registers != 0 {
            return Some(Argument::Register(self.registers.trailing_zeros() as u8));
        }
        let offset = self.pushed.checked_sub(self.stored?)?;
        Some(Argument::Stack(u16::try_from(offset).ok()?))
    }

    fn holds(&self, register: Register) -> bool {
        register.is_gpr64() && self.registers & bit(register) != 0
    }

    fn set(&mut self, register: Register, holds: bool) {
        let bit = bit(register.full_register());
        if holds {
            self.registers |= bit;
        } else {
            self.registers &= !bit;
        }
    }

    /// Follows one instruction; `None`: one whose effect is not known here.
    fn step(&mut self, i: &Instruction) -> Option<()> {
        let to = (i.op_count() > 0 && i.op0_kind() == OpKind::Register).then(|| i.op0_register());
        match i.mnemonic() {
            Mnemonic::Nop | Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Endbr64 => {}
            Mnemonic::Sub if to == Some(Register::RSP) => {
                self.pushed = self
                    .pushed
                    .checked_add(u32::try_from(i.immediate(1)).ok()?)?;
            }
            _ if to == Some(Register::RSP) => return None,
            Mnemonic::Mov if i.op0_kind() == OpKind::Memory => self.store(i),
            Mnemonic::Mov if i.op1_kind() == OpKind::Register => {
                let holds = self.holds(i.op1_register());
                self.set(to?, holds);
            }
            Mnemonic::Mov
            | Mnemonic::Movzx
            | Mnemonic::Movsxd
            | Mnemonic::Lea
            | Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xor
            | Mnemonic::Shl
            | Mnemonic::Shr => {
                if let Some(to) = to {
                    self.set(to, false);
                } else if i.memory_base() == Register::RSP {
                    self.stored = None;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn store(&mut self, i: &Instruction) {
        if i.memory_base() != Register::RSP || i.memory_index() != Register::None {
            return;
        }
        let below = u32::try_from(i.memory_displacement64())
            .ok()
            .and_then(|offset| self.pushed.checked_sub(offset));
        let holds = i.op1_kind() == OpKind::Register && self.holds(i.op1_register());
        if holds {
            self.stored = below;
        } else if self.stored == below {
            self.stored = None;
        }
    }
}

fn bit(register: Register) -> u16 {
    if register.is_gpr64() {
        1 << register.number()
    } else {
        0
    }
}

/// Whether the kernel executes an instruction itself.
fn emulated(i: &Instruction) -> bool {
    match i.code() {
        // A prefix for 16 bits makes it another instruction.
        Code::Push_r64 => i.len() <= 2,
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Call_rel32_64 => true,
        _ => i.flow_control() == FlowControl::ConditionalBranch && i.is_jcc_short_or_near(),
    }
}

/// The cheapest place in the function that starts at `function`, whose first argument is wanted.
///
/// # Errors
/// When no instruction that the kernel executes itself comes before the way forks or gets lost.
pub(super) fn cheap_place(
    elf: &Elf<'_>,
    pointers: &CodePointers,
    function: u64,
) -> Result<CheapPlace, Reason> {
    let mut known = Known::default();
    known.set(Register::RDI, true);
    let mut start = function;
    let mut left = MAX_INSTRUCTIONS;
    for _ in 0..=MAX_JUMPS {
        let code = bytes_at(elf, start).ok_or(Reason::new("no segment of the file holds it"))?;
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let next = loop {
            if left == 0 || !decoder.can_decode() {
                return Err(LOST);
            }
            left -= 1;
            let i = decoder.decode();
            if i.is_invalid() {
                return Err(LOST);
            }
            let argument = known.argument().ok_or(LOST)?;
            if emulated(&i) {
                return Ok(CheapPlace {
                    site: site_at(elf, start, i.ip())?,
                    argument,
                    pushed: known.pushed,
                });
            }
            if i.flow_control() == FlowControl::IndirectBranch && i.is_ip_rel_memory_operand() {
                // A tail call through the table of addresses that the loader fills in.
                break pointers.at(i.ip_rel_memory_address()).ok_or(LOST)?;
            }
            if i.flow_control() != FlowControl::Next {
                return Err(LOST);
            }
            known.step(&i).ok_or(LOST)?;
        };
        start = next;
    }
    Err(LOST)
}

const LOST: Reason =
    Reason::new("each hit would be single-stepped, which costs the target some ten microseconds");

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(code: &[u8]) -> Option<(usize, Argument, u32)> {
        let mut known = Known::default();
        known.set(Register::RDI, true);
        let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
        while decoder.can_decode() {
            let i = decoder.decode();
            if emulated(&i) {
                return Some((i.ip() as usize, known.argument()?, known.pushed));
            }
            known.step(&i)?;
        }
        None
    }

    #[test]
    fn a_push_or_a_jump_at_the_start_is_the_place() {
        assert_eq!(walk(&[0x55]), Some((0, Argument::Register(7), 0)));
        assert_eq!(walk(&[0x41, 0x57]), Some((0, Argument::Register(7), 0)));
        let jump = [0xe9, 1, 2, 3, 4];
        assert_eq!(walk(&jump), Some((0, Argument::Register(7), 0)));
    }

    #[test]
    fn the_argument_is_followed_to_where_it_is_copied() {
        // mov %rdi,%rsi; mov 0x10(%rdi),%rax; mov 0x40(%rax),%rdi; add %rsi,%rdi; jmp ...
        let schedule = [
            0x48, 0x89, 0xfe, 0x48, 0x8b, 0x47, 0x10, 0x48, 0x8b, 0x78, 0x40, 0x48, 0x01, 0xf7,
            0xe9, 0, 0, 0, 0,
        ];
        assert_eq!(walk(&schedule), Some((14, Argument::Register(6), 0)));
        // sub $0x28,%rsp; mov %rdi,0x18(%rsp); xor %edi,%edi; call ...
        let stored = [
            0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x7c, 0x24, 0x18, 0x31, 0xff, 0xe8, 0, 0, 0, 0,
        ];
        assert_eq!(walk(&stored), Some((11, Argument::Stack(0x18), 0x28)));
    }

    #[test]
    fn a_lost_argument_or_an_unknown_instruction_is_no_place() {
        // xor %edi,%edi; push %rbp
        assert_eq!(walk(&[0x31, 0xff, 0x55]), None);
        // cpuid; push %rbp
        assert_eq!(walk(&[0x0f, 0xa2, 0x55]), None);
        // ret
        assert_eq!(walk(&[0xc3]), None);
    }
}
