//! Descriptors to resources: which socket, file, pipe, timer... a descriptor is.
//!
//! Descriptors are looked up while the session runs, soon after the event that names them: later
//! they may be closed or mean something else. One table of all sockets serves many lookups.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::symbols::Cache;
use crate::model::{Pid, Resource};
use crate::sys::fds::{self, FdError, FdLink, FileKind};
use crate::sys::netlink::{self, Ends, Protocol, SocketFacts, Sockets};

/// Descriptors remembered (twice that for a moment).
const REMEMBERED: usize = 32 << 10;
/// Network namespaces whose sockets are held at a time.
const MAX_NAMESPACES: usize = 64;
/// How old the table of sockets may be for figures that change (queues).
pub(super) const SOCKETS_FRESH: Duration = Duration::from_millis(200);
/// A table that lacks a socket is older than the socket, or the socket is of another family. It is
/// read again at once while reading tables takes less than this share of the time...
const READING_SHARE: u32 = 20;
/// ...beyond a start of this much: on most hosts a table takes a millisecond.
const READING_START: Duration = Duration::from_millis(100);
/// How old it may be when it has one: a connection's ends do not change.
const SOCKETS_OLD: Duration = Duration::from_secs(5);
/// What is looked at again even though the descriptor still means the same: state, epoll watches.
const DETAILS_OLD: Duration = Duration::from_mins(1);
/// The same for a socket without a peer, which may be connecting.
const UNCONNECTED_OLD: Duration = Duration::from_secs(1);
/// A descriptor that is closed now very likely meant, so shortly before, what it was last.
const CLOSED_LATELY: Duration = Duration::from_secs(5);
/// State of a descriptor that was closed and opened again for something else.
const SEVERAL: &str = "several, one after the other";
/// Text of names that the target chose (paths, socket names), in bytes.
const MAX_NAME: usize = 4096;

#[derive(Debug, Clone)]
struct Seen {
    link: FdLink,
    resource: Resource,
    at: Instant,
    /// What all that it was had in common.
    always: Resource,
}

#[derive(Debug)]
struct SocketTable {
    sockets: Sockets,
    at: Instant,
    /// From /proc/PID/net: peers of unix sockets are not known.
    from_proc: bool,
}

/// One end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeEnd {
    /// Whose.
    pub pid: Pid,
    /// Its descriptor.
    pub fd: i32,
    /// It is the end that is written to.
    pub writes: bool,
}

/// Looks descriptors up and remembers them.
#[derive(Debug)]
pub struct FdTable {
    seen: Cache<(Pid, i32), Seen>,
    /// When a number was first found to be closed.
    closed: Cache<(Pid, i32), Instant>,
    /// How long after a wait its descriptor is looked at, at most: what is closed for longer was closed then.
    delay: Duration,
    tables: HashMap<u64, SocketTable>,
    own_namespace: Option<u64>,
    dumps: u64,
    started: Instant,
    reading: Duration,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl FdTable {
    /// Nothing looked up yet. `delay`: how long after a wait its descriptor is looked at, at most.
    pub fn new(delay: Duration) -> Self {
        Self {
            seen: Cache::new(REMEMBERED),
            closed: Cache::new(REMEMBERED),
            delay,
            tables: HashMap::new(),
            own_namespace: netlink::own_namespace(),
            dumps: 0,
            started: Instant::now(),
            reading: Duration::ZERO,
        }
    }

    /// Tables of sockets read so far: what many lookups share.
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    /// What descriptor `fd` of `pid` was whenever it was looked up by [`Self::resolve_now`], or is now
    /// when it never was. A number that stood for several things is shown with what they have in
    /// common: which of them a wait was for is not known. For sums, at the end of a session.
    pub fn resolve(&mut self, pid: Pid, fd: i32) -> Resource {
        match self.seen.get(&(pid, fd)) {
            Some(seen) => seen.always,
            None => self.resolve_now(pid, fd),
        }
    }

    /// The same when it was last looked up: for what is true of one moment.
    pub fn latest(&mut self, pid: Pid, fd: i32) -> Resource {
        match self.seen.get(&(pid, fd)) {
            Some(seen) => seen.resource,
            None => self.resolve_now(pid, fd),
        }
    }

    /// What descriptor `fd` of `pid` is now: one `readlink`, and more only when it means something
    /// new. A descriptor that is closed answers with what it was in the last seconds, else with
    /// the reason in `state`. Never fails.
    pub fn resolve_now(&mut self, pid: Pid, fd: i32) -> Resource {
        let before = self.seen.get(&(pid, fd));
        let link = match fds::link(pid, fd) {
            Ok(link) => link,
            Err(error) => {
                if error == FdError::Closed {
                    self.found_closed(pid, fd, before.as_ref());
                }
                return gone(fd, before, error);
            }
        };
        if let Some(before) = &before
            && before.link == link
            && before.at.elapsed() < lifetime(&before.resource)
        {
            return before.resource.clone();
        }
        let resource = self.look(pid, fd, &link);
        let was_closed = self.closed.get(&(pid, fd)).is_some();
        let seen = Seen {
            always: always(before.as_ref(), &link, &resource, was_closed),
            link,
            resource: resource.clone(),
            at: Instant::now(),
        };
        self.seen.insert((pid, fd), seen);
        resource
    }

    /// A number that was closed before and is closed again was open for something else in between, which
    /// nobody has looked at.
    fn found_closed(&mut self, pid: Pid, fd: i32, before: Option<&Seen>) {
        let Some(first) = self.closed.get(&(pid, fd)) else {
            self.closed.insert((pid, fd), Instant::now());
            return;
        };
        if let Some(before) = before
            && first.elapsed() > self.delay
        {
            let seen = Seen {
                always: one_of_several(&before.always),
                ..before.clone()
            };
            self.seen.insert((pid, fd), seen);
        }
    }

    /// The socket behind a descriptor, with its queues and timers as they are now (within
    /// [`SOCKETS_FRESH`]). `None`: no socket, closed, or of another family.
    pub fn socket(&mut self, pid: Pid, fd: i32) -> Option<SocketFacts> {
        let Ok(FdLink::Socket(inode)) = fds::link(pid, fd) else {
            return None;
        };
        self.table(pid, SOCKETS_FRESH).sockets.get(&inode).cloned()
    }

    /// Who holds the ends of the pipe `fd` of `pid`, among `candidates` (every other holder stays
    /// unknown). Reads every descriptor of the candidates: for findings, not for events.
    pub fn pipe_ends(&self, pid: Pid, fd: i32, candidates: &[Pid]) -> Vec<PipeEnd> {
        let Ok(wanted @ FdLink::Pipe(_)) = fds::link(pid, fd) else {
            return Vec::new();
        };
        let ends = |pid: Pid| {
            let wanted = wanted.clone();
            fds::list(pid)
                .unwrap_or_default()
                .into_iter()
                .filter(move |fd| fds::link(pid, *fd).is_ok_and(|link| link == wanted))
                .filter_map(move |fd| {
                    let writes = fds::info(pid, fd).ok()?.writes_only();
                    Some(PipeEnd { pid, fd, writes })
                })
        };
        candidates.iter().copied().flat_map(ends).collect()
    }

    /// Which of `candidates` holds the other end of a TCP connection of `pid` between `local` and
    /// `peer` (texts of [`Resource`]), when it is on this host.
    pub fn host_peer(
        &mut self,
        pid: Pid,
        local: &str,
        peer: &str,
        candidates: &[Pid],
    ) -> Option<Pid> {
        let (local, peer): (SocketAddr, SocketAddr) = (local.parse().ok()?, peer.parse().ok()?);
        let reversed = Ends::Inet {
            local: peer,
            peer: Some(local),
        };
        let table = self.table(pid, SOCKETS_OLD);
        let inode = table
            .sockets
            .iter()
            .find(|(_, s)| s.protocol == Protocol::Tcp && s.ends == reversed)
            .map(|(inode, _)| *inode)?;
        candidates.iter().copied().find(|candidate| {
            fds::list(*candidate).is_ok_and(|fds| {
                fds.into_iter()
                    .any(|fd| fds::link(*candidate, fd) == Ok(FdLink::Socket(inode)))
            })
        })
    }

    /// Drops all tables of sockets, so that the next lookup of a new descriptor reads them anew.
    pub fn refresh(&mut self) {
        self.tables.clear();
    }

    fn look(&mut self, pid: Pid, fd: i32, link: &FdLink) -> Resource {
        let mut resource = Resource {
            fd: Some(fd),
            ..Resource::default()
        };
        match link {
            FdLink::Socket(inode) => self.socket_resource(pid, *inode, &mut resource),
            FdLink::Pipe(inode) => {
                resource.kind = "pipe";
                resource.path = Some(format!("pipe:[{inode}]"));
                resource.state = fds::info(pid, fd).ok().map(|info| pipe_end(&info));
            }
            FdLink::Anonymous(name) => anonymous(pid, fd, name, &mut resource),
            FdLink::Path { path, deleted } => {
                let kind = fds::file_kind(pid, fd);
                resource.kind = match kind {
                    Ok(FileKind::Directory) => "directory",
                    Ok(FileKind::Device) => "device",
                    Ok(FileKind::Fifo) => "pipe",
                    _ => "file",
                };
                resource.path = Some(bounded(path));
                if *deleted {
                    resource.state = Some("deleted".to_owned());
                } else if kind == Ok(FileKind::Fifo) {
                    resource.state = fds::info(pid, fd).ok().map(|info| pipe_end(&info));
                }
            }
        }
        resource
    }

    fn socket_resource(&mut self, pid: Pid, inode: u64, resource: &mut Resource) {
        resource.kind = "socket";
        let wanted = self
            .table(pid, SOCKETS_OLD)
            .sockets
            .get(&inode)
            .map_or(Duration::ZERO, good_for);
        let may_read = self.reading < READING_START + self.started.elapsed() / READING_SHARE;
        let age = if may_read { wanted } else { SOCKETS_OLD };
        let table = self.table(pid, age);
        let Some(facts) = table.sockets.get(&inode) else {
            resource.state = Some("not a TCP, UDP or unix socket, or closed since".to_owned());
            return;
        };
        match &facts.ends {
            Ends::Inet { local, peer } => {
                resource.local = Some(local.to_string());
                resource.peer = peer.map(|peer| peer.to_string());
            }
            Ends::Unix { name, peer } => {
                let own = name.as_deref().map(bounded);
                let other = peer.and_then(|peer| match table.sockets.get(&peer).map(|s| &s.ends) {
                    Some(Ends::Unix { name, .. }) => name.as_deref().map(bounded),
                    _ => None,
                });
                resource.path = own.clone().or_else(|| other.clone());
                resource.local = own;
                // An unnamed peer is at least told apart from others.
                resource.peer = other.or_else(|| peer.map(|inode| format!("socket:[{inode}]")));
            }
        }
        let mut state = format!("{} {}", facts.protocol.as_str(), facts.state_name());
        if table.from_proc && facts.protocol == Protocol::Unix {
            state.push_str(" (in another network namespace: peer not known)");
        }
        resource.state = Some(state);
    }

    /// The sockets that `pid` sees, at most `age` old.
    pub(super) fn sockets(&mut self, pid: Pid, age: Duration) -> &Sockets {
        &self.table(pid, age).sockets
    }

    /// The same, with where they are from.
    fn table(&mut self, pid: Pid, age: Duration) -> &SocketTable {
        let namespace = netlink::namespace(pid);
        // A process that is gone gets an empty table of its own, never another one's sockets.
        let key = namespace.unwrap_or(0);
        let fresh = self
            .tables
            .get(&key)
            .is_some_and(|table| table.at.elapsed() < age);
        if !fresh {
            let started = Instant::now();
            self.dumps += 1;
            let own = namespace.is_some() && namespace == self.own_namespace;
            let by_netlink = if own { netlink::dump().ok() } else { None };
            let from_proc = by_netlink.is_none();
            let table = SocketTable {
                sockets: by_netlink.unwrap_or_else(|| netlink::read_tables(pid)),
                at: Instant::now(),
                from_proc,
            };
            self.reading += started.elapsed();
            if self.tables.len() >= MAX_NAMESPACES {
                self.tables.clear();
            }
            self.tables.insert(key, table);
        }
        self.tables.entry(key).or_insert_with(|| SocketTable {
            sockets: Sockets::new(),
            at: Instant::now(),
            from_proc: true,
        })
    }
}

/// How old what a table says of a socket may be: a connecting one gets its peer later.
fn good_for(facts: &SocketFacts) -> Duration {
    match &facts.ends {
        _ if facts.state_name() == "listen" => SOCKETS_OLD,
        Ends::Inet { peer: Some(_), .. } | Ends::Unix { peer: Some(_), .. } => SOCKETS_OLD,
        // Connected, and not accepted yet when the table was read.
        Ends::Unix { .. } if facts.state_name() == "established" => Duration::ZERO,
        _ => SOCKETS_FRESH,
    }
}

/// What a descriptor has been, now that it is `resource`. `was_closed`: some time before.
fn always(before: Option<&Seen>, link: &FdLink, resource: &Resource, was_closed: bool) -> Resource {
    match before {
        Some(before) if before.link == *link && before.always == before.resource => {
            resource.clone()
        }
        Some(before) => {
            let mut common = before.always.common(resource);
            if common != *resource {
                common.state = Some(SEVERAL.to_owned());
            }
            common
        }
        None if was_closed => one_of_several(resource),
        None => resource.clone(),
    }
}

/// A descriptor of which only one meaning is known: others were of the same kind, as far as can be told.
fn one_of_several(known: &Resource) -> Resource {
    Resource {
        kind: known.kind,
        fd: known.fd,
        state: Some(SEVERAL.to_owned()),
        ..Resource::default()
    }
}

fn lifetime(resource: &Resource) -> Duration {
    if resource.kind == "socket" && resource.peer.is_none() {
        UNCONNECTED_OLD
    } else {
        DETAILS_OLD
    }
}

fn gone(fd: i32, before: Option<Seen>, error: FdError) -> Resource {
    if let Some(before) = before
        // The dead open nothing new: what it was last is what it was.
        && (error == FdError::Exited || before.at.elapsed() < CLOSED_LATELY)
    {
        return before.resource;
    }
    Resource {
        kind: "descriptor",
        fd: Some(fd),
        state: Some(match error {
            FdError::Exited => "the process exited before it could be looked at".to_owned(),
            FdError::Closed => "closed before it could be looked at".to_owned(),
            FdError::Denied | FdError::Other(_) => error.to_string(),
        }),
        ..Resource::default()
    }
}

fn pipe_end(info: &fds::FdInfo) -> String {
    let end = if info.writes_only() {
        "write end"
    } else {
        "read end"
    };
    end.to_owned()
}

fn anonymous(pid: Pid, fd: i32, name: &str, resource: &mut Resource) {
    resource.kind = match name {
        "eventpoll" => "epoll",
        "eventfd" => "eventfd",
        "timerfd" => "timerfd",
        "signalfd" => "signalfd",
        "inotify" => "inotify",
        "fanotify" => "fanotify",
        "io_uring" => "io_uring",
        "pidfd" => "pidfd",
        _ => "anonymous",
    };
    match resource.kind {
        "epoll" => {
            resource.state = fds::info(pid, fd)
                .ok()
                .map(|info| match info.watched.len() {
                    1 => "watches 1 descriptor".to_owned(),
                    n => format!("watches {n} descriptors"),
                });
        }
        "anonymous" => resource.path = Some(bounded(name)),
        _ => {}
    }
}

/// A name that the target chose, without control characters and not longer than a path may be.
fn bounded(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end]
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
