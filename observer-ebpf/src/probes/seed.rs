//! Task iterator: threads of targets that were already blocked when observation began.
//! Hook contract: iter/task, context {struct bpf_iter_meta *meta; struct task_struct *task}.

use aya_ebpf::bindings::{BPF_NOEXIST, seq_file, task_struct};
use aya_ebpf::helpers::generated::{bpf_get_task_stack, bpf_seq_write};
use observer_common::counters::Counter;
use observer_common::events::hold::Thread;
use observer_common::events::inflight::InFlight;
use observer_common::events::seed::{SEED_FRAMES, Seed};
use observer_common::events::wait::{CLASS_UNKNOWN, WAIT_SEEDED};
use observer_common::task::{TASK_THREAD, Task};

use crate::maps::{INFLIGHT, SEED_ENTRY, SEED_SCRATCH};
use crate::{emit, filter, kernel, waits};

/// Linux `include/linux/bpf.h`, DEFINE_BPF_ITER_FUNC(task, ...).
#[repr(C)]
pub struct TaskIterContext {
    meta: *mut IterMeta,
    task: *mut task_struct,
}

/// Linux `include/linux/bpf.h`, struct bpf_iter_meta.
#[repr(C)]
pub struct IterMeta {
    seq: *mut seq_file,
}

/// States in which a thread sleeps: interruptible, uninterruptible, parked, idle-kill variants
/// (Linux `include/linux/sched.h`).
const TASK_SLEEPS: u32 = 0x1 | 0x2;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn seed_tasks(ctx: *mut TaskIterContext) -> i32 {
    try_seed(ctx);
    0
}

#[inline(always)]
fn try_seed(ctx: *mut TaskIterContext) -> Option<()> {
    // SAFETY: the kernel passes a valid context; the verifier checks each access.
    let (seq, task) = unsafe { ((*(*ctx).meta).seq, (*ctx).task) };
    if task.is_null() {
        return None;
    }
    filter::control()?;
    let address = task as u64;
    let tgid = kernel::tgid_of(address)?;
    filter::target(tgid)?;
    let tid = kernel::tid_of(address)?;
    let state = kernel::state_of(address)?;
    if state & TASK_SLEEPS == 0 || kernel::on_cpu(address)? != 0 {
        return None;
    }
    let now = emit::now();
    let entry = SEED_ENTRY.get_ptr_mut(0)?;
    // SAFETY: as for the seed below.
    let entry = unsafe { &mut *entry };
    entry.thread = Thread::default();
    waits::blank(entry, tgid, CLASS_UNKNOWN);
    entry.key.task = Task {
        id: tid as u64,
        kind: TASK_THREAD,
        ..Task::default()
    };
    entry.flags = WAIT_SEEDED as u32;
    waits::describe(entry, kernel::user_registers(task), state);
    let seed = SEED_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: points into a per-CPU map value that only this program uses; a second iterator on the
    // same CPU could only mix up the details of two seeds, and observer runs one.
    let seed = unsafe { &mut *seed };
    seed.tgid = tgid;
    seed.tid = tid;
    seed.ktime = now;
    seed.fsbase = kernel::fsbase_of(address).unwrap_or(0);
    seed.user_ip = entry.user_ip;
    seed.user_sp = entry.user_sp;
    seed.user_bp = entry.user_bp;
    seed.syscall = entry.key.syscall;
    // SAFETY: the buffer is `SEED_FRAMES` words long; the helper fills at most that.
    let bytes = unsafe {
        bpf_get_task_stack(
            task,
            (&raw mut seed.kernel_stack).cast(),
            size_of::<[u64; SEED_FRAMES]>() as u32,
            0,
        )
    };
    seed.frames = if bytes > 0 { (bytes as u32) / 8 } else { 0 };
    // First the seed, then the entry: when the iterator's buffer is full the kernel runs this program
    // again for the same task.
    // SAFETY: `seq` comes from the iterator's context.
    let full = unsafe {
        bpf_seq_write(
            seq,
            core::ptr::from_ref(seed).cast(),
            size_of::<Seed>() as u32,
        )
    } != 0;
    if full {
        return None;
    }
    waits::publish(entry, now);
    let entry: &InFlight = entry;
    if INFLIGHT.insert(tid, entry, BPF_NOEXIST as u64).is_err() {
        // It blocked again meanwhile and is known, or there is no room.
        return None;
    }
    // If it ran between the look and the insertion, its end was not seen: take the wait back, unless
    // another one was written over it, which counted this one as lost.
    if (kernel::on_cpu(address)? != 0 || kernel::state_of(address)? & TASK_SLEEPS == 0)
        && waits::take_back(tid, now)
    {
        return None;
    }
    emit::count(Counter::Seen);
    Some(())
}
