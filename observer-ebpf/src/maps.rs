//! Every map: who writes it, who reads it, and what happens when it is full.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, StackTrace};
use observer_common::config::{Control, TargetConfig};
use observer_common::counters::COUNTERS as COUNTER_SLOTS;
use observer_common::events::inflight::InFlight;
use observer_common::events::path::Path;
use observer_common::events::poll::{PollKey, PollSum, Polls, Woken, WokenKey};
use observer_common::events::seed::Seed;
use observer_common::events::syscall::{NetKey, NetOpen, NetOpenKey, SyscallKey, SyscallOpen};
use observer_common::events::wait::{WaitKey, WaitSum};
use observer_common::goroutines::{
    GoKey, GoLosses, GoProbeConfig, GoStack, GoState, GoSum, GoSumKey, GoWake, GoWakeKey,
};
use observer_common::user_probes::{USER_SLOTS as USER_SLOT_COUNT, UserSlot};

/// Run-time settings. Written by the user side, read by every program. One entry.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// Observed processes by tgid. Written by the user side; exec turns an entry to threads only.
/// Full: the user side reports that the target can not be added.
#[map]
pub static TARGETS: HashMap<u32, TargetConfig> = HashMap::with_max_entries(1024, 0);

/// One bit for each process id (up to the kernel's limit of 4 194 304): is it a target? Array
/// lookups are compiled into the program, so other processes pay next to nothing. Written by the
/// user side.
#[map]
pub static TARGET_BITS: Array<u64> = Array::with_max_entries(65536, 0);

/// The last wait of each target thread, by thread id: open while the thread is off CPU. Entered at the
/// thread's first wait and removed when it exits, so that a wait needs neither allocation nor lock.
/// Written at switch-out, wake-up and switch-in, swept by the user side. Full: `LostInflightFull`.
#[map]
pub static INFLIGHT: HashMap<u32, InFlight> = HashMap::with_max_entries(16384, 0);

/// Ended waits, summed. Written at switch-in, read and removed by the user side one epoch later.
/// Full: the task is folded (`FoldedTasks`); if there is no room even then, `LostAggregateFull`.
#[map]
pub static WAITS: HashMap<WaitKey, WaitSum> = HashMap::with_max_entries(16384, 0);

/// A sum of zeros, to insert from: too large for the stack. Never written.
#[map]
pub static ZERO_SUM: Array<WaitSum> = Array::with_max_entries(1, 0);

/// Stacks by id. Written at switch-out and wake-up, read by the user side at its sweeps.
/// Full or collision: `StackMapFull`, `StackCollision`.
#[map]
pub static STACKS: StackTrace = StackTrace::with_max_entries(16384, 0);

/// `counters::Counter` slots. Written by every program, summed by the user side.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_SLOTS, 0);

/// What each syscall does with its first arguments, by number: `syscall::ROLE_*`. Written by the user
/// side before attach.
#[map]
pub static ROLES: Array<u8> = Array::with_max_entries(512, 0);

/// Paths of system calls that waited, by `Path::id`. Written at switch-out, read by the user side at the
/// end. Full: `LostPath`.
#[map]
pub static PATHS: HashMap<u64, Path> = HashMap::with_max_entries(1024, 0);

/// Room to read a path into: too large for the stack. Written at switch-out.
#[map]
pub static PATH_SCRATCH: PerCpuArray<Path> = PerCpuArray::with_max_entries(1, 0);

/// An entry without a wait, to insert from: too large for the stack. Never written.
#[map]
pub static ZERO_INFLIGHT: Array<InFlight> = Array::with_max_entries(1, 0);

/// Room to build the entry of a seed in: too large for the stack. Written by the task iterator.
#[map]
pub static SEED_ENTRY: PerCpuArray<InFlight> = PerCpuArray::with_max_entries(1, 0);

/// The last system call of each target thread, by thread id. Tier `syscalls` only (else the user side
/// makes this and the next three as small as can be). Full: `LostSyscallThread`.
#[map]
pub static SYSCALL_OPEN: HashMap<u32, SyscallOpen> = HashMap::with_max_entries(16384, 0);

/// System calls that returned, summed. Written at sys_exit, read and removed by the user side one
/// epoch later. Full: the task is folded (`FoldedSyscalls`), then `LostSyscallSum`.
#[map]
pub static SYSCALLS: HashMap<SyscallKey, WaitSum> = HashMap::with_max_entries(16384, 0);

/// Descriptors that were found not ready, until they are tried again or closed. Full: `LostNetWait`.
#[map]
pub static NET_OPEN: HashMap<NetOpenKey, NetOpen> = HashMap::with_max_entries(65536, 0);

/// Waits for the network, summed. As `SYSCALLS`. Full: `LostNetWait`.
#[map]
pub static NET_WAITS: HashMap<NetKey, WaitSum> = HashMap::with_max_entries(16384, 0);

/// Room to build a seed in: too large for the stack. Written by the task iterator.
#[map]
pub static SEED_SCRATCH: PerCpuArray<Seed> = PerCpuArray::with_max_entries(1, 0);

/// Attachments of probes in targets' own code, by slot. Written by the user side; exec closes one.
#[map]
pub static USER_SLOTS: Array<UserSlot> = Array::with_max_entries(USER_SLOT_COUNT, 0);

/// The open slot of a process, by tgid. Written by the user side, read at exec.
#[map]
pub static USER_PIDS: HashMap<u32, u32> = HashMap::with_max_entries(USER_SLOT_COUNT, 0);

/// Hits of these probes, by slot. Read by the user side, which takes probes out that are hit too often.
#[map]
pub static USER_HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(USER_SLOT_COUNT, 0);

/// tokio task types with their sums, by attachment and vtable. Entered by the user side before the
/// first hit, which reads it at the end. Full: the user side says which target is not followed.
/// Sized at load, as the next two: one entry in a session without these probes.
#[map]
pub static POLL_TYPES: HashMap<PollKey, PollSum> = HashMap::with_max_entries(1, 0);

/// The polls that each thread is in. Written by the probes, at switch-out and switch-in; read by the
/// user side at the end. Full: `LostPollThread`.
#[map]
pub static POLLS: HashMap<u32, Polls> = HashMap::with_max_entries(1, 0);

/// No polls, to insert from: too large for the stack. Never written.
#[map]
pub static ZERO_POLLS: Array<Polls> = Array::with_max_entries(1, 0);

/// tokio tasks that were woken and have not been polled since. Written by the probes; read by the
/// user side. Full: `LostWoken`.
#[map]
pub static WOKEN: HashMap<WokenKey, Woken> = HashMap::with_max_entries(1, 0);

/// What the probes of each attachment to a Go program need to know, by slot. Written by the user side.
#[map]
pub static GO_PROBES: Array<GoProbeConfig> = Array::with_max_entries(USER_SLOT_COUNT, 0);

/// What could not be followed, by slot. Read by the user side.
#[map]
pub static GO_LOSSES: Array<GoLosses> = Array::with_max_entries(USER_SLOT_COUNT, 0);

/// Goroutines and their states. Written by the probes, and once by the user side for those that
/// have not changed since; read at the end. The runtime uses a `g` again and frees none, so there
/// are as many as ever lived at once. Full: `GoLosses::untracked`. Sized at load: one entry in a
/// session without these probes.
#[map]
pub static GOROUTINES: HashMap<GoKey, GoState> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Time by state, reason and place. Written by the probes, read at the end. Full:
/// `GoLosses::folded`, then `GoLosses::sums`. Sized at load.
#[map]
pub static GO_SUMS: HashMap<GoSumKey, GoSum> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// A sum of zeros, to insert from. Never written.
#[map]
pub static ZERO_GO_SUM: Array<GoSum> = Array::with_max_entries(1, 0);

/// Who ended waits. Written by the probes, read at the end. Full: `GoLosses::wakers`. Sized at load.
#[map]
pub static GO_WAKES: HashMap<GoWakeKey, GoWake> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Stacks by id. Written by the probes, read at the end. Full: `GoLosses::stacks`. Sized at load.
#[map]
pub static GO_STACKS: HashMap<u64, GoStack> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Records to the user side. Full: `LostRecord`, `StackCopyLost`.
#[cfg(feature = "ring")]
#[map]
pub static RECORDS: aya_ebpf::maps::RingBuf =
    aya_ebpf::maps::RingBuf::with_byte_size(8 * 1024 * 1024, 0);

/// Records to the user side. Full: `LostRecord`, `StackCopyLost`.
#[cfg(feature = "perf")]
#[map]
pub static RECORDS: aya_ebpf::maps::PerfEventByteArray = aya_ebpf::maps::PerfEventByteArray::new(0);

/// Room to build a stack copy in, since a perf event array can not be reserved from. The programs
/// that use it run with preemption off, so nothing else on the CPU writes it meanwhile.
#[cfg(feature = "perf")]
#[map]
pub static STACK_SCRATCH: PerCpuArray<observer_common::events::user_stack::UserStackRecord> =
    PerCpuArray::with_max_entries(1, 0);

/// The same for CPU samples, which come as interrupts.
#[cfg(feature = "perf")]
#[map]
pub static SAMPLE_SCRATCH: PerCpuArray<observer_common::events::user_stack::UserStackRecord> =
    PerCpuArray::with_max_entries(1, 0);

/// Room for a header and what follows it.
#[cfg(feature = "perf")]
pub type BodyRoom = [u64; 16];

/// Room to build small records in, for programs that run with interrupts off.
#[cfg(feature = "perf")]
#[map]
pub static BODY_SCRATCH: PerCpuArray<BodyRoom> = PerCpuArray::with_max_entries(1, 0);
