//! Reading a stopped thread's task and stack from outside: what the kernel side does for the
//! running thread (observer-ebpf `current.rs`), for threads that were blocked before observation.

use super::tokio::locals_of;
use super::{TaskReader, TokioIdForm, TokioReader, TokioReaders};
use crate::model::Tid;
use crate::model::event::{Identity, WaitClass};
use crate::model::memory::{Memory, ReadError};
use crate::model::task::{Legality, TaskKind, TaskRef};

/// The tokio EnterRuntime byte of a thread that is not inside a runtime.
pub const NOT_ENTERED: u8 = 2;
/// x86-64 numbers of the syscalls in which tokio parks workers.
const PARKING: [u32; 3] = [202, 232, 281];

/// Who is on a thread that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRead {
    /// The task.
    pub identity: Identity,
    /// Whether blocking is allowed there.
    pub legality: Legality,
    /// Go: `g.atomicstatus`.
    pub go_status: Option<u8>,
    /// Go: address of the goroutine.
    pub at: Option<u64>,
}

/// Reads the task of a thread with the given TLS base.
pub fn task_of(
    reader: Option<&TaskReader>,
    memory: &dyn Memory,
    fsbase: u64,
    tid: Tid,
    class: WaitClass,
) -> TaskRead {
    let thread = TaskRead {
        identity: Identity::Task(TaskRef {
            kind: TaskKind::Thread,
            id: u64::from(tid.0),
        }),
        legality: Legality::NoRule,
        go_status: None,
        at: None,
    };
    match reader {
        None => thread,
        Some(TaskReader::Go(go)) => {
            let at = |base: u64, offset: u32| memory.read_u64(base.wrapping_add(u64::from(offset)));
            let read = || {
                let g = memory.read_u64(fsbase.wrapping_add_signed(go.tls_offset))?;
                if g == 0 {
                    return Ok(thread);
                }
                let m = at(g, go.g_m)?;
                if m == 0 {
                    return Ok(thread);
                }
                let curg = at(m, go.m_curg)?;
                if curg == 0 {
                    return Ok(TaskRead {
                        identity: Identity::Idle,
                        ..thread
                    });
                }
                let id = at(curg, go.g_goid)?;
                let status = memory.read_u32(curg + u64::from(go.g_status))?;
                Ok::<_, crate::model::memory::ReadError>(TaskRead {
                    identity: Identity::Task(TaskRef {
                        kind: TaskKind::Goroutine,
                        id,
                    }),
                    legality: Legality::NoRule,
                    go_status: Some(status as u8),
                    at: Some(curg),
                })
            };
            read().unwrap_or(TaskRead {
                identity: Identity::Unreadable,
                ..thread
            })
        }
        Some(TaskReader::Tokio(readers)) => tokio_task(readers, memory, fsbase, thread, class),
    }
}

/// What one copy of tokio says of a thread.
#[derive(Debug, Clone, Copy)]
struct InCopy {
    copy: u8,
    id: u64,
    entered: Option<u8>,
    in_poll: Option<bool>,
}

/// A thread belongs to the copy in which it has a task; else to one whose runtime it is in.
fn tokio_task(
    readers: &TokioReaders,
    memory: &dyn Memory,
    fsbase: u64,
    thread: TaskRead,
    class: WaitClass,
) -> TaskRead {
    let mut chosen: Option<InCopy> = None;
    for (copy, reader) in readers.iter() {
        let Ok(found) = in_copy(copy, reader, memory, fsbase) else {
            return TaskRead {
                identity: Identity::Unreadable,
                ..thread
            };
        };
        let inside = |c: &InCopy| c.entered.is_some_and(|e| e != NOT_ENTERED);
        chosen = match (chosen, found) {
            (Some(known), Some(new)) if known.id == 0 && (new.id != 0 || inside(&new)) => Some(new),
            (None, new) => new,
            (known, _) => known,
        };
    }
    let Some(InCopy {
        copy,
        id,
        entered,
        in_poll,
    }) = chosen
    else {
        return thread;
    };
    let inside = entered.is_some_and(|e| e != NOT_ENTERED);
    let parks = matches!(class, WaitClass::Syscall(nr) if PARKING.contains(&nr));
    if inside && parks && in_poll == Some(false) {
        return TaskRead {
            identity: Identity::Idle,
            ..thread
        };
    }
    let legality = match (entered, id) {
        (None | Some(NOT_ENTERED), 0) => Legality::NoRule,
        (None, _) => Legality::Unknown,
        (Some(NOT_ENTERED), _) => Legality::MayBlock,
        (Some(_), 0) if in_poll == Some(false) => Legality::Unknown,
        (Some(_), _) => Legality::InPoll,
    };
    let identity = if id == 0 {
        thread.identity
    } else {
        Identity::Task(TaskRef {
            kind: TaskKind::tokio(copy),
            id,
        })
    };
    TaskRead {
        identity,
        legality,
        ..thread
    }
}

/// Reads one copy's thread-locals; `None` when the thread never used them.
fn in_copy(
    copy: u8,
    reader: &TokioReader,
    memory: &dyn Memory,
    fsbase: u64,
) -> Result<Option<InCopy>, ReadError> {
    let Some(base) = locals_of(reader.locals, fsbase, memory)? else {
        return Ok(None);
    };
    let byte = |offset: i64| {
        let mut byte = [0];
        memory
            .read(base.wrapping_add_signed(offset), &mut byte)
            .ok()
            .map(|()| byte[0])
    };
    let at = base.wrapping_add_signed(reader.id_offset);
    let first = memory.read_u64(at)?;
    let id = match reader.id_form {
        TokioIdForm::NonZero => first,
        TokioIdForm::Tagged if first as u32 == 0 => 0,
        TokioIdForm::Tagged => memory.read_u64(at.wrapping_add(8))?,
    };
    Ok(Some(InCopy {
        copy,
        id,
        entered: reader.entered_offset.and_then(byte),
        in_poll: reader.budget_offset.and_then(byte).map(|tag| tag != 0),
    }))
}

/// Walks a stack by frame pointers: the instruction pointer first, then return addresses. Ends at
/// the first frame that is not above the last one or can not be read.
pub fn walk_frame_pointers(memory: &dyn Memory, ip: u64, bp: u64, limit: usize) -> Vec<u64> {
    let mut addresses = vec![ip];
    let mut frame = bp;
    while addresses.len() < limit && frame != 0 && frame.is_multiple_of(8) {
        let mut words = [0_u8; 16];
        if memory.read(frame, &mut words).is_err() {
            break;
        }
        let (next, ret) = words.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let (next, ret) = (word(next), word(ret));
        if ret == 0 {
            break;
        }
        addresses.push(ret);
        if next <= frame {
            break;
        }
        frame = next;
    }
    addresses
}
