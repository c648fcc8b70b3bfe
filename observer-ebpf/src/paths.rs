//! Paths of system calls that wait, read from the thread that waits.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use observer_common::counters::Counter;
use observer_common::events::inflight::InFlight;
use observer_common::events::path::{PATH_BYTES, Path};
use observer_common::events::syscall::{ROLE_PATH_FIRST, ROLE_PATH_SECOND};

use crate::emit::count;
use crate::maps::{PATH_SCRATCH, PATHS};

/// A wait of the running thread is for the path that its system call names, if it names one (`role`:
/// `ROLE_*`).
#[inline(always)]
pub fn name(entry: &mut InFlight, role: u8) {
    if role & (ROLE_PATH_FIRST | ROLE_PATH_SECOND) != 0 {
        entry.key.subject = read(entry.args[usize::from(role & ROLE_PATH_FIRST == 0)]);
    }
}

/// Keeps the path at an address. 0 when it can not be read, or when there is no room for it (counted).
#[inline(never)]
fn read(at: u64) -> u64 {
    let Some(path) = PATH_SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: points into a per-CPU map value, and this runs with preemption off: nobody else uses it.
    let path: &mut Path = unsafe { &mut *path };
    for word in &mut path.words {
        // SAFETY: a valid reference; volatile, because the target has no memset.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
    // SAFETY: the helper writes `PATH_BYTES` at most, and checks the address that it reads from.
    let len = unsafe {
        bpf_probe_read_user_str(
            path.words.as_mut_ptr().cast(),
            PATH_BYTES as u32,
            at as *const _,
        )
    };
    if len <= 0 {
        return 0;
    }
    let path: &Path = path;
    let id = path.id();
    if PATHS.get_ptr(id).is_none() {
        // Another CPU may insert the same one first.
        let _ = PATHS.insert(id, path, BPF_NOEXIST as u64);
        if PATHS.get_ptr(id).is_none() {
            count(Counter::LostPath);
            return 0;
        }
    }
    id
}
