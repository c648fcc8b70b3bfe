//! Frames of functions that no unwind table covers: musl's, and hand-written assembly. Their own
//! instructions tell how they return: from where a function is now, each way is followed to a `ret`, and
//! what it takes off the stack until then lies between the stack pointer and the return address.
//!
//! A call may never return, and what follows it may then be the next function: ways through calls count only
//! where no other leads out. A return address counts only when there is one alone with a call before it.

use std::collections::HashSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

/// Instructions followed of one function.
const MAX_INSTRUCTIONS: usize = 512;
/// Different ways out that are kept.
const MAX_WAYS: usize = 8;
/// The longest call: prefix, opcode, ModRM, SIB, displacement (bytes).
const MAX_CALL: u64 = 8;

/// A place on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The stack pointer now, plus bytes.
    Stack(i64),
    /// The frame pointer register now, plus bytes.
    Frame(i64),
}

impl Place {
    fn moved(self, by: i64) -> Self {
        match self {
            Self::Stack(at) => Self::Stack(at.wrapping_add(by)),
            Self::Frame(at) => Self::Frame(at.wrapping_add(by)),
        }
    }
}

/// Where the caller's frame pointer register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Saved {
    /// In the register still.
    Kept,
    /// On the stack.
    At(Place),
    /// Not known.
    Lost,
}

/// A way out of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Way {
    /// Where the return address lies.
    pub(super) return_address: Place,
    /// The caller's frame pointer register.
    pub(super) frame_pointer: Saved,
}

#[derive(Debug, Clone, Copy)]
struct State {
    at: u64,
    stack: Place,
    frame: Saved,
}

/// What an instruction leads to.
enum Step {
    Next(State),
    Call(State),
    Branch(State, u64),
    Out(Way),
    /// Nothing that can be followed.
    Stop,
}

/// The ways out from `address`; none when they can not be followed. `code` gives the code from an address on.
pub(super) fn ways_out<'a>(code: impl Fn(u64) -> Option<&'a [u8]>, address: u64) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut info = InstructionInfoFactory::new();
    let mut visited = HashSet::new();
    let mut open = vec![State {
        at: address,
        stack: Place::Stack(0),
        frame: Saved::Kept,
    }];
    let mut behind_calls = Vec::new();
    loop {
        let Some(mut state) = open.pop() else {
            if behind_calls.is_empty() || !ways.is_empty() {
                return ways;
            }
            std::mem::swap(&mut open, &mut behind_calls);
            continue;
        };
        let Some(bytes) = code(state.at) else {
            continue;
        };
        let mut decoder = Decoder::with_ip(64, bytes, state.at, DecoderOptions::NONE);
        while decoder.can_decode() && visited.insert(decoder.ip()) {
            if visited.len() > MAX_INSTRUCTIONS || ways.len() >= MAX_WAYS {
                return ways;
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                break;
            }
            match step(state, &instruction, &mut info) {
                Step::Next(next) => state = next,
                Step::Call(next) => {
                    behind_calls.push(State {
                        at: decoder.ip(),
                        ..next
                    });
                    break;
                }
                Step::Branch(next, target) => {
                    open.push(State { at: target, ..next });
                    state = next;
                }
                Step::Out(way) => {
                    if !ways.contains(&way) {
                        ways.push(way);
                    }
                    break;
                }
                Step::Stop => break,
            }
            if instruction.flow_control() == FlowControl::UnconditionalBranch {
                break;
            }
        }
    }
}

fn step(state: State, i: &Instruction, info: &mut InstructionInfoFactory) -> Step {
    let to = |stack| Step::Next(State { stack, ..state });
    let is_stack_pointer = i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
    match i.flow_control() {
        FlowControl::Return => {
            return Step::Out(Way {
                return_address: state.stack,
                frame_pointer: state.frame,
            });
        }
        // What is called takes its own off the stack.
        FlowControl::Call | FlowControl::IndirectCall => return Step::Call(state),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
            return Step::Branch(state, i.near_branch_target());
        }
        FlowControl::Next => {}
        _ if i.mnemonic() == Mnemonic::Syscall => return Step::Next(state),
        _ => return Step::Stop,
    }
    match i.mnemonic() {
        Mnemonic::Pop if i.op0_register() == Register::RBP => {
            return Step::Next(State {
                stack: state.stack.moved(8),
                frame: Saved::At(state.stack),
                ..state
            });
        }
        Mnemonic::Leave if state.frame == Saved::Kept => {
            return Step::Next(State {
                stack: Place::Frame(8),
                frame: Saved::At(Place::Frame(0)),
                ..state
            });
        }
        // What the frame pointer register was is not known any more; `enter` nobody writes.
        Mnemonic::Leave | Mnemonic::Enter => return Step::Stop,
        Mnemonic::Add | Mnemonic::Sub if is_stack_pointer => {
            let sign = if i.mnemonic() == Mnemonic::Add { 1 } else { -1 };
            return match i.op1_kind() {
                OpKind::Immediate8to64 | OpKind::Immediate32to64 => to(state
                    .stack
                    .moved((i.immediate(1) as i64).wrapping_mul(sign))),
                _ => Step::Stop,
            };
        }
        Mnemonic::Lea if is_stack_pointer && i.memory_index() == Register::None => {
            let by = i.memory_displacement64() as i64;
            return match (i.memory_base(), state.frame) {
                (Register::RSP, _) => to(state.stack.moved(by)),
                (Register::RBP, Saved::Kept) => to(Place::Frame(by)),
                _ => Step::Stop,
            };
        }
        Mnemonic::Mov if is_stack_pointer && i.op1_kind() == OpKind::Register => {
            return match (i.op1_register(), state.frame) {
                (Register::RBP, Saved::Kept) => to(Place::Frame(0)),
                _ => Step::Stop,
            };
        }
        _ => {}
    }
    let mut next = state;
    if i.is_stack_instruction() {
        next.stack = next.stack.moved(i64::from(i.stack_pointer_increment()));
    }
    for used in info.info(i).used_registers() {
        let writes = !matches!(
            used.access(),
            OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        );
        match used.register().full_register() {
            Register::RSP if writes && !i.is_stack_instruction() => return Step::Stop,
            Register::RBP if writes => next.frame = Saved::Lost,
            _ => {}
        }
    }
    Step::Next(next)
}

/// Whether the instruction before `address` is a call: only then can it be returned to.
pub(super) fn follows_a_call<'a>(code: impl Fn(u64) -> Option<&'a [u8]>, address: u64) -> bool {
    (2..=MAX_CALL).any(|length| {
        let Some(at) = address.checked_sub(length) else {
            return false;
        };
        let Some(bytes) = code(at).and_then(|bytes| bytes.get(..length as usize)) else {
            return false;
        };
        let i = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
        let calls = matches!(
            i.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        calls && i.len() as u64 == length && !i.is_invalid()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x1000;

    /// From the first byte on.
    fn out(code: &[u8]) -> Vec<Way> {
        let from = |address: u64| code.get(usize::try_from(address.checked_sub(START)?).ok()?..);
        ways_out(from, START)
    }

    fn way(return_address: Place, frame_pointer: Saved) -> Way {
        Way {
            return_address,
            frame_pointer,
        }
    }

    #[test]
    fn what_is_taken_off_the_stack_lies_before_the_return_address() {
        // ret
        assert_eq!(out(&[0xc3]), [way(Place::Stack(0), Saved::Kept)]);
        // add rsp, 0x18; pop rbx; pop rbp; ret
        let popped = Saved::At(Place::Stack(0x20));
        assert_eq!(
            out(&[0x48, 0x83, 0xc4, 0x18, 0x5b, 0x5d, 0xc3]),
            [way(Place::Stack(0x28), popped)]
        );
        // push rax; call +0; lea rsp, [rsp + 16]; ret
        assert_eq!(
            out(&[0x50, 0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x64, 0x24, 16, 0xc3]),
            [way(Place::Stack(8), Saved::Kept)]
        );
        // leave; ret
        let saved = Saved::At(Place::Frame(0));
        assert_eq!(out(&[0xc9, 0xc3]), [way(Place::Frame(8), saved)]);
        // xor ebp, ebp; ret
        assert_eq!(
            out(&[0x31, 0xed, 0xc3]),
            [way(Place::Stack(0), Saved::Lost)]
        );
    }

    #[test]
    fn branches_are_followed_on_both_sides() {
        // jne +1; ret; pop rax; ret
        assert_eq!(
            out(&[0x75, 1, 0xc3, 0x58, 0xc3]),
            [
                way(Place::Stack(0), Saved::Kept),
                way(Place::Stack(8), Saved::Kept)
            ]
        );
        // jne -2 (itself); jmp +1; hlt; ret
        assert_eq!(
            out(&[0x75, 0xfe, 0xeb, 1, 0xf4, 0xc3]),
            [way(Place::Stack(0), Saved::Kept)]
        );
    }

    #[test]
    fn what_follows_a_call_counts_only_where_nothing_else_leads_out() {
        // je +2; pop rax; ret; call +0; (the next function) ret
        assert_eq!(
            out(&[0x74, 2, 0x58, 0xc3, 0xe8, 0, 0, 0, 0, 0xc3]),
            [way(Place::Stack(8), Saved::Kept)]
        );
    }

    #[test]
    fn what_can_not_be_followed_gives_no_way() {
        let codes: [&[u8]; 6] = [
            // mov rsp, rax; ret
            &[0x48, 0x89, 0xc4, 0xc3],
            // and rsp, -16; ret
            &[0x48, 0x83, 0xe4, 0xf0, 0xc3],
            // jmp rax
            &[0xff, 0xe0],
            // ud2; ret
            &[0x0f, 0x0b, 0xc3],
            // pop rbp; leave; ret
            &[0x5d, 0xc9, 0xc3],
            // An instruction that is cut off.
            &[0x48, 0x83],
        ];
        for code in codes {
            assert_eq!(out(code), [], "{code:x?}");
        }
    }

    #[test]
    fn no_bytes_are_followed_without_end() {
        let mut seed = 1_u64;
        for _ in 0..2000 {
            let code: Vec<u8> = (0..64)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (seed >> 56) as u8
                })
                .collect();
            assert!(out(&code).len() <= MAX_WAYS);
        }
    }

    #[test]
    fn only_behind_a_call_is_a_return_address() {
        let behind = |code: &[u8]| {
            let from =
                |address: u64| code.get(usize::try_from(address.checked_sub(START)?).ok()?..);
            follows_a_call(from, START + code.len() as u64)
        };
        // call +0; call rax; call r9; call [rip + 0]; call [rax + rcx * 8 + 16]
        assert!(behind(&[0xe8, 0, 0, 0, 0]));
        assert!(behind(&[0xff, 0xd0]));
        assert!(behind(&[0x41, 0xff, 0xd1]));
        assert!(behind(&[0xff, 0x15, 0, 0, 0, 0]));
        assert!(behind(&[0xff, 0x54, 0xc8, 0x10]));
        // jmp +0; nops
        assert!(!behind(&[0xe9, 0, 0, 0, 0]));
        assert!(!behind(&[0x90; 8]));
    }
}
