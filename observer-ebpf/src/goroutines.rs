//! The life of a goroutine, told by each call of `runtime.casgstatus`: how long it was in each state,
//! where and why it waited, who woke it, where it was made.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST, pt_regs};
use aya_ebpf::helpers::bpf_probe_read_user;
use observer_common::events::wait::{BUCKETS, bucket_of};
use observer_common::goroutines::{
    FOLDED_PLACE, GO_BEFORE, GoKey, GoLosses, GoProbeConfig, GoStack, GoState, GoSum, GoSumKey,
    GoWake, GoWakeKey, KIND_CREATED, KIND_ENDED, KIND_UNSEEN, NO_PLACE, PLACE_FRAMES, STATE_DEAD,
    STATE_DEAD_EXTRA, STATE_IDLE, STATE_RUNNABLE, STATE_RUNNING, STATE_SYSCALL, STATE_WAITING,
    WOKEN_BY_GOROUTINE, WOKEN_BY_SCHEDULER, walk,
};

use crate::emit;
use crate::maps::{GO_LOSSES, GO_STACKS, GO_SUMS, GO_WAKES, GOROUTINES, ZERO_GO_SUM};
use crate::user_probes::add_one;

/// A change of state of the goroutine `g`.
pub struct Change<'a> {
    pub slot: u32,
    pub config: &'a GoProbeConfig,
    /// Registers at the probe: the arguments, and the running `g` in r14 (ABIInternal).
    pub regs: &'a pt_regs,
    pub g: u64,
    pub old: u8,
    pub new: u8,
}

#[inline(always)]
fn user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Counts something that could not be followed.
macro_rules! lost {
    ($slot:expr, $field:ident) => {
        if let Some(losses) = GO_LOSSES.get_ptr_mut($slot) {
            let losses: *mut GoLosses = losses;
            // SAFETY: points into a map value, which stays while the program runs.
            add_one(unsafe { &raw mut (*losses).$field });
        }
    };
}

/// A state as it can be told apart: from Go 1.26 on most system calls do not come through here, so
/// none of them is a state of its own.
#[inline(always)]
pub fn told_apart(config: &GoProbeConfig, state: u8) -> u8 {
    if config.syscalls == 0 && state == STATE_SYSCALL {
        STATE_RUNNING
    } else {
        state
    }
}

/// Whether a goroutine in this state is none: it has ended, or not begun.
#[inline(always)]
fn is_none(state: u8) -> bool {
    state == STATE_IDLE || state == STATE_DEAD || state == STATE_DEAD_EXTRA
}

/// Follows one change. The runtime calls `casgstatus` just before the change, from the one thread that
/// may change this goroutine then.
#[inline(always)]
pub fn change(change: &Change<'_>) {
    let Change {
        slot,
        config,
        g,
        old,
        new,
        ..
    } = *change;
    // A `g` is being allocated: nobody's yet. Or nothing changes that can be told apart.
    if old == STATE_IDLE || old == new {
        return;
    }
    let now = emit::now();
    let key = GoKey { g, slot, pad: 0 };
    let known = GOROUTINES.get_ptr_mut(key);
    let mut born = 0;
    match known {
        Some(entry) => {
            // SAFETY: points into a map value, which stays; one thread at a time changes a goroutine.
            let entry = unsafe { *entry };
            born = entry.born;
            close(change, &entry, now);
        }
        // Not one that is made now: it was there before, and not listed.
        None if !is_none(old) => lost!(slot, unlisted),
        None => {}
    }
    let goid = g + config.g_goid as u64;
    let begins = is_none(old) && (new == STATE_RUNNABLE || new == STATE_WAITING);
    if begins {
        born = now;
        sum(&mut key_of(slot, KIND_CREATED, site(config, g)), 0, goid);
    } else if new == STATE_DEAD && old == STATE_RUNNING {
        // A life that began before the probe was in has no length, but it has ended.
        let (flags, life) = match born {
            0 => (GO_BEFORE, 0),
            born => (0, now.saturating_sub(born)),
        };
        let mut ended = key_of(slot, KIND_ENDED, site(config, g));
        ended.flags = flags;
        sum(&mut ended, life, goid);
    }
    let mut state = GoState {
        since: now,
        born: if new == STATE_DEAD { 0 } else { born },
        state: new,
        reason: old,
        ..GoState::default()
    };
    if new == STATE_WAITING {
        match user::<u8>(g + config.g_waitreason as u64) {
            Some(reason) => state.reason = reason,
            None => lost!(slot, unreadable),
        }
        // Still running, it waits at its own frames; else at those that it was switched away from.
        state.place = if change.regs.r14 == g {
            place(slot, change.regs.rip, change.regs.rbp)
        } else {
            parked_place(slot, config, g)
        };
    }
    match known {
        Some(entry) => {
            // SAFETY: as above.
            unsafe { *entry = state };
        }
        None => {
            if GOROUTINES.insert(key, state, BPF_ANY as u64).is_err() {
                lost!(slot, untracked);
            }
        }
    }
}

/// The state that a goroutine leaves: its time is summed, its waker noted.
#[inline(always)]
fn close(change: &Change<'_>, entry: &GoState, now: u64) {
    let Change {
        slot,
        config,
        old,
        new,
        ..
    } = *change;
    if is_none(entry.state) {
        if !is_none(old) {
            lost!(slot, unseen);
        }
        return;
    }
    let mut kind = entry.state;
    if old != entry.state {
        lost!(slot, unseen);
        kind = KIND_UNSEEN;
    }
    let mut key = key_of(slot, kind, entry.place);
    key.reason = entry.reason;
    key.flags = entry.flags;
    let goid = change.g + config.g_goid as u64;
    sum(&mut key, now.saturating_sub(entry.since), goid);
    if kind == STATE_WAITING && new == STATE_RUNNABLE {
        woken(change, entry);
    }
}

/// The address of the `go` statement that made a goroutine.
#[inline(always)]
fn site(config: &GoProbeConfig, g: u64) -> u64 {
    match user::<u64>(g + config.g_gopc as u64) {
        Some(site) => site,
        None => NO_PLACE,
    }
}

/// Notes who makes a waiting goroutine ready: the goroutine of the running thread, if there is one.
#[inline(always)]
fn woken(change: &Change<'_>, entry: &GoState) {
    let Change { slot, config, .. } = *change;
    let running = change.regs.r14;
    let curg = user::<u64>(running + config.g_m as u64)
        .and_then(|m| user::<u64>(m + config.m_curg as u64));
    let mut key = GoWakeKey {
        place: entry.place,
        waker: NO_PLACE,
        slot,
        reason: entry.reason,
        by: WOKEN_BY_SCHEDULER,
        pad: [0; 2],
    };
    let mut goid = 0;
    match curg {
        None => {
            lost!(slot, unreadable);
            return;
        }
        Some(0) => {}
        Some(curg) => {
            key.by = WOKEN_BY_GOROUTINE;
            goid = user::<u64>(curg + config.g_goid as u64).unwrap_or(0);
            key.waker = if running == curg {
                place(slot, change.regs.rip, change.regs.rbp)
            } else {
                parked_place(slot, config, curg)
            };
        }
    }
    let mut slot_of = GO_WAKES.get_ptr_mut(key);
    if slot_of.is_none() {
        // Another CPU may insert the same key first: then that row is found.
        let _ = GO_WAKES.insert(key, GoWake::default(), BPF_NOEXIST as u64);
        slot_of = GO_WAKES.get_ptr_mut(key);
    }
    match slot_of {
        Some(wake) => {
            // SAFETY: points into a map value, which stays while the program runs.
            unsafe {
                add_one(&raw mut (*wake).count);
                core::ptr::write_volatile(&raw mut (*wake).goid, goid);
            }
        }
        None => lost!(slot, wakers),
    }
}

/// The place at which a goroutine was switched away from: its saved registers.
#[inline(always)]
fn parked_place(slot: u32, config: &GoProbeConfig, g: u64) -> u64 {
    let pc = user::<u64>(g + config.g_sched_pc as u64);
    let bp = user::<u64>(g + config.g_sched_bp as u64);
    match (pc, bp) {
        (Some(pc), Some(bp)) => place(slot, pc, bp),
        _ => {
            lost!(slot, unreadable);
            NO_PLACE
        }
    }
}

/// The id of a stack, which is kept once. A function of its own: its frames need room, and it is
/// called from several places.
#[inline(never)]
fn place(slot: u32, pc: u64, bp: u64) -> u64 {
    let mut stack = GoStack {
        frames: [0; PLACE_FRAMES],
    };
    let id = walk(&mut stack, slot, pc, bp, user::<[u64; 2]>);
    if GO_STACKS.get_ptr(id).is_some() {
        return id;
    }
    // By reference: there is no room for a copy.
    let stack: &GoStack = &stack;
    match GO_STACKS.insert(id, stack, BPF_NOEXIST as u64) {
        // It is there by now.
        Ok(()) | Err(-17) => id,
        Err(_) => {
            lost!(slot, stacks);
            NO_PLACE
        }
    }
}

#[inline(always)]
fn key_of(slot: u32, kind: u8, place: u64) -> GoSumKey {
    GoSumKey {
        place,
        slot,
        kind,
        ..GoSumKey::default()
    }
}

/// Adds a stretch of time to the row of its key; `goid`: address of the goroutine's id. A function of
/// its own, called from several places.
#[inline(never)]
fn sum(key: &mut GoSumKey, ns: u64, goid: u64) {
    if let Some(row) = row(key) {
        add(row, ns, goid);
        return;
    }
    key.place = FOLDED_PLACE;
    match row(key) {
        Some(row) => {
            add(row, ns, goid);
            lost!(key.slot, folded);
        }
        None => lost!(key.slot, sums),
    }
}

#[inline(always)]
fn row(key: &GoSumKey) -> Option<*mut GoSum> {
    if let Some(row) = GO_SUMS.get_ptr_mut(key) {
        return Some(row);
    }
    let zero = ZERO_GO_SUM.get(0)?;
    // Another CPU may insert the same key first: then that row is found.
    let _ = GO_SUMS.insert(key, zero, BPF_NOEXIST as u64);
    GO_SUMS.get_ptr_mut(key)
}

#[inline(always)]
fn add(row: *mut GoSum, ns: u64, goid: u64) {
    // SAFETY: `row` points into a map value, which stays while the program runs; others only change
    // it by the same additions.
    unsafe {
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*row).count, 1);
        atomic_xadd::<u64, u64, { Relaxed }>(&raw mut (*row).total_ns, ns);
        let bucket = bucket_of(ns);
        if bucket < BUCKETS {
            let bucket = (&raw mut (*row).buckets).cast::<u32>().add(bucket);
            atomic_xadd::<u32, u32, { Relaxed }>(bucket, 1);
        }
        // Two CPUs that end stretches of one row at once can lose the larger maximum.
        if (*row).max_ns < ns {
            (*row).max_ns = ns;
            (*row).max_goid = user::<u64>(goid).unwrap_or(0);
        }
    }
}
