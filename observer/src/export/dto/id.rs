//! A short id for a blocking entry that is the same in the next report of the same program, so that
//! two reports can be compared and an entry can be quoted.

use crate::model::view::Blocking;
use crate::model::{Frame, Known};

/// FNV-1a over what names the entry. Left out is what changes from run to run (pids, addresses,
/// descriptors, ports of this side) or from build to build (line numbers). Code without a name is
/// known by its place in the file: the same for the same build.
pub(super) fn of(comm: &str, entry: &Blocking) -> u64 {
    let site = match &entry.site {
        Known::Known(Frame {
            function,
            file,
            module,
            ..
        }) => [function.as_deref(), file.as_deref(), module.as_deref()],
        Known::Unknown(_) => [None; 3],
    };
    let nameless = entry.site.known().and_then(|frame| frame.module_offset);
    let nameless = nameless.map(|offset| format!("{offset:#x}"));
    let resource = entry.resource.as_ref();
    let parts = [
        Some(comm),
        Some(entry.cause.as_str()),
        entry.syscall.as_deref(),
        entry.wait_reason.as_deref(),
        Some(entry.legality.as_str()),
        nameless.as_deref().or(site[0]),
        site[1],
        site[2],
        resource.map(|r| r.kind),
        resource.and_then(|r| r.path.as_deref()),
        resource.and_then(|r| r.peer.as_deref()),
    ];
    // One C function that several Go functions call.
    let caller = entry.c_call.as_ref().map(|call| {
        let by = call.called_by.as_ref().and_then(|f| f.function.as_deref());
        [Some(call.function.as_str()), by]
    });
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts.into_iter().chain(caller.into_iter().flatten()) {
        // 0xff is in no UTF-8 text: it keeps "ab"+"c" apart from "a"+"bc", and absent from empty.
        let mark: &[u8] = if part.is_some() {
            &[0xff]
        } else {
            &[0xff, 0xff]
        };
        for byte in part.unwrap_or_default().bytes().chain(mark.iter().copied()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// The text form: eight hex digits, and a counter when entries of one report share them.
pub(super) fn text(hash: u64, earlier: usize) -> String {
    let short = (hash ^ (hash >> 32)) & 0xffff_ffff;
    if earlier == 0 {
        format!("{short:08x}")
    } else {
        format!("{short:08x}-{}", earlier + 1)
    }
}
