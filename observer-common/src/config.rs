//! Typed values that the user side gives the kernel side.

use crate::pod;

/// Offset that is not known: the feature that needs it is off.
pub const NO_OFFSET: u32 = u32::MAX;

/// Facts of the running kernel, set once before load (read-only data, so that the verifier removes
/// what can not work here). Offsets are in bytes, [`NO_OFFSET`] when not known.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KernelConfig {
    /// `task_struct.pid` (the thread id).
    pub task_pid: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.__state` (`state` before 5.14).
    pub task_state: u32,
    /// `task_struct.thread.fsbase`.
    pub task_fsbase: u32,
    /// `task_struct.on_cpu`.
    pub task_on_cpu: u32,
    /// 1 when `bpf_task_pt_regs` exists (5.15).
    pub has_task_pt_regs: u32,
    /// 1 when sched_switch has a fourth argument, prev_state (5.19).
    pub switch_has_state: u32,
    /// Classic tracepoint sched_switch: offset of `next_pid`.
    pub tp_switch_next_pid: u32,
    /// Classic tracepoint sched_switch: offset of `prev_state`.
    pub tp_switch_prev_state: u32,
    /// Classic tracepoint sched_waking and sched_wakeup*: offset of `pid`.
    pub tp_wakeup_pid: u32,
    /// `task_struct.se.cfs_rq`, for the way to the preempt count through the run queue.
    pub task_cfs_rq: u32,
    /// `cfs_rq.rq`.
    pub cfs_rq_rq: u32,
    /// From the per-CPU variable `runqueues` to the preempt count.
    pub preempt_delta: i64,
    /// Address of `__per_cpu_offset`, for the other way; 0 when not known.
    pub per_cpu_offset: u64,
    /// Per-CPU address of the preempt count, 0 when not known.
    pub preempt_count: u64,
    /// 1 when the tier `syscalls` runs.
    pub traces_syscalls: u32,
    /// Always 0.
    pub pad: u32,
}

const _: () = assert!(size_of::<KernelConfig>() == 80);
pod!(KernelConfig);

/// What can be changed while running: one entry of an array map.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Control {
    /// 0: every program returns at once.
    pub enabled: u32,
    /// Generation of the aggregates; raised by the user side at each sweep.
    pub epoch: u32,
    /// Waits of at least this long are sent one by one.
    pub min_ns: u64,
    /// Waits that may still be sampled in this slice of time: their kernel stack is taken, and their
    /// user stack copied where that is asked for.
    pub samples: u64,
    /// How long waits of a shape that was sampled (`wait_sample::Shape`) leave the samples to others: the base-2
    /// logarithm of units.
    pub again: u64,
    /// CPU samples whose user stack may still be copied in this slice of time.
    pub cpu_copies: u64,
    /// `CONTROL_*` flags.
    pub flags: u64,
}

/// Do not take kernel stacks.
pub const CONTROL_NO_KERNEL_STACKS: u64 = 1;

/// Polls of tokio tasks are followed by probes.
pub const CONTROL_POLLS: u64 = 2;
/// So are their wake-ups.
pub const CONTROL_DELAYS: u64 = 4;

const _: () = assert!(size_of::<Control>() == 48);
pod!(Control);

/// Observe threads only.
pub const READER_THREAD: u32 = 0;
/// Read goroutine ids.
pub const READER_GO: u32 = 1;
/// Read tokio task ids.
pub const READER_TOKIO: u32 = 2;

/// The tokio id is an `Option<u64>`: a tag word, then the value.
pub const TOKIO_ID_TAGGED: u32 = 1;
/// `TokioCopy::entered` is valid.
pub const TOKIO_HAS_ENTERED: u32 = 2;
/// `TokioCopy::budget` is valid.
pub const TOKIO_HAS_BUDGET: u32 = 4;
/// Copy a piece of user stacks, to be unwound by tables: C libraries have no frame pointers, so a
/// walk by frame pointers misses at least the caller of a syscall wrapper.
pub const TARGET_COPY_STACKS: u32 = 8;
/// The program itself has no frame pointers: walking by them yields nonsense.
pub const TARGET_NO_FRAME_POINTERS: u32 = 16;

/// Copies of tokio in one process whose tasks are read at most.
pub const MAX_TOKIO_COPIES: usize = 4;
/// The first copy is read; the next bits are the other copies'.
pub const TARGET_TOKIO_COPY: u32 = 1 << 8;

/// How tasks of one copy of tokio are read.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioCopy {
    /// `TOKIO_*` flags.
    pub flags: u32,
    /// 0: offsets count from fsbase. Else the module's number in the thread's vector of TLS blocks
    /// (glibc), and offsets count from the start of its block.
    pub module: u32,
    /// To the task id.
    pub id: i64,
    /// To the EnterRuntime byte.
    pub entered: i64,
    /// To the budget (`Option<u8>`: tag byte, then value).
    pub budget: i64,
}

const _: () = assert!(size_of::<TokioCopy>() == 32);
pod!(TokioCopy);

/// One target, keyed by tgid.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetConfig {
    /// `READER_*`.
    pub reader: u32,
    /// `TARGET_*` flags.
    pub flags: u32,
    /// Go: from fsbase to the word that holds g.
    pub go_tls: i64,
    /// Go: `g.m`.
    pub go_g_m: u32,
    /// Go: `g.goid`.
    pub go_g_goid: u32,
    /// Go: `g.atomicstatus`.
    pub go_g_status: u32,
    /// Go: `g.waitreason`.
    pub go_g_waitreason: u32,
    /// Go: `m.curg`.
    pub go_m_curg: u32,
    /// Go: `m.procid`.
    pub go_m_procid: u32,
    /// Go: `g.syscallsp`; `syscallpc` follows. For stacks that C code was called from.
    pub go_g_syscallsp: u32,
    /// Bytes of the program's own thread-locals: they lie below fsbase, and a thread's stack below
    /// them (glibc and musl). 0 when not known.
    pub thread_locals: u32,
    /// Go: the first address of its code, which has frame pointers where C may have none.
    pub go_text: u64,
    /// Go: one past the last address of its code.
    pub go_text_end: u64,
    /// tokio: its copies in the process.
    pub tokio: [TokioCopy; MAX_TOKIO_COPIES],
}

const _: () = assert!(size_of::<TargetConfig>() == 192);
pod!(TargetConfig);
