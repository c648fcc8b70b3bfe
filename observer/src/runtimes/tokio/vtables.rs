//! Task vtables, found by their shape: code pointers followed by small integers.
//!
//! `tokio::runtime::task::raw::Vtable` (not `repr(C)`, but all its words have the same size and rustc
//! kept the declaration order in every build looked at; tokio 1.18 to 1.54):
//! - 1.18 to 1.22: 8 functions, from 1.21 on + `trailer_offset`
//! - 1.23 to 1.54: poll, schedule, dealloc, try_read_output, drop_join_handle_slow, drop_abort_handle,
//!   shutdown, trailer_offset, scheduler_offset, id_offset
//! - from 1.46 on with `tokio_unstable`: + spawn_location_offset

use crate::sys::elf::{Elf, bytes_at};

use super::pointers::{CodePointers, le64};

/// Programs have 10 to a few hundred task types.
const MAX_VTABLES: usize = 16_384;
/// No future is larger than this, so no trailer lies farther in (bytes).
const MAX_TRAILER: u64 = 64 << 20;
/// `size_of::<Header>()` is at least four words in every version (tokio `task/core.rs`).
const MIN_CORE: u64 = 0x20;

/// The vtable's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VtableForm {
    /// 8 functions and the trailer offset (tokio 1.21, 1.22).
    EightPointers,
    /// 7 functions and 3 offsets (tokio 1.23 and later).
    Stable,
    /// 7 functions and 4 offsets (tokio 1.46 and later, built with `tokio_unstable`).
    Unstable,
}

/// The offsets in a task allocation, in bytes from its `Header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskOffsets {
    /// `Trailer`.
    pub trailer: u64,
    /// `Core::scheduler`.
    pub scheduler: u64,
    /// `Core::task_id`.
    pub id: u64,
    /// `Core::spawned_at`, a `&'static Location`, with `tokio_unstable`.
    pub spawn_location: Option<u64>,
}

/// One task type's vtable. Addresses are as in the file (add the load bias for a process).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vtable {
    /// Where it lies.
    pub address: u64,
    /// Its shape.
    pub form: VtableForm,
    /// `raw::poll::<T, S>`; types with identical code may share one.
    pub poll: u64,
    /// `raw::schedule::<S>` (none in the old form).
    pub schedule: Option<u64>,
    /// `raw::dealloc::<T, S>`.
    pub dealloc: u64,
    /// `raw::shutdown::<T, S>`.
    pub shutdown: u64,
    /// Where things lie in a task (none in the old form).
    pub offsets: Option<TaskOffsets>,
}

impl Vtable {
    /// Whether the tasks are of `spawn_blocking`, when the offsets tell. From tokio 1.40 on the
    /// zero-sized `BlockingSchedule` shows as a gap between scheduler and id of 16 bytes.
    /// (tokio `blocking/schedule.rs` and `task/core.rs`, measured pairs: (0x20,0x28) async, (0x20,0x30) blocking)
    pub fn is_blocking(&self, minor: u16) -> Option<bool> {
        let offsets = self.offsets?;
        match (offsets.scheduler, offsets.id) {
            (0x20, 0x30) if minor >= 40 => Some(true),
            (0x20, 0x20) if minor < 40 => Some(true),
            (0x20, 0x28) | (0x80, 0x88) => Some(false),
            _ => None,
        }
    }
}

/// Finds all vtables of 7 functions and 3 or 4 offsets.
pub(super) fn find(elf: &Elf<'_>, pointers: &CodePointers) -> Vec<Vtable> {
    let entries = pointers.entries();
    let mut found = Vec::new();
    for run in runs(entries) {
        // The seven functions are the last of their run: integers follow.
        let Some(first) = run.len().checked_sub(7) else {
            continue;
        };
        let functions = &run[first..];
        let address = functions[0].0;
        let Some(words) = bytes_at(elf, address).and_then(|b| b.get(56..80)) else {
            continue;
        };
        let (trailer, scheduler, id) = (le64(words), le64(&words[8..]), le64(&words[16..]));
        if !(MIN_CORE..=id).contains(&scheduler)
            || id >= trailer
            || trailer > MAX_TRAILER
            || (trailer | scheduler | id) % 8 != 0
            // The id follows the scheduler at once, up to alignment (`Core`, `repr(C)`).
            || id - scheduler > 0x80
        {
            continue;
        }
        found.push(Vtable {
            address,
            form: VtableForm::Stable,
            poll: functions[0].1,
            schedule: Some(functions[1].1),
            dealloc: functions[2].1,
            shutdown: functions[6].1,
            offsets: Some(TaskOffsets {
                trailer,
                scheduler,
                id,
                spawn_location: None,
            }),
        });
        if found.len() == MAX_VTABLES {
            break;
        }
    }
    mark_unstable(elf, pointers, &mut found);
    found
}

/// With `tokio_unstable` every vtable has a fourth offset: `spawned_at` follows the id at once.
/// One such word could be chance, so all must have it.
fn mark_unstable(elf: &Elf<'_>, pointers: &CodePointers, found: &mut [Vtable]) {
    let fourth = |v: &Vtable| {
        let id = v.offsets?.id;
        let at = v.address + 80;
        let word = bytes_at(elf, at)?.get(..8).map(le64)?;
        (word == id + 8 && pointers.at(at).is_none()).then_some(word)
    };
    if found.is_empty() || !found.iter().all(|v| fourth(v).is_some()) {
        return;
    }
    for vtable in found {
        let word = fourth(vtable);
        vtable.form = VtableForm::Unstable;
        if let Some(offsets) = &mut vtable.offsets {
            offsets.spawn_location = word;
        }
    }
}

/// Finds the vtables of tokio 1.21 and 1.22: 8 functions and one offset. The shape says less, so it
/// is asked for only when the version is known to have it.
pub(super) fn find_old(elf: &Elf<'_>, pointers: &CodePointers) -> Vec<Vtable> {
    let mut found = Vec::new();
    for run in runs(pointers.entries()) {
        let Some(first) = run.len().checked_sub(8) else {
            continue;
        };
        let functions = &run[first..];
        let address = functions[0].0;
        let Some(words) = bytes_at(elf, address).and_then(|b| b.get(64..80)) else {
            continue;
        };
        let (trailer, next) = (le64(words), le64(&words[8..]));
        // `size` and `align` of a trait object's vtable look the same up to the alignment.
        let is_trait_object = pointers.at(address + 72).is_none() && next.is_power_of_two();
        if !(MIN_CORE + 8..MAX_TRAILER).contains(&trailer) || trailer % 8 != 0 || is_trait_object {
            continue;
        }
        found.push(Vtable {
            address,
            form: VtableForm::EightPointers,
            poll: functions[0].1,
            schedule: None,
            dealloc: functions[1].1,
            shutdown: functions[7].1,
            offsets: None,
        });
        if found.len() == MAX_VTABLES {
            break;
        }
    }
    found
}

/// Maximal runs of neighbouring words.
fn runs(entries: &[(u64, u64)]) -> impl Iterator<Item = &[(u64, u64)]> {
    entries.chunk_by(|a, b| a.0.checked_add(8) == Some(b.0))
}
