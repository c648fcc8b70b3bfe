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

impl Resource {
    /// The other end, when that is a service: not when it is this end's client, of which each has an
    /// address of its own.
    pub fn peer_service(&self) -> Option<&str> {
        let port = |address: &str| address.rsplit(':').next()?.parse::<u16>().ok();
        let (local, peer) = (self.local.as_deref(), self.peer.as_deref()?);
        let client = matches!(
            (local.and_then(port), port(peer)),
            (Some(local), Some(remote)) if remote >= EPHEMERAL && local < EPHEMERAL
        );
        (!client).then_some(peer)
    }
}

/// Ports from which the kernel chooses those of clients (`ip_local_port_range`, by default).
const EPHEMERAL: u16 = 32_768;
