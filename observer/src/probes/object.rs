//! The kernel object that is built into this program, one for each transport.

use std::fmt::Write as _;

use aya::include_bytes_aligned;
use sha2::{Digest, Sha256};

use crate::model::transport::Transport;

/// The object for a transport.
pub fn object(transport: Transport) -> &'static [u8] {
    match transport {
        Transport::Ring => {
            include_bytes_aligned!("../../../observer-ebpf/bytecode/observer.ring.o")
        }
        Transport::Perf => {
            include_bytes_aligned!("../../../observer-ebpf/bytecode/observer.perf.o")
        }
    }
}

/// SHA-256 of the object, in hex.
pub fn sha256(transport: Transport) -> String {
    Sha256::digest(object(transport))
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String can not fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}
