//! How records travel from the kernel side to the user side.

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Ring buffer (Linux 5.8).
    Ring,
    /// Perf event array, for older kernels.
    Perf,
}

impl Transport {
    /// The name used in messages and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Perf => "perf",
        }
    }
}
