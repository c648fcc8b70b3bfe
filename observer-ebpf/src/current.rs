//! The task that the running thread executes, read from the thread's own memory.

use aya_ebpf::helpers::bpf_probe_read_user;
use observer_common::config::{
    NO_OFFSET, READER_GO, READER_TOKIO, TOKIO_HAS_BUDGET, TOKIO_HAS_ENTERED, TOKIO_ID_TAGGED,
    TargetConfig,
};
use observer_common::counters::Counter;
use observer_common::task::{
    TASK_FOREIGN, TASK_GOROUTINE, TASK_HAS_BUDGET, TASK_HAS_ENTERED, TASK_IDLE, TASK_IN_POLL,
    TASK_MISMATCH, TASK_THREAD, TASK_TOKIO, TASK_UNREADABLE, Task,
};

use crate::emit::count;
use crate::kernel;

#[inline(always)]
fn user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// The running task of the running thread.
#[inline(always)]
pub fn task(target: &TargetConfig, tid: u32) -> Task {
    let reader = target.reader;
    if reader != READER_GO && reader != READER_TOKIO {
        return Task {
            id: tid as u64,
            kind: TASK_THREAD,
            ..Task::default()
        };
    }
    let Some(fsbase) = kernel::current_fsbase() else {
        return unreadable(reader);
    };
    if reader == READER_GO {
        goroutine(target, tid, fsbase)
    } else {
        tokio(target, tid, fsbase)
    }
}

#[inline(always)]
fn unreadable(reader: u32) -> Task {
    count(Counter::TaskUnreadable);
    let kind = if reader == READER_GO {
        TASK_GOROUTINE
    } else {
        TASK_TOKIO
    };
    Task {
        kind,
        flags: TASK_UNREADABLE,
        ..Task::default()
    }
}

/// `fsbase + tls -> g -> g.m -> m.curg -> goid`. Never `g` itself: on the system stack TLS holds g0,
/// while `m.curg` stays the goroutine (Go `src/runtime/proc.go`, systemstack and asmcgocall).
#[inline(always)]
fn goroutine(target: &TargetConfig, tid: u32, fsbase: u64) -> Task {
    let Some(g) = user::<u64>(fsbase.wrapping_add(target.go_tls as u64)) else {
        return unreadable(READER_GO);
    };
    if g == 0 {
        return Task {
            id: tid as u64,
            kind: TASK_THREAD,
            flags: TASK_FOREIGN,
            ..Task::default()
        };
    }
    let Some(m) = user::<u64>(g + target.go_g_m as u64) else {
        return unreadable(READER_GO);
    };
    if m == 0 {
        return Task {
            id: tid as u64,
            kind: TASK_THREAD,
            flags: TASK_FOREIGN,
            ..Task::default()
        };
    }
    if target.go_m_procid != NO_OFFSET {
        match user::<u64>(m + target.go_m_procid as u64) {
            Some(procid) if procid == tid as u64 => {}
            // A thread that is being started has no procid yet.
            Some(0) => {}
            Some(_) => {
                count(Counter::TaskMismatch);
                return Task {
                    kind: TASK_GOROUTINE,
                    flags: TASK_MISMATCH,
                    ..Task::default()
                };
            }
            None => return unreadable(READER_GO),
        }
    }
    let Some(curg) = user::<u64>(m + target.go_m_curg as u64) else {
        return unreadable(READER_GO);
    };
    if curg == 0 {
        return Task {
            id: 0,
            kind: TASK_GOROUTINE,
            flags: TASK_IDLE,
            ..Task::default()
        };
    }
    let Some(goid) = user::<u64>(curg + target.go_g_goid as u64) else {
        return unreadable(READER_GO);
    };
    let status = user::<u8>(curg + target.go_g_status as u64).unwrap_or(0);
    let reason = user::<u8>(curg + target.go_g_waitreason as u64).unwrap_or(0);
    Task {
        id: goid,
        kind: TASK_GOROUTINE,
        flags: 0,
        detail: status,
        reason,
        pad: 0,
    }
}

/// The thread-local CONTEXT of tokio: task id, EnterRuntime byte and cooperative budget.
#[inline(always)]
fn tokio(target: &TargetConfig, tid: u32, fsbase: u64) -> Task {
    let at = fsbase.wrapping_add(target.tokio_id as u64);
    let Some(first) = user::<u64>(at) else {
        return unreadable(READER_TOKIO);
    };
    let id = if target.flags & TOKIO_ID_TAGGED == 0 {
        first
    } else if first == 0 {
        0
    } else {
        match user::<u64>(at + 8) {
            Some(id) => id,
            None => return unreadable(READER_TOKIO),
        }
    };
    let mut flags = 0;
    let mut entered = 0;
    if target.flags & TOKIO_HAS_ENTERED != 0
        && let Some(byte) = user::<u8>(fsbase.wrapping_add(target.tokio_entered as u64))
    {
        entered = byte;
        flags |= TASK_HAS_ENTERED;
    }
    if target.flags & TOKIO_HAS_BUDGET != 0
        && let Some(tag) = user::<u8>(fsbase.wrapping_add(target.tokio_budget as u64))
    {
        flags |= TASK_HAS_BUDGET;
        if tag != 0 {
            flags |= TASK_IN_POLL;
        }
    }
    if id == 0 {
        // Not a task: a foreign thread, or the root future of block_on.
        return Task {
            id: tid as u64,
            kind: TASK_THREAD,
            flags: flags | TASK_FOREIGN,
            detail: entered,
            reason: 0,
            pad: 0,
        };
    }
    Task {
        id,
        kind: TASK_TOKIO,
        flags,
        detail: entered,
        reason: 0,
        pad: 0,
    }
}
