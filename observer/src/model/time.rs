//! Kernel monotonic time. No wall time is made from it: a session notes that at its start and its end.

/// Nanoseconds of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Nanoseconds since `earlier`; 0 when `earlier` is later (clocks read on two CPUs).
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
