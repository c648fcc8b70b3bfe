//! What the kernel side is told: facts of the kernel before load, targets and limits while running.

use observer_common::config::{
    KernelConfig, NO_OFFSET, READER_GO, READER_THREAD, READER_TOKIO, TARGET_COPY_STACKS,
    TARGET_NO_FRAME_POINTERS, TOKIO_HAS_BUDGET, TOKIO_HAS_ENTERED, TOKIO_ID_TAGGED, TargetConfig,
};

use crate::model::Known;
use crate::model::syscall::{SYSCALLS, Subject};
use crate::runtimes::{TaskReader, TokioIdForm};
use crate::sys::kernel::{KernelFacts, KernelVersion, PreemptCount};
use crate::sys::tracefs::TracepointFormats;

/// Since when `bpf_task_pt_regs` exists.
const TASK_PT_REGS: (u32, u32) = (5, 15);

fn offset(known: &Known<u32>) -> u32 {
    known.known().copied().unwrap_or(NO_OFFSET)
}

/// The read-only facts that are patched into the object before it is loaded.
pub fn kernel_config(facts: &KernelFacts, formats: &TracepointFormats) -> KernelConfig {
    let since = |(major, minor)| {
        facts
            .version
            .known()
            .is_some_and(|v: &KernelVersion| (v.major, v.minor) >= (major, minor))
    };
    let mut config = KernelConfig {
        task_pid: offset(&facts.task.pid),
        task_tgid: offset(&facts.task.tgid),
        task_state: offset(&facts.task.state),
        task_fsbase: offset(&facts.task.fsbase),
        task_on_cpu: offset(&facts.task.on_cpu),
        has_task_pt_regs: u32::from(since(TASK_PT_REGS)),
        switch_has_state: u32::from(
            facts
                .sched_switch_arguments
                .known()
                .is_some_and(|n| *n >= 4),
        ),
        tp_switch_next_pid: formats.switch_next_pid.unwrap_or(NO_OFFSET),
        tp_switch_prev_state: formats.switch_prev_state.unwrap_or(NO_OFFSET),
        tp_wakeup_pid: formats.wakeup_pid.unwrap_or(NO_OFFSET),
        task_cfs_rq: NO_OFFSET,
        cfs_rq_rq: NO_OFFSET,
        preempt_delta: 0,
        per_cpu_offset: 0,
        preempt_count: 0,
    };
    match facts.preempt_count.known() {
        Some(PreemptCount::ThroughRunQueue {
            task_cfs_rq,
            cfs_rq_rq,
            delta,
        }) => {
            config.task_cfs_rq = *task_cfs_rq;
            config.cfs_rq_rq = *cfs_rq_rq;
            config.preempt_delta = *delta;
        }
        Some(PreemptCount::ThroughPerCpuOffset {
            per_cpu_offset_addr,
            preempt_count_percpu_addr,
        }) => {
            config.per_cpu_offset = *per_cpu_offset_addr;
            config.preempt_count = *preempt_count_percpu_addr;
        }
        None => {}
    }
    config
}

/// What the kernel side is told about one target.
///
/// `same_pid_namespace`: Go's `m.procid` is the thread id in the target's own pid namespace, so it
/// can only be compared there.
pub fn target_config(
    reader: Option<&TaskReader>,
    copy_stacks: bool,
    no_frame_pointers: bool,
    same_pid_namespace: bool,
) -> TargetConfig {
    let mut config = TargetConfig::default();
    match reader {
        None => config.reader = READER_THREAD,
        Some(TaskReader::Go(go)) => {
            config.reader = READER_GO;
            config.go_tls = go.tls_offset;
            config.go_g_m = go.g_m;
            config.go_g_goid = go.g_goid;
            config.go_g_status = go.g_status;
            config.go_g_waitreason = go.g_waitreason;
            config.go_m_curg = go.m_curg;
            config.go_m_procid = if same_pid_namespace {
                go.m_procid
            } else {
                NO_OFFSET
            };
        }
        Some(TaskReader::Tokio(tokio)) => {
            config.reader = READER_TOKIO;
            config.tokio_id = tokio.id_offset;
            if tokio.id_form == TokioIdForm::Tagged {
                config.flags |= TOKIO_ID_TAGGED;
            }
            if let Some(entered) = tokio.entered_offset {
                config.tokio_entered = entered;
                config.flags |= TOKIO_HAS_ENTERED;
            }
            if let Some(budget) = tokio.budget_offset {
                config.tokio_budget = budget;
                config.flags |= TOKIO_HAS_BUDGET;
            }
        }
    }
    if copy_stacks {
        config.flags |= TARGET_COPY_STACKS;
    }
    if no_frame_pointers {
        config.flags |= TARGET_NO_FRAME_POINTERS;
    }
    config
}

/// Numbers of the syscalls whose first argument says what the wait is for.
pub fn subject_syscalls() -> impl Iterator<Item = u32> {
    SYSCALLS
        .iter()
        .filter(|row| matches!(row.subject, Subject::Fd(0) | Subject::Futex(0)))
        .map(|row| row.nr)
}
