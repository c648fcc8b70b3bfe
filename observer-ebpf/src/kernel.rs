//! Reading the kernel's own structures, by offsets that the user side took from BTF.

use aya_ebpf::bindings::{pt_regs, task_struct};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_task_pt_regs,
};
use observer_common::config::{KernelConfig, NO_OFFSET};
use observer_common::events::wait::{
    WAKER_INTERRUPT, WAKER_SOFTIRQ, WAKER_TASK, WAKER_UNKNOWN_CONTEXT,
};

/// Set by the user side before load; all offsets unknown otherwise.
#[unsafe(no_mangle)]
static KERNEL: KernelConfig = KernelConfig {
    task_pid: NO_OFFSET,
    task_tgid: NO_OFFSET,
    task_state: NO_OFFSET,
    task_fsbase: NO_OFFSET,
    task_on_cpu: NO_OFFSET,
    has_task_pt_regs: 0,
    switch_has_state: 0,
    tp_switch_next_pid: NO_OFFSET,
    tp_switch_prev_state: NO_OFFSET,
    tp_wakeup_pid: NO_OFFSET,
    task_cfs_rq: NO_OFFSET,
    cfs_rq_rq: NO_OFFSET,
    preempt_delta: 0,
    per_cpu_offset: 0,
    preempt_count: 0,
    traces_syscalls: 0,
    pad: 0,
};

/// Reads one field of the kernel facts. Volatile: the loader changes it after compilation.
macro_rules! fact {
    ($field:ident) => {
        // SAFETY: a field of a static that is only written before the program is loaded.
        unsafe { core::ptr::read_volatile(&raw const KERNEL.$field) }
    };
}

/// Whether the tier `syscalls` runs.
#[inline(always)]
pub fn traces_syscalls() -> bool {
    fact!(traces_syscalls) != 0
}

/// Whether sched_switch tells the previous task's state.
#[inline(always)]
pub fn switch_has_state() -> bool {
    fact!(switch_has_state) != 0
}

/// Offsets in the records of classic tracepoints.
#[inline(always)]
pub fn tp_switch_next_pid() -> usize {
    fact!(tp_switch_next_pid) as usize
}

/// See [`tp_switch_next_pid`].
#[inline(always)]
pub fn tp_switch_prev_state() -> usize {
    fact!(tp_switch_prev_state) as usize
}

/// See [`tp_switch_next_pid`].
#[inline(always)]
pub fn tp_wakeup_pid() -> usize {
    fact!(tp_wakeup_pid) as usize
}

/// A field of a task.
#[inline(always)]
fn task_field<T>(task: u64, offset: u32) -> Option<T> {
    if offset == NO_OFFSET || task == 0 {
        return None;
    }
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel((task + offset as u64) as *const T) }.ok()
}

/// The running task.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() }
}

/// Thread id of a task.
#[inline(always)]
pub fn tid_of(task: u64) -> Option<u32> {
    task_field(task, fact!(task_pid))
}

/// Process id of a task.
#[inline(always)]
pub fn tgid_of(task: u64) -> Option<u32> {
    task_field(task, fact!(task_tgid))
}

/// Thread id of a task that a BTF-typed program got as an argument: a plain load, which such
/// programs may do where the verifier knows the type; a fraction of the cost of a helper.
#[inline(always)]
pub fn typed_tid_of(task: u64) -> Option<u32> {
    typed_field(task, fact!(task_pid))
}

/// Process id of a task, likewise.
#[inline(always)]
pub fn typed_tgid_of(task: u64) -> Option<u32> {
    typed_field(task, fact!(task_tgid))
}

/// The offset is a constant to the verifier: it comes from read-only data that is frozen at load.
#[inline(always)]
fn typed_field(task: u64, offset: u32) -> Option<u32> {
    if offset == NO_OFFSET {
        return None;
    }
    // SAFETY: the verifier checks that `task` is a task and that a u32 lies at the offset; a fault
    // reads as 0.
    Some(unsafe { core::ptr::read_volatile((task as *const u8).add(offset as usize).cast()) })
}

/// Scheduler state of a task (0 = running or ready).
#[inline(always)]
pub fn state_of(task: u64) -> Option<u32> {
    task_field(task, fact!(task_state))
}

/// Whether a task is on a CPU.
#[inline(always)]
pub fn on_cpu(task: u64) -> Option<u32> {
    task_field(task, fact!(task_on_cpu))
}

/// TLS base of a task.
#[inline(always)]
pub fn fsbase_of(task: u64) -> Option<u64> {
    task_field(task, fact!(task_fsbase))
}

/// TLS base of the running task: a plain load where the kernel gives a typed task.
#[inline(always)]
pub fn current_fsbase() -> Option<u64> {
    let offset = fact!(task_fsbase);
    if fact!(has_task_pt_regs) == 0 || offset == NO_OFFSET {
        return fsbase_of(current());
    }
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task_btf() };
    // SAFETY: the verifier checks that the offset lies in a task; a fault reads as 0.
    Some(unsafe { core::ptr::read_volatile(task.cast::<u8>().add(offset as usize).cast()) })
}

/// The registers with which a task entered the kernel. The kernel gives them typed, so each is a
/// plain load.
#[derive(Clone, Copy)]
pub struct UserRegisters(*const pt_regs);

/// Reads one register.
macro_rules! register {
    ($self:ident, $name:ident) => {
        // SAFETY: a typed pointer from `bpf_task_pt_regs`, so the verifier checks the access; a fault
        // reads as 0.
        unsafe { core::ptr::read_volatile(&raw const (*$self.0).$name) }
    };
}

impl UserRegisters {
    /// Instruction pointer.
    #[inline(always)]
    pub fn ip(self) -> u64 {
        register!(self, rip)
    }

    /// Stack pointer.
    #[inline(always)]
    pub fn sp(self) -> u64 {
        register!(self, rsp)
    }

    /// Frame pointer.
    #[inline(always)]
    pub fn bp(self) -> u64 {
        register!(self, rbp)
    }

    /// The arguments of a syscall.
    #[inline(always)]
    pub fn arguments(self) -> [u64; 6] {
        [
            register!(self, rdi),
            register!(self, rsi),
            register!(self, rdx),
            register!(self, r10),
            register!(self, r8),
            register!(self, r9),
        ]
    }

    /// The first argument of a syscall.
    #[inline(always)]
    pub fn first_argument(self) -> u64 {
        register!(self, rdi)
    }

    /// The syscall that the task is in, told by its registers: entry code stores the number in
    /// `orig_rax` and -ENOSYS in `rax` (Linux `arch/x86/entry/entry_64.S`); exceptions and interrupts
    /// keep the user's `rax` and may put an error code into `orig_rax`, which would look like a
    /// syscall number.
    #[inline(always)]
    pub fn syscall(self) -> Option<i32> {
        const ENOSYS: i64 = -38;
        const RESTARTED: i64 = -516;
        let nr = register!(self, orig_rax) as i64;
        let rax = register!(self, rax) as i64;
        if (0..1024).contains(&nr) && (rax == ENOSYS || rax == RESTARTED) {
            Some(nr as i32)
        } else {
            None
        }
    }
}

/// The registers of a task. `None` before Linux 5.15.
#[inline(always)]
pub fn user_registers(task: *mut task_struct) -> Option<UserRegisters> {
    if fact!(has_task_pt_regs) == 0 {
        return None;
    }
    // SAFETY: `task` is a BTF pointer from a helper or an iterator's context.
    let regs = unsafe { bpf_task_pt_regs(task) } as *const pt_regs;
    (!regs.is_null()).then_some(UserRegisters(regs))
}

/// The running task's registers. `None` before Linux 5.15.
#[inline(always)]
pub fn current_registers() -> Option<UserRegisters> {
    if fact!(has_task_pt_regs) == 0 {
        return None;
    }
    // SAFETY: no arguments.
    user_registers(unsafe { bpf_get_current_task_btf() })
}

/// The preempt count of this CPU. Per-CPU variables keep their distance from each other, so the
/// running task's run queue, which is this CPU's, leads to it; else by the table of CPU offsets.
#[inline(always)]
fn preempt_count() -> Option<u32> {
    let through_run_queue = fact!(cfs_rq_rq);
    let at = if through_run_queue != NO_OFFSET {
        let cfs_rq: u64 = task_field(current(), fact!(task_cfs_rq))?;
        let rq: u64 = task_field(cfs_rq, through_run_queue)?;
        rq.wrapping_add(fact!(preempt_delta) as u64)
    } else {
        let table = fact!(per_cpu_offset);
        let variable = fact!(preempt_count);
        if table == 0 || variable == 0 {
            return None;
        }
        // SAFETY: no arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u64;
        // SAFETY: the helper checks the address.
        let base = unsafe { bpf_probe_read_kernel((table + cpu * 8) as *const u64) }.ok()?;
        base.wrapping_add(variable)
    };
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(at as *const u32) }.ok()
}

/// What runs on this CPU: a task, a softirq or an interrupt (bits of the preempt count: Linux
/// `include/linux/preempt.h`).
#[inline(always)]
pub fn context() -> u8 {
    const SOFTIRQ_SERVING: u32 = 0x100;
    const HARDIRQ_OR_NMI: u32 = 0x00ff_0000;
    let Some(count) = preempt_count() else {
        return WAKER_UNKNOWN_CONTEXT;
    };
    if count & HARDIRQ_OR_NMI != 0 {
        WAKER_INTERRUPT
    } else if count & SOFTIRQ_SERVING != 0 {
        WAKER_SOFTIRQ
    } else {
        WAKER_TASK
    }
}
