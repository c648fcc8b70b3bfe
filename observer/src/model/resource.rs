//! What a task waits on: a socket, file, pipe, futex, channel...

/// What a wait is for. Every field that is `None` is not known or does not apply to the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// `socket`, `file`, `pipe`, `eventfd`, `epoll`, `futex`, `timer`, `channel`, `mutex`, ...
    pub kind: &'static str,
    /// File descriptor in the target.
    pub fd: Option<i32>,
    /// Address in the target (futex word, channel, mutex).
    pub address: Option<u64>,
    /// Local socket address.
    pub local: Option<String>,
    /// Peer socket address.
    pub peer: Option<String>,
    /// Path of a file.
    pub path: Option<String>,
    /// Socket state, or why a field is missing.
    pub state: Option<String>,
}
