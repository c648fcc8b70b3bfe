//! Where the fields of the runtime's structures lie: a table by minor version, x86-64.
//!
//! Measured from the DWARF of programs built with Go 1.18.10, 1.19.13, 1.20.14, 1.21.13, 1.22.10,
//! 1.23.9, 1.24.11, 1.25.5, 1.26.6 and 1.27.3 (`src/runtime/runtime2.go`, `chan.go`, `netpoll.go`,
//! `time.go`).

use crate::runtimes::{CgoReader, GoReader};

/// The first and the last minor version in the table.
pub const KNOWN_MINORS: std::ops::RangeInclusive<u32> = 18..=27;

/// Offsets in bytes. A field that a version lacks is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoOffsets {
    /// `g.m`.
    pub g_m: u32,
    /// `g.stack.lo`; `hi` follows.
    pub g_stack: u32,
    /// `g.sched.sp`; `pc` follows.
    pub g_sched: u32,
    /// `g.syscallsp`; `syscallpc` follows.
    pub g_syscallsp: u32,
    /// `g.atomicstatus`.
    pub g_status: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.waitreason`.
    pub g_waitreason: u32,
    /// `g.trackingSeq`: counts the times that the goroutine stopped running, modulo 256.
    pub g_tracking: u32,
    /// `g.lockedm`.
    pub g_lockedm: u32,
    /// `g.parentGoid` (Go 1.21 and later).
    pub g_parent: Option<u32>,
    /// `g.gopc`.
    pub g_gopc: u32,
    /// `g.startpc`.
    pub g_startpc: u32,
    /// `g.waiting`: the first sudog.
    pub g_waiting: u32,
    /// `g.timer`.
    pub g_timer: u32,
    /// `g.sleepWhen` (Go 1.23 and later).
    pub g_sleep_when: Option<u32>,
    /// `m.procid`.
    pub m_procid: u32,
    /// `m.tls`.
    pub m_tls: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `sudog.waitlink`.
    pub sudog_waitlink: u32,
    /// `sudog.c`.
    pub sudog_c: u32,
    /// `hchan.recvq.first`; `recvq.last`, `sendq.first`, `sendq.last` follow.
    pub hchan_recvq: u32,
    /// `timer.when`.
    pub timer_when: u32,
    /// `pollDesc.rg`; `wg` follows.
    pub poll_rg: u32,
}

/// `sudog.g`, all versions.
pub const SUDOG_G: usize = 0;
/// `sudog.elem`, all versions.
pub const SUDOG_ELEM: usize = 24;
/// `hchan.qcount`, all versions; `dataqsiz` follows.
pub const HCHAN_QCOUNT: usize = 0;
/// `hchan.closed`, all versions.
pub const HCHAN_CLOSED: usize = 28;
/// `pollDesc.fd`, all versions.
pub const POLL_FD: usize = 8;
/// `m.g0`, all versions.
pub const M_G0: u64 = 0;

/// Go 1.18.10, 1.19.13 and 1.20.14.
const V19: GoOffsets = GoOffsets {
    g_m: 48,
    g_stack: 0,
    g_sched: 56,
    g_syscallsp: 112,
    g_status: 144,
    g_goid: 152,
    g_waitreason: 176,
    g_tracking: 189,
    g_lockedm: 232,
    g_parent: None,
    g_gopc: 296,
    g_startpc: 312,
    g_waiting: 328,
    g_timer: 368,
    g_sleep_when: None,
    m_procid: 72,
    m_tls: 136,
    m_curg: 192,
    sudog_waitlink: 64,
    sudog_c: 80,
    hchan_recvq: 56,
    timer_when: 8,
    poll_rg: 24,
};

/// Go 1.21.13.
const V21: GoOffsets = GoOffsets {
    g_tracking: 188,
    g_lockedm: 208,
    g_parent: Some(272),
    g_gopc: 280,
    g_startpc: 296,
    g_waiting: 312,
    g_timer: 352,
    poll_rg: 32,
    ..V19
};

/// Go 1.22.10.
const V22: GoOffsets = GoOffsets {
    g_tracking: 191,
    ..V21
};

/// Go 1.23.9 and 1.24.11: `g.syscallbp` came in.
const V23: GoOffsets = GoOffsets {
    g_status: 152,
    g_goid: 160,
    g_waitreason: 184,
    g_tracking: 199,
    g_lockedm: 216,
    g_parent: Some(280),
    g_gopc: 288,
    g_startpc: 304,
    g_waiting: 320,
    g_timer: 360,
    g_sleep_when: Some(368),
    hchan_recvq: 64,
    timer_when: 16,
    ..V22
};

/// Go 1.25.5: `gobuf.ret` went.
const V25: GoOffsets = GoOffsets {
    g_syscallsp: 104,
    g_status: 144,
    g_goid: 152,
    g_waitreason: 176,
    g_tracking: 191,
    g_lockedm: 208,
    g_parent: Some(272),
    g_gopc: 280,
    g_startpc: 296,
    g_waiting: 312,
    g_timer: 352,
    g_sleep_when: Some(360),
    m_procid: 64,
    m_tls: 128,
    m_curg: 184,
    timer_when: 24,
    ..V23
};

/// Go 1.26.6 and 1.27.3.
const V26: GoOffsets = GoOffsets {
    g_parent: Some(280),
    g_gopc: 288,
    g_startpc: 304,
    g_waiting: 320,
    g_timer: 360,
    g_sleep_when: Some(368),
    sudog_waitlink: 72,
    sudog_c: 88,
    ..V25
};

/// The row of a minor version (the 26 of 1.26.8); `None` when it is not in the table.
pub fn by_minor(minor: u32) -> Option<GoOffsets> {
    match minor {
        18..=20 => Some(V19),
        21 => Some(V21),
        22 => Some(V22),
        23 | 24 => Some(V23),
        25 => Some(V25),
        26 | 27 => Some(V26),
        _ => None,
    }
}

impl GoOffsets {
    /// The part that the kernel side needs. `code`: where the Go code lies in the process, when the
    /// program calls C.
    pub fn reader(&self, tls_offset: i64, code: Option<(u64, u64)>) -> GoReader {
        GoReader {
            cgo: code.map(|(text, text_end)| CgoReader {
                g_stack: self.g_stack,
                g_syscallsp: self.g_syscallsp,
                text,
                text_end,
            }),
            tls_offset,
            g_m: self.g_m,
            g_goid: self.g_goid,
            g_status: self.g_status,
            g_waitreason: self.g_waitreason,
            m_curg: self.m_curg,
            m_procid: self.m_procid,
        }
    }

    /// `g.sched.bp`: the last word of `gobuf`, which `g.syscallsp` follows (`src/runtime/runtime2.go`,
    /// Go 1.21 to 1.27; checked against DWARF: 104 before Go 1.25, 96 since).
    pub fn g_sched_bp(&self) -> u32 {
        self.g_syscallsp - 8
    }

    /// How many bytes of a `g` hold every field that is read.
    pub fn g_size(&self) -> usize {
        let last = [
            Some(self.g_stack + 8),
            Some(self.g_sched + 8),
            Some(self.g_syscallsp + 8),
            Some(self.g_goid),
            Some(self.g_waitreason),
            Some(self.g_tracking),
            Some(self.g_lockedm),
            self.g_parent,
            Some(self.g_gopc),
            Some(self.g_startpc),
            Some(self.g_waiting),
            Some(self.g_timer),
            self.g_sleep_when,
        ];
        last.into_iter().flatten().max().unwrap_or(0) as usize + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_version_has_a_row_and_no_other() {
        for minor in 0..64 {
            assert_eq!(
                by_minor(minor).is_some(),
                KNOWN_MINORS.contains(&minor),
                "{minor}"
            );
        }
        assert_eq!(by_minor(27).map(|o| o.g_size()), Some(376));
        assert_eq!(by_minor(21).map(|o| o.g_sched_bp()), Some(104));
        assert_eq!(by_minor(27).map(|o| o.g_sched_bp()), Some(96));
    }
}
