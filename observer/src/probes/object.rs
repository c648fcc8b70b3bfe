//! The kernel object that is built into this program, in its two transports.

use aya::include_bytes_aligned;
use sha2::{Digest, Sha256};

/// How records reach the user side.
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

    /// The object.
    pub fn object(self) -> &'static [u8] {
        match self {
            Self::Ring => {
                include_bytes_aligned!("../../../observer-ebpf/bytecode/observer.ring.o")
            }
            Self::Perf => {
                include_bytes_aligned!("../../../observer-ebpf/bytecode/observer.perf.o")
            }
        }
    }

    /// SHA-256 of the object, in hex.
    pub fn sha256(self) -> String {
        use std::fmt::Write as _;
        Sha256::digest(self.object())
            .iter()
            .fold(String::new(), |mut text, byte| {
                // Writing to a String can not fail.
                let _infallible = write!(text, "{byte:02x}");
                text
            })
    }
}
