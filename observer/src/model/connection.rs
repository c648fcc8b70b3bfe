//! Connections between two targets: who waits on one end, and who has to do with the other.

use super::known::Reason;
use super::meeting::User;

/// One end of a connection in the process that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    /// Its descriptor.
    pub fd: i32,
    /// The socket's inode: another connection under the same descriptor has another one.
    pub inode: u64,
}

/// Tasks of one process that have to do with one end of a connection.
#[derive(Debug, Clone)]
pub struct Users {
    /// That end.
    pub socket: Socket,
    /// Samples in which they were looked for.
    pub samples: u64,
    /// Those who waited on it or referred to it; bounded.
    pub users: Vec<User>,
    /// There were more.
    pub cut: bool,
}

/// A connection on which tasks of one target wait and whose other end another target holds.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Whose tasks wait: index into `View::targets`.
    pub target: usize,
    /// Their descriptor.
    pub fd: i32,
    /// Who holds the other end: index into `View::targets`.
    pub peer_target: usize,
    /// Its descriptor there.
    pub peer_fd: i32,
    /// Address of the end that is waited on, when it has one.
    pub local: Option<String>,
    /// Address of the other end.
    pub peer: Option<String>,
    /// Samples of the other target's tasks in which those who serve it were looked for.
    pub samples: u64,
    /// Tasks of the other target that have to do with it.
    pub users: Vec<User>,
    /// There were more.
    pub users_cut: bool,
    /// Why none of them is known.
    pub unknown: Option<Reason>,
}

impl Connection {
    /// Whether a task of the other target does nothing but wait on its end: then it waits for this one,
    /// or watches whether the connection is closed.
    pub fn only_waits(&self, user: &User) -> bool {
        let share = |own: bool| {
            let doings = user.doing.iter();
            let on_it = |fds: &[i32]| fds == [self.peer_fd];
            let part = doings.filter(|doing| on_it(&doing.fds) == own);
            part.map(|doing| doing.share).sum::<f64>()
        };
        share(true) > 9.0 * share(false)
    }
}
