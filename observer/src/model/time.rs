//! Kernel monotonic time. Wall time is made from it in one place only, `correlate::clock`.

/// Nanoseconds of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// Nanoseconds since `earlier`; 0 when `earlier` is later (clocks read on two CPUs).
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
