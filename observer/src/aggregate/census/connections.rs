//! Connections that tasks of another target wait on, seen from the process that should answer: which of
//! its tasks wait on its own end or refer to it, and what those do.

use super::CensusLedger;
use super::people::{Doing, Doings, People, Person, Sums};
use super::rollup::Places;
use super::users;
use crate::model::census::{Census, CensusTask, Reference, TaskState, WaitsOn};
use crate::model::connection::{Socket, Users};
use crate::model::hashing::QuickMap;
use crate::model::meeting::{User, UserEvidence};
use crate::model::names::CensusNames;

/// Connections that are remembered.
const MAX_CONNECTIONS: usize = 1024;
/// Tasks that are remembered of one.
const MAX_USERS: usize = 16;

/// What one task had to do with a connection.
#[derive(Debug, Clone, Default)]
struct Use {
    /// An instruction in the function that refers to it, and what its frame holds.
    refers: Option<(Reference, u64)>,
    /// Samples in which it waited on the descriptor itself.
    waited: u64,
    /// Samples in which it referred to it.
    referred: u64,
    /// Samples in which it was listed, from the first of these on.
    listed: u64,
    /// What it did in these, and while it was running (then its stack can not be read).
    doings: Doings,
}

/// One connection.
#[derive(Debug, Clone, Default)]
struct Tally {
    samples: u64,
    users: QuickMap<u64, Use>,
    cut: bool,
}

/// The connections of a process that are looked for.
#[derive(Debug, Default)]
pub struct Connections {
    /// Descriptor and socket.
    watched: QuickMap<i32, u64>,
    tallies: QuickMap<Socket, Tally>,
    beyond: u64,
    /// Samples in which not every stack was looked at.
    cut: u64,
    /// References of this sample, by task.
    refers: QuickMap<u64, Vec<(Socket, Reference, u64)>>,
    /// Connections that a task has had to do with.
    of_task: QuickMap<u64, Vec<Socket>>,
}

impl Connections {
    /// Sets what is looked for in the next sample.
    pub(super) fn watch(&mut self, sockets: &[Socket], at_most: usize) {
        self.watched.clear();
        self.beyond += sockets.len().saturating_sub(at_most) as u64;
        let sockets = sockets.get(..at_most).unwrap_or(sockets);
        for socket in sockets {
            let full = self.tallies.len() >= MAX_CONNECTIONS;
            if full && !self.tallies.contains_key(socket) {
                self.beyond += 1;
                continue;
            }
            self.tallies.entry(*socket).or_default();
            self.watched.insert(socket.fd, socket.inode);
        }
    }

    fn socket(&self, fd: i32) -> Option<Socket> {
        let inode = *self.watched.get(&fd)?;
        Some(Socket { fd, inode })
    }

    /// Starts a sample.
    pub(super) fn begin(&mut self, census: &Census) {
        self.refers.clear();
        self.cut += u64::from(census.holders_cut);
        for (fd, inode) in &self.watched {
            let socket = Socket {
                fd: *fd,
                inode: *inode,
            };
            self.tallies.entry(socket).or_default().samples += 1;
        }
        for holder in &census.holders {
            if let Some(socket) = self.socket(holder.fd) {
                let refers = self.refers.entry(holder.task).or_default();
                refers.push((socket, holder.how, holder.pc));
            }
        }
    }

    /// Adds one task of the sample.
    pub(super) fn task(&mut self, task: &CensusTask, waits: &[WaitsOn], group: Option<u32>) {
        // What the runtime's own tasks hold is left over or passes by.
        if self.watched.is_empty() || task.system {
            return;
        }
        let fd = waits.iter().find_map(|w| w.fd);
        let waited = fd.and_then(|fd| self.socket(fd));
        let refers = self.refers.get(&task.id).map_or(&[][..], Vec::as_slice);
        let known = self.of_task.get(&task.id).map_or(&[][..], Vec::as_slice);
        if waited.is_none() && refers.is_empty() && known.is_empty() {
            return;
        }
        let mut sockets: Vec<Socket> = known.to_vec();
        sockets.extend(waited);
        sockets.extend(refers.iter().map(|(socket, ..)| *socket));
        sockets.sort_unstable();
        sockets.dedup();
        sockets.retain(|socket| self.watched.get(&socket.fd) == Some(&socket.inode));
        let doing = group.map(|group| Doing::of(group, waits));
        for socket in sockets {
            let Some(tally) = self.tallies.get_mut(&socket) else {
                continue;
            };
            if tally.users.len() >= MAX_USERS && !tally.users.contains_key(&task.id) {
                tally.cut = true;
                continue;
            }
            let of_task = self.of_task.entry(task.id).or_default();
            if !of_task.contains(&socket) {
                of_task.push(socket);
            }
            let user = tally.users.entry(task.id).or_default();
            user.listed += 1;
            let mut busy = task.state == TaskState::Running;
            let here = refers.iter().find(|(s, ..)| *s == socket);
            if let Some((_, how, pc)) = here
                && user.refers.is_none_or(|(known, _)| *how < known)
            {
                user.refers = Some((*how, *pc));
            }
            if waited == Some(socket) {
                user.waited += 1;
                busy = true;
            } else if here.is_some() {
                user.referred += 1;
                busy = true;
            }
            if let Some(doing) = doing.filter(|_| busy) {
                user.doings.add(doing);
            }
        }
    }

    /// Descriptors that these tasks waited on, too.
    pub(super) fn fds(&self) -> impl Iterator<Item = i32> + '_ {
        let users = self.tallies.values().flat_map(|tally| tally.users.values());
        users.flat_map(|user| user.doings.fds())
    }

    /// What a bound left out.
    pub(super) fn left_out(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.beyond > 0 {
            out.push(
                "who serves some connections to other targets was not looked for: there were too many of these"
                    .to_owned(),
            );
        }
        if self.cut > 0 {
            out.push(format!(
                "in {} samples not every stack was searched for connections to other targets",
                self.cut
            ));
        }
        out
    }
}

/// Who has to do with each connection that was looked for.
pub fn roll_up(ledger: &CensusLedger, names: &dyn CensusNames) -> Vec<Users> {
    let mut places = Places::default();
    let mut all: Vec<(&Socket, &Tally)> = ledger.connections.tallies.iter().collect();
    all.sort_unstable_by_key(|(socket, _)| **socket);
    all.into_iter()
        .map(|(socket, tally)| Users {
            socket: *socket,
            samples: tally.samples,
            users: users_of(ledger, names, &mut places, *socket, tally),
            cut: tally.cut,
        })
        .collect()
}

/// Whether tasks that hold an object with the connection are the best that is known: what lies beside a
/// small object looks as if it were part of it, so where others hold the connection itself they count.
fn guessed(tally: &Tally) -> bool {
    let referred = |direct: bool| {
        let users = tally.users.values();
        users
            .filter(move |u| {
                u.refers
                    .is_some_and(|(how, _)| (how <= Reference::Direct) == direct)
            })
            .map(|u| u.referred)
            .max()
            .unwrap_or(0)
    };
    referred(true) * 2 < referred(false)
}

/// A task that waits for new connections does nothing for this one: what its frame holds is from before.
fn accepts(names: &dyn CensusNames, doing: &Doing, socket: Socket) -> bool {
    doing.fd.filter(|fd| *fd != socket.fd).is_some_and(|fd| {
        let state = names.descriptor(fd).state;
        state.is_some_and(|state| state.split(' ').any(|word| word == "listen"))
    })
}

fn users_of(
    ledger: &CensusLedger,
    names: &dyn CensusNames,
    places: &mut Places,
    socket: Socket,
    tally: &Tally,
) -> Vec<User> {
    let related = guessed(tally);
    let mut people: People<Sums> = People::new();
    let mut order: Vec<(&u64, &Use)> = tally.users.iter().collect();
    order.sort_unstable_by_key(|(id, _)| **id);
    for (id, one) in order {
        if one.waited == 0 && !related && one.refers.is_some_and(|(how, _)| how > Reference::Direct)
        {
            continue;
        }
        let (waits_for_new, doings): (Vec<_>, Vec<_>) = one
            .doings
            .iter()
            .partition(|(doing, _)| accepts(names, doing, socket));
        let idle: u64 = waits_for_new.iter().map(|(_, n)| n).sum();
        let seen = (one.waited + one.referred).saturating_sub(idle);
        if seen == 0 {
            continue;
        }
        let waits = || {
            let mut here = doings.iter().filter(|(d, _)| d.fd == Some(socket.fd));
            here.next().map(|(doing, _)| doing.group)
        };
        let (function, evidence) = match one.refers {
            Some((how, pc)) => (
                names.function(pc),
                match (one.waited, how) {
                    (1.., _) => UserEvidence::SeenWaiting,
                    (0, Reference::Owned) => UserEvidence::Owns,
                    (0, Reference::Direct) => UserEvidence::StackRefers,
                    (0, _) => UserEvidence::ObjectRefers,
                },
            ),
            None => match waits().and_then(|group| ledger.groups().get(group as usize)) {
                Some(group) => (
                    places.of(ledger, &group.key, names),
                    UserEvidence::SeenWaiting,
                ),
                None => continue,
            },
        };
        let sums = people.add(Person {
            id: *id,
            direction: None,
            function,
            evidence,
            seen: (seen, one.listed),
        });
        sums.add(doings.into_iter());
    }
    people.finish(|user, sums| users::doing(ledger, names, places, (sums, user.seen.1)))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
