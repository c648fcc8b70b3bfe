//! What the kernel side is told before it is loaded: facts of this kernel.

use observer_common::config::{KernelConfig, NO_OFFSET};

use crate::model::Known;
use crate::model::syscall::{SYSCALLS, Subject};
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
        has_task_pt_regs: u32::from(since(TASK_PT_REGS) && facts.btf.known().is_some()),
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

/// Numbers of the syscalls whose first argument says what the wait is for.
pub fn subject_syscalls() -> impl Iterator<Item = u32> {
    SYSCALLS
        .iter()
        .filter(|row| matches!(row.subject, Subject::Fd(0) | Subject::Futex(0)))
        .map(|row| row.nr)
}
