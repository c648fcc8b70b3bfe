//! Which thread-local words a function touches: a one-pass, forward, bounded look at its
//! instructions. It knows the three ways in which compilers address thread-locals of an executable:
//! `fs:offset`, `fs:0` plus offset, and a constant in a register (initial-exec relaxed by the linker),
//! and the two of a library: `__tls_get_addr` and TLS descriptors.

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use crate::sys::elf::{Elf, bytes_at};

use super::locals::TlsPairs;
use super::registers::{Registers, Value, add, bit, join, slot};

/// Branch states kept at most per function.
const MAX_STATES: usize = 4096;
/// How many instructions later the second half of a pattern may come.
const NEAR: usize = 8;

/// `Budget::initial()`: `Some(128)` as a tag byte and a value byte (tokio `task/coop`, all versions).
pub(super) const FULL_BUDGET: u16 = 0x8001;

/// An 8-byte load of a thread-local.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// The thread-local.
    at: i64,
    /// The instruction's number.
    when: usize,
    /// Registers that hold the value or something computed from it, a bit each.
    derived: u16,
}

/// What was seen in one function. Offsets are bytes from the thread pointer; in a library, from the
/// start of its block of thread-locals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// 8-byte words that are loaded and at once replaced by another value (`Cell::replace`).
    pub(super) swaps: Vec<i64>,
    /// 8-byte words where the replacing value is the constant 1, a tag (`Some`).
    pub(super) tag_swaps: Vec<i64>,
    /// Bytes that are compared with 2 and then set to 2.
    pub(super) resets: Vec<i64>,
    /// Two-byte words that are set to `Some(128)`: tag 1, value 128.
    pub(super) budgets: Vec<i64>,
    /// The thread-local whose place it gives: an accessor that was not inlined (`LocalKey::with`).
    pub(super) gives: Option<i64>,
    /// Direct callees and tail calls, in order; an indirect call names its pointer's address.
    pub(super) callees: Vec<Callee>,
    /// Instructions decoded.
    pub(super) instructions: usize,
}

/// Where control goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee {
    /// A function.
    Direct(u64),
    /// The function that the word at this address points to.
    Through(u64),
    /// As `Direct`, by a jump out of the function.
    Tail(u64),
    /// As `Through`, by a jump.
    TailThrough(u64),
}

/// What tells of thread-locals beside the instructions themselves.
#[derive(Clone, Copy, Default)]
pub(super) struct Hints<'a> {
    /// In a library: its pairs.
    pub(super) pairs: Option<&'a TlsPairs>,
    /// The thread-local whose place a function gives.
    pub(super) given_by: Option<&'a dyn Fn(u64) -> Option<i64>>,
}

/// Looks at the function in `range` (addresses as in the file).
pub(super) fn summarize(elf: &Elf<'_>, range: &Range<u64>, budget: usize) -> Summary {
    summarize_with(elf, Hints::default(), range, budget)
}

/// The same with more knowledge.
pub(super) fn summarize_with(
    elf: &Elf<'_>,
    hints: Hints<'_>,
    range: &Range<u64>,
    budget: usize,
) -> Summary {
    let mut pass = Pass {
        hints,
        ..Pass::default()
    };
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let Some(code) = bytes_at(elf, range.start) else {
        return pass.out;
    };
    let code = &code[..code.len().min(length)];
    let mut decoder = Decoder::with_ip(64, code, range.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() && pass.out.instructions < budget {
        decoder.decode_out(&mut instruction);
        pass.out.instructions += 1;
        pass.step(&instruction, range);
    }
    if let Some(Given::One(place)) = pass.given {
        pass.out.gives = Some(place);
    }
    pass.out
}

/// What a function gives in its first register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// The place of this thread-local, where it is known.
    One(i64),
    /// Several, or something else.
    Other,
}

#[derive(Default)]
struct Pass<'a> {
    out: Summary,
    hints: Hints<'a>,
    /// What it gives where it returns: places of thread-locals only.
    given: Option<Given>,
    registers: Registers,
    /// States carried to forward branch targets.
    states: HashMap<u64, Registers>,
    /// The state at the last indirect jump: what the arms of a switch start with.
    switch_state: Registers,
    /// The instruction before ended the flow.
    cut: bool,
    /// The instruction before was a call.
    after_call: bool,
    /// Recent 8-byte loads.
    loads: Vec<Load>,
    /// Recent byte loads: (offset, into, instruction).
    byte_loads: Vec<(i64, Register, usize)>,
    /// The byte last compared with 2.
    compared: Option<(i64, usize)>,
}

impl Pass<'_> {
    fn step(&mut self, i: &Instruction, range: &Range<u64>) {
        self.enter(i.ip());
        self.derive(i);
        self.match_patterns(i);
        match i.flow_control() {
            FlowControl::ConditionalBranch => self.carry(i.near_branch_target(), range),
            FlowControl::UnconditionalBranch => {
                let target = i.near_branch_target();
                if range.contains(&target) {
                    self.carry(target, range);
                } else {
                    self.out.callees.push(Callee::Tail(target));
                }
                self.cut = true;
            }
            FlowControl::IndirectBranch => {
                if let Some(at) = absolute(i) {
                    self.out.callees.push(Callee::TailThrough(at));
                }
                self.switch_state = self.registers;
                self.cut = true;
            }
            FlowControl::Return => {
                self.give();
                self.cut = true;
            }
            FlowControl::Exception => self.cut = true,
            FlowControl::Call => {
                let target = i.near_branch_target();
                self.out.callees.push(Callee::Direct(target));
                self.call(Some(target));
            }
            FlowControl::IndirectCall => {
                if let Some(at) = absolute(i) {
                    self.out.callees.push(Callee::Through(at));
                }
                self.call(None);
                self.after_call = true;
            }
            _ => self.write(i),
        }
    }

    /// Joins the state that branches carried here.
    fn enter(&mut self, ip: u64) {
        let carried = self.states.remove(&ip);
        let after_call = std::mem::take(&mut self.after_call);
        match (std::mem::take(&mut self.cut), carried) {
            (true, Some(state)) => self.registers = state,
            (true, None) => self.registers = self.switch_state,
            // What falls through here is perhaps nothing: a panic does not return.
            (false, Some(state)) if after_call => self.registers = state,
            (false, Some(state)) => join(&mut self.registers, &state),
            (false, None) => {}
        }
    }

    fn carry(&mut self, target: u64, range: &Range<u64>) {
        if !range.contains(&target) || self.states.len() >= MAX_STATES {
            return;
        }
        let registers = self.registers;
        self.states
            .entry(target)
            .and_modify(|state| join(state, &registers))
            .or_insert(registers);
    }

    fn value(&self, register: Register) -> Value {
        slot(register).map_or(Value::Unknown, |s| self.registers[s])
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(s) = slot(register) {
            self.registers[s] = value;
        }
    }

    fn give(&mut self) {
        let now = match self.value(Register::RAX) {
            Value::ThreadPointer(place) => Given::One(place),
            Value::Constant(constant) if constant != 0 => Given::Other,
            // A null pointer, or what the slow way of an accessor gives: the same place.
            _ => return,
        };
        self.given = match self.given {
            Some(before) if before != now => Some(Given::Other),
            _ => Some(now),
        };
    }

    /// A call: what it gives is known when it asks for the place of a thread-local. A descriptor's
    /// function gives a distance from the thread pointer (and keeps all other registers).
    fn call(&mut self, target: Option<u64>) {
        let constant = |value| match value {
            Value::Constant(address) => Some(address),
            _ => None,
        };
        let asks = |register| Some((self.hints.pairs?, constant(self.value(register))?));
        let place = asks(Register::RDI).and_then(|(pairs, at)| pairs.by_module(at));
        let distance = asks(Register::RAX).and_then(|(pairs, at)| pairs.by_descriptor(at));
        if let Some(distance) = distance {
            self.set(Register::RAX, Value::Constant(distance));
            return;
        }
        let given = || self.hints.given_by?(target?);
        let place = place.or_else(given);
        self.forget_caller_saved();
        if let Some(place) = place {
            self.set(Register::RAX, Value::ThreadPointer(place));
        }
    }

    fn forget_caller_saved(&mut self) {
        for register in [
            Register::RAX,
            Register::RCX,
            Register::RDX,
            Register::RSI,
            Register::RDI,
            Register::R8,
            Register::R9,
            Register::R10,
            Register::R11,
        ] {
            self.set(register, Value::Unknown);
        }
    }

    /// The thread-local that the instruction's memory operand names.
    fn thread_local(&self, i: &Instruction) -> Option<i64> {
        let displacement = i.memory_displacement64() as i64;
        let mut sum = (i.memory_segment() == Register::FS).then_some(displacement);
        let mut offset = displacement;
        for register in [i.memory_base(), i.memory_index()] {
            match (register, self.value(register)) {
                (Register::None, _) => {}
                (_, Value::Constant(c)) => offset = offset.checked_add(c)?,
                (_, Value::ThreadPointer(o)) if sum.is_none() => {
                    offset = offset.checked_add(o)?;
                    sum = Some(0);
                }
                _ => return None,
            }
        }
        sum.map(|_| offset)
    }

    fn match_patterns(&mut self, i: &Instruction) {
        let now = self.out.instructions;
        match i.code() {
            Code::Mov_r64_rm64 if i.op1_kind() == OpKind::Memory => {
                if let Some(at) = self.thread_local(i) {
                    self.loads.retain(|l| now - l.when <= NEAR);
                    self.loads.push(Load {
                        at,
                        when: now,
                        derived: bit(i.op0_register()),
                    });
                }
            }
            Code::Mov_rm64_r64 if i.op0_kind() == OpKind::Memory => {
                if let Some(at) = self.thread_local(i) {
                    let source = i.op1_register();
                    let replaces = |l: &Load| {
                        l.at == at && l.derived & bit(source) == 0 && now - l.when <= NEAR
                    };
                    if self.loads.iter().any(replaces) {
                        self.out.swaps.push(at);
                    }
                }
            }
            Code::Mov_rm64_imm32 if i.immediate32to64() == 1 => {
                if let Some(at) = self.thread_local(i)
                    && self
                        .loads
                        .iter()
                        .any(|l| l.at == at && now - l.when <= NEAR)
                {
                    self.out.tag_swaps.push(at);
                }
            }
            Code::Mov_r8_rm8 | Code::Movzx_r32_rm8 if i.op1_kind() == OpKind::Memory => {
                if let Some(at) = self.thread_local(i) {
                    let register = i.op0_register().full_register();
                    keep(&mut self.byte_loads, (at, register, now));
                }
            }
            Code::Cmp_rm8_imm8 if i.immediate8() == 2 => {
                self.compared = if i.op0_kind() == OpKind::Memory {
                    self.thread_local(i).map(|at| (at, now))
                } else {
                    self.byte_loaded(i.op0_register(), now)
                };
            }
            Code::Cmp_AL_imm8 if i.immediate8() == 2 => {
                self.compared = self.byte_loaded(Register::AL, now);
            }
            Code::Cmp_rm32_imm8 if i.immediate8() == 2 && i.op0_kind() == OpKind::Register => {
                self.compared = self.byte_loaded(i.op0_register(), now);
            }
            Code::Mov_rm16_imm16 if i.immediate16() == FULL_BUDGET => {
                self.out.budgets.extend(self.thread_local(i));
            }
            Code::Mov_rm8_imm8 if i.op0_kind() == OpKind::Memory && i.immediate8() == 2 => {
                if let (Some(at), Some((compared, when))) = (self.thread_local(i), self.compared)
                    && at == compared
                    && now - when <= NEAR
                {
                    self.out.resets.push(at);
                }
            }
            _ => {}
        }
    }

    /// Follows which registers hold something computed from a recent load: a counter that is loaded,
    /// added to and stored is no replacement.
    fn derive(&mut self, i: &Instruction) {
        if self.loads.is_empty() || i.op0_kind() != OpKind::Register {
            return;
        }
        let target = bit(i.op0_register());
        let mut read = bit(i.memory_base()) | bit(i.memory_index());
        for operand in 1..i.op_count() {
            if i.op_kind(operand) == OpKind::Register {
                read |= bit(i.op_register(operand));
            }
        }
        let overwrites = matches!(
            i.mnemonic(),
            Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Pop
        );
        for load in &mut self.loads {
            if load.derived & read != 0 {
                load.derived |= target;
            } else if overwrites {
                load.derived &= !target;
            }
        }
    }

    fn byte_loaded(&self, register: Register, now: usize) -> Option<(i64, usize)> {
        let register = register.full_register();
        self.byte_loads
            .iter()
            .rev()
            .find(|l| l.1 == register && now - l.2 <= NEAR)
            .map(|l| (l.0, now))
    }

    /// What the instruction leaves in the register that it writes.
    fn write(&mut self, i: &Instruction) {
        match i.mnemonic() {
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt | Mnemonic::Nop => {
                return;
            }
            Mnemonic::Mul
            | Mnemonic::Div
            | Mnemonic::Idiv
            | Mnemonic::Imul
            | Mnemonic::Cdq
            | Mnemonic::Cqo
            | Mnemonic::Cmpxchg
            | Mnemonic::Cmpxchg16b
            | Mnemonic::Cpuid
            | Mnemonic::Syscall => self.forget_caller_saved(),
            Mnemonic::Xchg | Mnemonic::Xadd if i.op1_kind() == OpKind::Register => {
                self.set(i.op1_register(), Value::Unknown);
            }
            _ => {}
        }
        if i.op0_kind() != OpKind::Register {
            return;
        }
        let target = i.op0_register();
        let value = match i.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if i.op1_kind() == OpKind::Register => {
                self.value(i.op1_register())
            }
            Code::Mov_r64_rm64 if self.thread_local(i) == Some(0) => Value::ThreadPointer(0),
            Code::Mov_rm64_imm32 => Value::Constant(i.immediate32to64()),
            Code::Xor_r32_rm32 | Code::Xor_rm32_r32 | Code::Xor_r64_rm64 | Code::Xor_rm64_r64
                if i.op1_kind() == OpKind::Register && i.op1_register() == target =>
            {
                Value::Constant(0)
            }
            Code::Mov_r64_imm64 => Value::Constant(i.immediate64() as i64),
            Code::Mov_r32_imm32 => Value::Constant(i64::from(i.immediate32())),
            Code::Lea_r64_m => self.address(i),
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 | Code::Add_RAX_imm32 => {
                let by = if i.code() == Code::Add_rm64_imm8 {
                    i.immediate8to64()
                } else {
                    i.immediate32to64()
                };
                add(self.value(target), Value::Constant(by))
            }
            Code::Add_r64_rm64 | Code::Add_rm64_r64 if i.op1_kind() == OpKind::Register => {
                add(self.value(target), self.value(i.op1_register()))
            }
            Code::Add_r64_rm64 if self.thread_local(i) == Some(0) => {
                add(self.value(target), Value::ThreadPointer(0))
            }
            _ => Value::Unknown,
        };
        self.set(target, value);
    }

    /// The value of a `lea`.
    fn address(&self, i: &Instruction) -> Value {
        if let Some(address) = absolute(i) {
            return Value::Constant(address as i64);
        }
        if i.memory_index_scale() != 1 {
            return Value::Unknown;
        }
        let mut sum = Value::Constant(i.memory_displacement64() as i64);
        for register in [i.memory_base(), i.memory_index()] {
            if register != Register::None {
                sum = add(sum, self.value(register));
            }
        }
        sum
    }
}

/// Remembers a load, forgetting what is too old to matter.
fn keep(list: &mut Vec<(i64, Register, usize)>, load: (i64, Register, usize)) {
    list.retain(|l| load.2 - l.2 <= NEAR && l.1 != load.1);
    list.push(load);
}

/// The address of a rip-relative memory operand.
fn absolute(i: &Instruction) -> Option<u64> {
    i.is_ip_rel_memory_operand()
        .then(|| i.ip_rel_memory_address())
}
