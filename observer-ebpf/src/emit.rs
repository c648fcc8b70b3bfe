//! The only code that sends records and bumps counters.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use observer_common::counters::Counter;
use observer_common::header::Header;
use observer_common::kind::Kind;

use crate::maps::{COUNTERS, RECORDS};

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count_many(counter: Counter, by: u64) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU slot; programs on one CPU do not interleave within an addition that
        // matters (an interrupted one could lose a count, which the kernel excludes by disabling
        // preemption around tracing programs).
        unsafe { *slot += by };
    }
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    count_many(counter, 1);
}

/// A header for a record of type `T`.
#[inline(always)]
pub fn header<T>(kind: Kind, tgid: u32, tid: u32, ktime: u64) -> Header {
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u16;
    Header {
        kind: kind as u16,
        cpu,
        len: size_of::<T>() as u32,
        tgid,
        tid,
        ktime,
    }
}

/// Bytes that may wait in the ring buffer before the reader is woken: it looks by itself ten times a
/// second, and a wake-up costs the target an interrupt.
#[cfg(feature = "ring")]
const WAKE_AT: u64 = 512 * 1024;

/// Whether a record wakes the reader.
#[cfg(feature = "ring")]
#[inline(always)]
pub fn wake_flags(urgent: bool) -> u64 {
    use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
    if urgent || RECORDS.query(BPF_RB_AVAIL_DATA as u64) >= WAKE_AT {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

/// Sends one record; an urgent one wakes the reader at once. False when there was no room; the
/// caller counts that.
#[cfg(feature = "ring")]
#[inline(always)]
pub fn send<T: Copy + 'static, C: EbpfContext>(_ctx: &C, record: &T, urgent: bool) -> bool {
    match RECORDS.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(*record);
            entry.submit(wake_flags(urgent));
            true
        }
        None => false,
    }
}

/// Sends one record; perf buffers wake the reader for each. False when there was no room; the caller
/// counts that.
#[cfg(feature = "perf")]
#[inline(always)]
pub fn send<T: Copy + 'static, C: EbpfContext>(ctx: &C, record: &T, _urgent: bool) -> bool {
    send_bytes(
        ctx,
        core::ptr::from_ref(record).cast(),
        size_of::<T>() as u64,
    )
}

/// Sends `len` bytes from `data`.
#[cfg(feature = "perf")]
#[inline(always)]
pub fn send_bytes<C: EbpfContext>(ctx: &C, data: *const u8, len: u64) -> bool {
    use aya_ebpf::bindings::BPF_F_CURRENT_CPU;
    use aya_ebpf::helpers::generated::bpf_perf_event_output;
    // SAFETY: `data` points at `len` readable bytes; the verifier checks it.
    let result = unsafe {
        bpf_perf_event_output(
            ctx.as_ptr(),
            (&raw const RECORDS).cast_mut().cast(),
            BPF_F_CURRENT_CPU,
            data.cast_mut().cast(),
            len,
        )
    };
    result == 0
}

/// A header and what follows it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record<B> {
    header: Header,
    body: B,
}

/// Sends a record that is a header and `body`, without room for it on the program's stack. With
/// perf buffers only programs that run with interrupts off may use it: they share the room.
#[cfg(feature = "ring")]
#[inline(always)]
pub fn send_body<B: Copy + 'static, C: EbpfContext>(
    _ctx: &C,
    kind: Kind,
    (tgid, tid): (u32, u32),
    ktime: u64,
    body: &B,
) -> bool {
    let Some(mut entry) = RECORDS.reserve::<Record<B>>(0) else {
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points at room for a whole record.
    unsafe {
        (&raw mut (*record).header).write(header::<Record<B>>(kind, tgid, tid, ktime));
        (&raw mut (*record).body).write(*body);
    }
    entry.submit(wake_flags(false));
    true
}

/// As with a ring buffer.
#[cfg(feature = "perf")]
#[inline(always)]
pub fn send_body<B: Copy + 'static, C: EbpfContext>(
    ctx: &C,
    kind: Kind,
    (tgid, tid): (u32, u32),
    ktime: u64,
    body: &B,
) -> bool {
    const { assert!(size_of::<Record<B>>() <= size_of::<crate::maps::BodyRoom>()) };
    let Some(room) = crate::maps::BODY_SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    let record = room.cast::<Record<B>>();
    // SAFETY: `record` points at room for a whole record, as asserted.
    unsafe {
        (&raw mut (*record).header).write(header::<Record<B>>(kind, tgid, tid, ktime));
        (&raw mut (*record).body).write(*body);
    }
    send_bytes(ctx, record.cast(), size_of::<Record<B>>() as u64)
}
