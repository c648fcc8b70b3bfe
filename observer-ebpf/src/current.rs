//! The task that the running thread executes, read from the thread's own memory.

use aya_ebpf::helpers::bpf_probe_read_user;
use observer_common::config::{
    MAX_TOKIO_COPIES, NO_OFFSET, READER_GO, READER_TOKIO, TARGET_COPY_STACKS, TARGET_TOKIO_COPY,
    TOKIO_HAS_BUDGET, TOKIO_HAS_ENTERED, TOKIO_ID_TAGGED, TargetConfig, TokioCopy,
};
use observer_common::counters::Counter;
use observer_common::task::{
    TASK_FOREIGN, TASK_GOROUTINE, TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL,
    TASK_MISMATCH, TASK_THREAD, TASK_TOKIO, TASK_UNREADABLE, Task,
};

use crate::emit::count;
use crate::kernel;

/// The tokio EnterRuntime byte of a thread that is not inside a runtime.
pub const NOT_ENTERED: u8 = 2;

#[inline(always)]
fn user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// The running task of the running thread.
#[inline(always)]
pub fn task(target: &TargetConfig, tid: u32) -> Task {
    let mut task = Task::default();
    read_task(target, tid, &mut task);
    task
}

/// Writes the running task of the running thread to `to`. Each reader is a function of its own: what
/// is not run is then not in the way of what is (a switch finds cold caches, as a rule), and the
/// verifier walks what follows once, not for each way to find a task.
#[inline(always)]
pub fn read_task(target: &TargetConfig, tid: u32, to: &mut Task) {
    match target.reader {
        READER_GO => read_goroutine(target, tid, to),
        READER_TOKIO => read_tokio(target, tid, to),
        _ => {
            *to = Task {
                id: tid as u64,
                kind: TASK_THREAD,
                ..Task::default()
            }
        }
    }
}

#[inline(always)]
fn unreadable(kind: u8) -> Task {
    count(Counter::TaskUnreadable);
    Task {
        kind,
        flags: TASK_UNREADABLE,
        ..Task::default()
    }
}

/// A thread that the runtime does not know.
#[inline(always)]
fn foreign(tid: u32) -> Task {
    Task {
        id: tid as u64,
        kind: TASK_THREAD,
        flags: TASK_FOREIGN,
        ..Task::default()
    }
}

#[inline(never)]
fn read_goroutine(target: &TargetConfig, tid: u32, to: &mut Task) {
    *to = match goroutine(target, tid) {
        Some(task) => task,
        None => unreadable(TASK_GOROUTINE),
    };
}

/// `fsbase + tls -> g -> g.m -> m.curg -> goid`. Never `g` itself: on the system stack TLS holds g0,
/// while `m.curg` stays the goroutine (Go `src/runtime/proc.go`, systemstack and asmcgocall). `None`:
/// not readable.
#[inline(always)]
fn goroutine(target: &TargetConfig, tid: u32) -> Option<Task> {
    let fsbase = kernel::current_fsbase()?;
    let g = user::<u64>(fsbase.wrapping_add(target.go_tls as u64))?;
    if g == 0 {
        return Some(foreign(tid));
    }
    let m = user::<u64>(g.wrapping_add(target.go_g_m as u64))?;
    if m == 0 {
        return Some(foreign(tid));
    }
    if target.go_m_procid != NO_OFFSET {
        let procid = user::<u64>(m.wrapping_add(target.go_m_procid as u64))?;
        // A thread that is being started has none yet.
        if procid != tid as u64 && procid != 0 {
            count(Counter::TaskMismatch);
            return Some(Task {
                kind: TASK_GOROUTINE,
                flags: TASK_MISMATCH,
                ..Task::default()
            });
        }
    }
    let curg = user::<u64>(m.wrapping_add(target.go_m_curg as u64))?;
    if curg == 0 {
        return Some(Task {
            kind: TASK_GOROUTINE,
            flags: TASK_IDLE,
            ..Task::default()
        });
    }
    Some(Task {
        id: user::<u64>(curg.wrapping_add(target.go_g_goid as u64))?,
        kind: TASK_GOROUTINE,
        flags: 0,
        detail: user::<u8>(curg.wrapping_add(target.go_g_status as u64)).unwrap_or(0),
        reason: user::<u8>(curg.wrapping_add(target.go_g_waitreason as u64)).unwrap_or(0),
        pad: 0,
    })
}

/// How far the stack of the running thread can reach from `sp` up, in bytes: a thread's stack ends
/// where its thread-locals begin. The main thread's has no such end.
#[inline(always)]
pub fn stack_room(target: &TargetConfig, sp: u64) -> u64 {
    match kernel::current_fsbase() {
        Some(fsbase) => fsbase
            .wrapping_sub(target.thread_locals as u64)
            .wrapping_sub(sp),
        None => u64::MAX,
    }
}

/// Whether an address is in the target's Go code.
#[inline(always)]
pub fn in_go_code(target: &TargetConfig, ip: u64) -> bool {
    ip >= target.go_text && ip < target.go_text_end
}

/// The goroutine that the running thread executes, when its program calls C: C has a stack of its
/// own, and the goroutine's was left in `runtime.asmcgocall`. Else 0.
#[inline(always)]
pub fn goroutine_in_c(target: &TargetConfig) -> u64 {
    if target.reader != READER_GO || target.flags & TARGET_COPY_STACKS == 0 {
        return 0;
    }
    let curg = || {
        let fsbase = kernel::fsbase_of(kernel::current())?;
        let g = user::<u64>(fsbase.wrapping_add(target.go_tls as u64))?;
        let m = user::<u64>(g.wrapping_add(target.go_g_m as u64))?;
        user::<u64>(m.wrapping_add(target.go_m_curg as u64))
    };
    curg().unwrap_or(0)
}

/// Where a goroutine left its stack for a system or C call: stack pointer and return address.
#[inline(always)]
pub fn left_stack(target: &TargetConfig, goroutine: u64) -> Option<(u64, u64)> {
    if goroutine == 0 || target.go_g_syscallsp == NO_OFFSET {
        return None;
    }
    let at = goroutine.wrapping_add(target.go_g_syscallsp as u64);
    let sp = user::<u64>(at)?;
    let pc = user::<u64>(at.wrapping_add(8))?;
    if sp == 0 || pc == 0 {
        return None;
    }
    Some((sp, pc))
}

/// What the thread-local CONTEXT of one copy of tokio says.
#[derive(Clone, Copy)]
struct InCopy {
    copy: u8,
    flags: u8,
    entered: u8,
    /// Whether the thread has ever been in this copy.
    seen: bool,
    id: u64,
}

impl InCopy {
    /// Whether it tells more than `other`: a task, or a runtime that the thread is in.
    #[inline(always)]
    fn is_better_than(&self, other: &Self) -> bool {
        other.id == 0
            && (self.id != 0 || (self.flags & TASK_HAS_ENTERED != 0 && self.entered != NOT_ENTERED))
    }
}

/// Where the offsets of a copy count from. `Some(None)`: the thread has never used its
/// thread-locals. glibc: the second word at fsbase is the vector of blocks, 16 bytes each; the entry
/// before the first holds their number (`sysdeps/x86_64/nptl/tls.h`, `elf/dl-tls.c`).
#[inline(always)]
fn locals_of(copy: &TokioCopy, fsbase: u64) -> Option<Option<u64>> {
    if copy.module == 0 {
        return Some(Some(fsbase));
    }
    let vector = user::<u64>(fsbase.wrapping_add(8))?;
    let length = user::<u64>(vector.wrapping_sub(16))?;
    if copy.module as u64 > length {
        return Some(None);
    }
    let block = user::<u64>(vector.wrapping_add(copy.module as u64 * 16))?;
    Some((block != 0 && block != u64::MAX).then_some(block))
}

/// Reads one copy into `found`, which is empty but for the copy's number. False: not readable.
#[inline(never)]
fn in_copy(copy: &TokioCopy, fsbase: u64, found: &mut InCopy) -> bool {
    read_copy(copy, fsbase, found).is_some()
}

#[inline(always)]
fn read_copy(copy: &TokioCopy, fsbase: u64, found: &mut InCopy) -> Option<()> {
    let Some(base) = locals_of(copy, fsbase)? else {
        return Some(());
    };
    found.seen = true;
    let at = base.wrapping_add(copy.id as u64);
    let first = user::<u64>(at)?;
    found.id = if copy.flags & TOKIO_ID_TAGGED == 0 {
        first
    } else if first as u32 == 0 {
        // Of the tag only the low half is sure to be written.
        0
    } else {
        user::<u64>(at.wrapping_add(8))?
    };
    const BOTH: u32 = TOKIO_HAS_ENTERED | TOKIO_HAS_BUDGET;
    let word_at = copy.entered & !7;
    if copy.flags & BOTH == BOTH && copy.budget & !7 == word_at {
        // As a rule they lie in one word, and each read is a call.
        if let Some(word) = user::<u64>(base.wrapping_add(word_at as u64)) {
            let byte = |offset: i64| (word >> ((offset as u64 & 7) * 8)) as u8;
            found.entered = byte(copy.entered);
            found.flags |= TASK_HAS_ENTERED | TASK_HAS_BUDGET;
            if byte(copy.budget) != 0 {
                found.flags |= TASK_IN_POLL;
            }
        }
        return Some(());
    }
    if copy.flags & TOKIO_HAS_ENTERED != 0
        && let Some(byte) = user::<u8>(base.wrapping_add(copy.entered as u64))
    {
        found.entered = byte;
        found.flags |= TASK_HAS_ENTERED;
    }
    if copy.flags & TOKIO_HAS_BUDGET != 0
        && let Some(tag) = user::<u8>(base.wrapping_add(copy.budget as u64))
    {
        found.flags |= TASK_HAS_BUDGET;
        if tag != 0 {
            found.flags |= TASK_IN_POLL;
        }
    }
    Some(())
}

#[inline(never)]
fn read_tokio(target: &TargetConfig, tid: u32, to: &mut Task) {
    *to = match tokio(target, tid) {
        Some(task) => task,
        None => unreadable(TASK_TOKIO),
    };
}

/// The task id, EnterRuntime byte and cooperative budget of the copy of tokio that the thread is in.
/// `None`: not readable.
#[inline(always)]
fn tokio(target: &TargetConfig, tid: u32) -> Option<Task> {
    let fsbase = kernel::current_fsbase()?;
    let mut chosen = InCopy {
        copy: 0,
        flags: 0,
        entered: NOT_ENTERED,
        seen: false,
        id: 0,
    };
    for number in 0..MAX_TOKIO_COPIES {
        if target.flags & TARGET_TOKIO_COPY << number == 0 {
            continue;
        }
        let mut found = InCopy {
            copy: number as u8,
            flags: 0,
            entered: 0,
            seen: false,
            id: 0,
        };
        if !in_copy(&target.tokio[number], fsbase, &mut found) {
            return None;
        }
        if found.seen && (!chosen.seen || found.is_better_than(&chosen)) {
            chosen = found;
        }
    }
    if chosen.id == 0 {
        // Not a task: a foreign thread, or the root future of block_on.
        return Some(Task {
            flags: chosen.flags | TASK_FOREIGN,
            detail: chosen.entered,
            ..foreign(tid)
        });
    }
    Some(Task {
        id: chosen.id,
        kind: TASK_TOKIO,
        flags: chosen.flags,
        detail: chosen.entered,
        reason: chosen.copy,
        pad: 0,
    })
}
