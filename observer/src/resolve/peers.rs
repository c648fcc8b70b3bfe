//! The other ends of connections, when another observed process holds them: which descriptor they are
//! there.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::resources::{FdTable, SOCKETS_FRESH};
use crate::model::Pid;
use crate::model::connection::Socket;
use crate::sys::fds::{self, FdLink};
use crate::sys::netlink::{Ends, Protocol};

/// Descriptors that are looked at in one process.
const MAX_DESCRIPTORS: usize = 1 << 16;

/// A connection between two observed processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Who asked.
    pub pid: Pid,
    /// Its end.
    pub socket: Socket,
    /// Who holds the other end.
    pub peer_pid: Pid,
    /// That end.
    pub peer: Socket,
}

impl FdTable {
    /// The other ends of these descriptors, where one of `candidates` (and not the same process) holds
    /// them. Reads every descriptor of the candidates: for once in a while.
    pub fn pairs(&mut self, ours: &[(Pid, i32)], candidates: &[Pid]) -> Vec<Pair> {
        // By the inode of the other end, or by its ends.
        let mut by_inode: HashMap<u64, Vec<(Pid, Socket)>> = HashMap::new();
        let mut by_ends: HashMap<(SocketAddr, SocketAddr), Vec<(Pid, Socket)>> = HashMap::new();
        let mut seen_from = None;
        for (pid, fd) in ours {
            let Ok(FdLink::Socket(inode)) = fds::link(*pid, *fd) else {
                continue;
            };
            let socket = Socket { fd: *fd, inode };
            let table = self.sockets(*pid, SOCKETS_FRESH);
            match table.get(&inode).map(|facts| (facts.protocol, &facts.ends)) {
                Some((
                    _,
                    Ends::Unix {
                        peer: Some(peer), ..
                    },
                )) => by_inode.entry(*peer).or_default().push((*pid, socket)),
                Some((
                    Protocol::Tcp,
                    Ends::Inet {
                        local,
                        peer: Some(peer),
                    },
                )) => {
                    let who = by_ends.entry((*peer, *local)).or_default();
                    who.push((*pid, socket));
                    seen_from = Some(*pid);
                }
                _ => {}
            }
        }
        if let Some(pid) = seen_from {
            for (inode, facts) in self.sockets(pid, SOCKETS_FRESH) {
                if let (
                    Protocol::Tcp,
                    Ends::Inet {
                        local,
                        peer: Some(peer),
                    },
                ) = (facts.protocol, &facts.ends)
                    && let Some(who) = by_ends.get(&(*local, *peer))
                {
                    by_inode.entry(*inode).or_default().extend(who);
                }
            }
        }
        if by_inode.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        for candidate in candidates {
            for fd in fds::list(*candidate)
                .unwrap_or_default()
                .into_iter()
                .take(MAX_DESCRIPTORS)
            {
                let Ok(FdLink::Socket(inode)) = fds::link(*candidate, fd) else {
                    continue;
                };
                for (pid, socket) in by_inode.get(&inode).into_iter().flatten() {
                    if pid != candidate {
                        out.push(Pair {
                            pid: *pid,
                            socket: *socket,
                            peer_pid: *candidate,
                            peer: Socket { fd, inode },
                        });
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// `bash` connects to this process, so that its end is another process's.
    #[test]
    fn the_other_end_is_found_in_the_process_that_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("exec 9<>/dev/tcp/127.0.0.1/{port}; echo ready; read");
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ours, _) = listener.accept().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let (me, other) = (Pid(std::process::id()), Pid(child.id()));
        let pairs = FdTable::default().pairs(
            &[(me, ours.as_raw_fd()), (me, listener.as_raw_fd())],
            &[me, other],
        );
        drop(child.stdin.take());
        child.wait().unwrap();
        let found: Vec<_> = pairs
            .iter()
            .map(|p| (p.pid, p.socket.fd, p.peer_pid, p.peer.fd))
            .collect();
        assert_eq!(found, [(me, ours.as_raw_fd(), other, 9)]);
        assert_ne!(pairs[0].socket.inode, pairs[0].peer.inode);
    }
}
