//! What the kernel side is told before it is loaded: facts of this kernel.

use observer_common::config::{KernelConfig, NO_OFFSET};
use observer_common::events::syscall::{
    ROLE_ASKS, ROLE_CLOSES, ROLE_CONNECTS, ROLE_PATH_FIRST, ROLE_PATH_SECOND, ROLE_READS,
    ROLE_SUBJECT, ROLE_WRITES,
};

use super::spec::{Tier, Tiers};
use crate::model::Known;
use crate::model::syscall::{self, SYSCALLS, Subject};
use crate::sys::kernel::{KernelFacts, KernelVersion, PreemptCount};
use crate::sys::tracefs::TracepointFormats;

/// Since when `bpf_task_pt_regs` exists.
const TASK_PT_REGS: (u32, u32) = (5, 15);

fn offset(known: &Known<u32>) -> u32 {
    known.known().copied().unwrap_or(NO_OFFSET)
}

/// The read-only facts that are patched into the object before it is loaded.
pub fn kernel_config(
    facts: &KernelFacts,
    formats: &TracepointFormats,
    tiers: Tiers,
) -> KernelConfig {
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
        traces_syscalls: u32::from(tiers.has(Tier::Syscalls)),
        pad: 0,
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

/// getsockopt, which asks how a connection went (Linux `arch/x86/entry/syscalls/syscall_64.tbl`); it
/// never blocks, so it is not in the table of syscalls that do.
const NR_GETSOCKOPT: u32 = 55;

/// What each syscall does with its first arguments, as the kernel side wants it: number and `ROLE_*`.
pub fn syscall_roles() -> impl Iterator<Item = (u32, u8)> {
    let of = |row: &syscall::Syscall| {
        let subject = match row.subject {
            Subject::Fd(0) | Subject::Futex(0) | Subject::Caller => ROLE_SUBJECT,
            Subject::Path(0) => ROLE_PATH_FIRST,
            Subject::Path(1) => ROLE_PATH_SECOND,
            _ => 0,
        };
        let does = match row.name {
            "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" | "accept" | "accept4" => {
                ROLE_READS
            }
            "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => ROLE_WRITES,
            "connect" => ROLE_CONNECTS,
            "close" => ROLE_CLOSES,
            _ => 0,
        };
        (row.nr, subject | does)
    };
    SYSCALLS
        .iter()
        .map(of)
        .chain([(NR_GETSOCKOPT, ROLE_ASKS)])
        .filter(|(_, role)| *role != 0)
}
