//! Bytes from the kernel side to domain events: pure, distrustful, without allocation.

use observer_common::Wire;
use observer_common::events::hold::HoldRecord;
use observer_common::events::process::ProcessRecord;
use observer_common::events::user_stack::{
    STACK_BYTES, TASK_STACK_BYTES, UserStackHead, UserStackRecord,
};
use observer_common::events::wait::WaitRecord;
use observer_common::header::Header;
use observer_common::kind::Kind;

use crate::model::event::{Event, LeftStack, UserStackEvent};
use crate::model::{Mono, Pid, Tid};

pub mod cpu;
pub mod goroutine;
pub mod poll;
pub mod seed;
pub mod syscall;
pub mod wait;

/// Why a record was not understood. Counted, never fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind demands.
    #[error("record of {got} bytes is shorter than {want}")]
    Short {
        /// Bytes needed.
        want: usize,
        /// Bytes there.
        got: usize,
    },
    /// A kind this version does not know.
    #[error("record of unknown kind {0}")]
    UnknownKind(u16),
    /// A length inside the record points past its end.
    #[error("record claims {claimed} bytes of stack")]
    BadLength {
        /// What it claims.
        claimed: u64,
    },
}

/// Reads a plain-integer struct from the front of `bytes`.
fn read<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() < size_of::<T>() {
        return Err(DecodeError::Short {
            want: size_of::<T>(),
            got: bytes.len(),
        });
    }
    // SAFETY: there are enough bytes, any bytes are a valid `Wire`, and the read is unaligned.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The copied stack in a record that begins with `head`.
fn stack_bytes<'a>(head: &UserStackHead, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let bad = DecodeError::BadLength { claimed: head.len };
    let len = usize::try_from(head.len).unwrap_or(usize::MAX);
    if len > STACK_BYTES || bytes.len() < size_of::<UserStackRecord>() {
        return Err(bad);
    }
    let rest = bytes.get(size_of::<UserStackHead>()..).unwrap_or_default();
    rest.get(..len).ok_or(bad)
}

/// Decodes one record.
///
/// # Errors
/// When it is too short, of an unknown kind, or inconsistent.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let header: Header = read(bytes)?;
    let kind = Kind::from_raw(header.kind).ok_or(DecodeError::UnknownKind(header.kind))?;
    let pid = Pid(header.tgid);
    match kind {
        Kind::Wait => Ok(Event::Wait(wait::event(&read::<WaitRecord>(bytes)?))),
        Kind::UserStack => {
            let head: UserStackHead = read(bytes)?;
            let copied = stack_bytes(&head, bytes)?;
            let rest = bytes.get(size_of::<UserStackHead>()..).unwrap_or_default();
            let task_len = head.task_len as usize;
            if task_len > TASK_STACK_BYTES {
                return Err(DecodeError::BadLength {
                    claimed: head.task_len.into(),
                });
            }
            let task_at = STACK_BYTES - TASK_STACK_BYTES;
            let task = (head.task_sp != 0).then(|| LeftStack {
                sp: head.task_sp,
                pc: head.task_pc,
                bytes: rest.get(task_at..task_at + task_len).unwrap_or_default(),
            });
            Ok(Event::UserStack(UserStackEvent {
                pid,
                tid: Tid(header.tid),
                start: Mono(header.ktime),
                ip: head.ip,
                sp: head.sp,
                bp: head.bp,
                class: wait::class(head.class as u8, head.syscall),
                subject: head.subject,
                user_stack: wait::stack(head.user_stack),
                kernel_stack: wait::stack(head.kernel_stack),
                identity: wait::identity(&head.task),
                bytes: copied,
                task,
                weight: head.weight.into(),
            }))
        }
        Kind::CpuSample => Ok(Event::CpuSample(cpu::sample(&read(bytes)?, &[]))),
        Kind::CpuStack => {
            let head: UserStackHead = read(bytes)?;
            let copied = stack_bytes(&head, bytes)?;
            Ok(Event::CpuSample(cpu::sample(&head, copied)))
        }
        Kind::Hold => {
            let record: HoldRecord = read(bytes)?;
            let after = Some(Mono(header.ktime));
            Ok(Event::Hold(cpu::hold(
                (pid, Tid(header.tid)),
                &record.hold,
                after,
            )))
        }
        Kind::Poll => Ok(Event::Poll(poll::poll(&read(bytes)?))),
        Kind::Delay => Ok(Event::Delay(poll::delay(&read(bytes)?))),
        Kind::Exec => Ok(Event::Exec { pid }),
        Kind::Exit => Ok(Event::Exit { pid }),
        Kind::Fork => {
            let record: ProcessRecord = read(bytes)?;
            Ok(Event::Fork {
                pid,
                child: Pid(record.child),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_unknown_and_inconsistent_records_are_errors() {
        assert_eq!(
            decode(&[]).unwrap_err(),
            DecodeError::Short { want: 24, got: 0 }
        );
        let mut unknown = [0_u8; 64];
        unknown[0] = 0xff;
        assert_eq!(
            decode(&unknown).unwrap_err(),
            DecodeError::UnknownKind(0xff)
        );
        let mut short = [0_u8; 100];
        short[0] = Kind::Wait as u8;
        assert!(matches!(decode(&short), Err(DecodeError::Short { .. })));
        let mut stack = vec![0_u8; size_of::<UserStackRecord>()];
        stack[0] = Kind::UserStack as u8;
        stack[48..56].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(decode(&stack), Err(DecodeError::BadLength { .. })));
        stack[48..56].fill(0);
        assert!(decode(&stack).is_ok());
        stack[112..120].copy_from_slice(&(TASK_STACK_BYTES as u64 + 1).to_le_bytes());
        assert!(matches!(decode(&stack), Err(DecodeError::BadLength { .. })));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // A deterministic stand-in for the fuzz target: every length, all kinds, wild values.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for length in 0..600_usize {
            for kind in [1_u8, 2, 3, 4, 5, 50, 51, 20, 21, 22, 99] {
                let mut bytes = vec![0_u8; length];
                for byte in &mut bytes {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    *byte = (state >> 33) as u8;
                }
                if length > 2 {
                    bytes[0] = kind;
                    bytes[1] = 0;
                }
                let _understood = decode(&bytes).is_ok();
            }
        }
    }
}
