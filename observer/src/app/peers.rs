//! Connections between targets: whose tasks wait at one end, and what the target at the other end is
//! asked to look for.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::model::connection::{Connection, Socket, Users};
use crate::model::{Pid, Reason};
use crate::resolve::peers::Pair;
use crate::resolve::resources::FdTable;

/// Between two looks for other ends at least.
const PAUSE: Duration = Duration::from_secs(1);
/// Between the first looks: those of whom many wait become known one after the other.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// So many.
const FIRST_LOOKS: u32 = 4;
/// A later look may cost one in so many of the time until the next.
const BUDGET: u32 = 50;
/// A connection that nobody was seen waiting on for so long is not looked for any more: searching anew
/// each time that one comes or goes would be dear.
const FOLLOWED: Duration = Duration::from_secs(5);
/// Descriptors whose other ends are looked for.
const MAX_ASKED: usize = 256;
/// Connections that are remembered.
const MAX_PAIRS: usize = 4096;

/// The connections between targets that were found.
#[derive(Debug, Default)]
pub struct Peers {
    asked: HashSet<(Pid, i32)>,
    /// With the time when tasks were last seen waiting there.
    found: HashMap<Pair, Instant>,
    left_out: u64,
    next: Option<Instant>,
    looks: u32,
}

impl Peers {
    /// Notes descriptors that tasks of a target wait on.
    fn ask(&mut self, pid: Pid, fds: &[i32]) {
        for fd in fds {
            if self.asked.len() < MAX_ASKED {
                self.asked.insert((pid, *fd));
            } else if !self.asked.contains(&(pid, *fd)) {
                self.left_out += 1;
            }
        }
    }

    /// The ends in this process of connections that tasks of others waited on lately; under each
    /// descriptor the latest.
    fn followed(&self, pid: Pid) -> Vec<Socket> {
        let mut by_fd: HashMap<i32, (Instant, Socket)> = HashMap::new();
        for (pair, at) in &self.found {
            if pair.peer_pid == pid && at.elapsed() < FOLLOWED {
                let latest = by_fd.entry(pair.peer.fd).or_insert((*at, pair.peer));
                if *at > latest.0 {
                    *latest = (*at, pair.peer);
                }
            }
        }
        let mut sockets: Vec<Socket> = by_fd.into_values().map(|(_, socket)| socket).collect();
        sockets.sort_unstable();
        sockets
    }

    /// What was found, in order, and what was left out.
    pub fn finish(self) -> (Vec<Pair>, Option<String>) {
        let mut pairs: Vec<Pair> = self.found.into_keys().collect();
        pairs.sort_unstable_by_key(|p| (p.pid, p.socket, p.peer_pid, p.peer));
        let note = (self.left_out > 0).then(|| {
            format!(
                "the other ends of some connections were not looked for: more than {MAX_ASKED} descriptors or {MAX_PAIRS} connections"
            )
        });
        (pairs, note)
    }
}

impl Session {
    /// Looks up descriptors that tasks wait on. Where another target holds the other end, that one's
    /// tasks are searched for those who serve the connection.
    pub(super) fn follow_descriptors(&mut self) {
        for (pid, sampler) in &self.samplers {
            let wanted = sampler.wanted();
            if self.targets.len() > 1 {
                self.peers.ask(*pid, &wanted);
            }
            self.state.want_descriptors(*pid, wanted);
        }
        let started = Instant::now();
        let early = self.peers.next.is_some_and(|next| started < next);
        if early || self.peers.asked.is_empty() {
            return;
        }
        let pids: Vec<Pid> = self
            .targets
            .iter()
            .filter(|t| t.ended.is_none() && self.state.launched != Some(t.process.id.pid))
            .map(|t| t.process.id.pid)
            .collect();
        let asked: Vec<(Pid, i32)> = std::mem::take(&mut self.peers.asked).into_iter().collect();
        let pairs = self.state.fds.pairs(&asked, &pids);
        for pair in pairs {
            if self.peers.found.len() < MAX_PAIRS || self.peers.found.contains_key(&pair) {
                self.peers.found.insert(pair, started);
            } else {
                self.peers.left_out += 1;
            }
        }
        for (pid, sampler) in &self.samplers {
            sampler.watch_connections(&self.peers.followed(*pid));
        }
        self.peers.looks += 1;
        let pause = match self.peers.looks {
            ..=FIRST_LOOKS => FIRST_PAUSE,
            _ => PAUSE.max(started.elapsed() * BUDGET),
        };
        self.peers.next = Some(started + pause);
    }
}

/// The connections, with those of the peer who have to do with them; `users` by process, where its tasks
/// are listed.
pub(super) fn connections(
    pairs: &[Pair],
    pids: &[Pid],
    users: &HashMap<Pid, Vec<Users>>,
    fds: &mut FdTable,
) -> Vec<Connection> {
    let index = |pid: Pid| pids.iter().position(|known| *known == pid);
    let mut out = Vec::new();
    for pair in pairs {
        let (Some(target), Some(peer_target)) = (index(pair.pid), index(pair.peer_pid)) else {
            continue;
        };
        let ours = fds.latest(pair.pid, pair.socket.fd);
        let listed = users.get(&pair.peer_pid);
        let found = listed
            .and_then(|all| all.iter().find(|users| users.socket == pair.peer))
            .filter(|users| users.samples > 0);
        let unknown = match (listed, found) {
            (None, _) => Some(Reason::new("its tasks can not be listed from outside")),
            (Some(_), None) => Some(Reason::new(
                "the connection was found too late to look for those who serve it",
            )),
            (_, Some(found)) if found.users.is_empty() => Some(Reason::with(format!(
                "in {} samples no task was seen to wait on it or to have it on its stack or in its future",
                found.samples
            ))),
            _ => None,
        };
        out.push(Connection {
            target,
            fd: pair.socket.fd,
            peer_target,
            peer_fd: pair.peer.fd,
            local: ours.local,
            peer: ours.peer,
            samples: found.map_or(0, |found| found.samples),
            users: found.map(|found| found.users.clone()).unwrap_or_default(),
            users_cut: found.is_some_and(|found| found.cut),
            unknown,
        });
    }
    out
}
