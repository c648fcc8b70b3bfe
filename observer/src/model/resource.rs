//! What a task waits on: a socket, file, pipe, futex, channel...

use super::Cause;

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
    /// Keeps of descriptor, addresses and path what another one of the kind has, too.
    pub fn keep_common(&mut self, other: &Self) {
        fn common<T: PartialEq>(ours: &mut Option<T>, theirs: Option<&T>) {
            if ours.as_ref() != theirs {
                *ours = None;
            }
        }
        common(&mut self.fd, other.fd.as_ref());
        common(&mut self.local, other.local.as_ref());
        common(&mut self.peer, other.peer.as_ref());
        common(&mut self.path, other.path.as_ref());
    }

    /// The other end, when that is a service: not when it is this end's client, of which each has an
    /// address of its own.
    pub fn peer_service(&self) -> Option<&str> {
        let client = matches!(
            self.ports(),
            (Some(local), Some(remote)) if remote >= EPHEMERAL && local < EPHEMERAL
        );
        self.peer.as_deref().filter(|_| !client)
    }

    /// The other end, when this process made the connection: its own port is ephemeral, the peer's is
    /// not. Connections to one service are one entry, those of many clients are another.
    pub fn called_service(&self) -> Option<String> {
        let called = matches!(
            self.ports(),
            (Some(local), Some(remote)) if local >= EPHEMERAL && remote < EPHEMERAL
        );
        self.peer.clone().filter(|_| called)
    }

    /// Local and remote port.
    fn ports(&self) -> (Option<u16>, Option<u16>) {
        let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
        (
            self.local.as_deref().and_then(port),
            self.peer.as_deref().and_then(port),
        )
    }

    /// What a system call with this cause was for, when this is what its descriptor was seen to be. A call for
    /// sockets that blocked was for one: the number was used again since, or before.
    #[must_use]
    pub fn as_used_by(self, cause: Cause) -> Self {
        let for_sockets = matches!(
            cause,
            Cause::Recv | Cause::Send | Cause::Accept | Cause::Connect
        );
        if !for_sockets || matches!(self.kind, "socket" | "descriptor") {
            return self;
        }
        Self {
            kind: "socket",
            fd: self.fd,
            state: Some(format!("used again: only seen as {}", self.kind)),
            ..Self::default()
        }
    }

    /// What two have in common; fields that differ are left out.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        fn same<T: PartialEq + Clone>(a: Option<&T>, b: Option<&T>) -> Option<T> {
            a.filter(|_| a == b).cloned()
        }
        Self {
            kind: if self.kind == other.kind {
                self.kind
            } else {
                "descriptor"
            },
            fd: same(self.fd.as_ref(), other.fd.as_ref()),
            address: same(self.address.as_ref(), other.address.as_ref()),
            local: same(self.local.as_ref(), other.local.as_ref()),
            peer: same(self.peer.as_ref(), other.peer.as_ref()),
            path: same(self.path.as_ref(), other.path.as_ref()),
            state: same(self.state.as_ref(), other.state.as_ref()),
        }
    }
}

/// Ports from which the kernel chooses those of clients (`ip_local_port_range`, by default).
const EPHEMERAL: u16 = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_for_sockets_is_for_no_file() {
        let seen = |kind| Resource {
            kind,
            fd: Some(6),
            path: Some("/log".into()),
            ..Resource::default()
        };
        let received = seen("file").as_used_by(Cause::Recv);
        assert_eq!((received.kind, received.fd), ("socket", Some(6)));
        assert_eq!(received.path, None);
        assert_eq!(seen("file").as_used_by(Cause::FileIo), seen("file"));
        // A unix socket has a path; and what was closed is not known.
        for kind in ["socket", "descriptor"] {
            assert_eq!(seen(kind).as_used_by(Cause::Accept), seen(kind));
        }
    }
}
