//! Futures that are known to wait for something, by their paths: as tokio 1.23 to 1.54 names them
//! (`sync/`, `time/`, `runtime/io/`, `runtime/task/join.rs`, `net/`).

use super::layout::Keeps;
use crate::model::census::{Direction, WaitKind};

/// How the thing that is waited for is found from a future or from an async function's variables.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Nothing,
    /// Members by name; `*` goes through a pointer. What is there is the thing's address.
    Address(&'static [&'static str]),
    /// A time: a member of it, or of one of these members.
    Deadline(&'static str, &'static [&'static str]),
    /// The file descriptor that is owned by what one of these members points to.
    Descriptor(&'static [&'static str]),
}

/// A kind of wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) kind: WaitKind,
    pub(super) direction: Option<Direction>,
    pub(super) how: How,
}

const fn rule(kind: WaitKind, direction: Option<Direction>, how: How) -> Rule {
    Rule {
        kind,
        direction,
        how,
    }
}

const SEND: Option<Direction> = Some(Direction::Send);
const RECEIVE: Option<Direction> = Some(Direction::Receive);

/// The future of the path (without parameters), if it is known.
pub(super) fn future(path: &str) -> Option<Rule> {
    use How::{Address, Deadline, Descriptor};
    Some(match path {
        "tokio::sync::batch_semaphore::Acquire" => {
            rule(WaitKind::Semaphore, None, Address(&["semaphore"]))
        }
        "tokio::sync::notify::Notified" => rule(WaitKind::Condition, None, Address(&["notify"])),
        "tokio::sync::notify::OwnedNotified" => rule(WaitKind::Condition, None, How::Nothing),
        // An `Option<Arc<Inner>>` is a pointer.
        "tokio::sync::oneshot::Receiver" | "futures_channel::oneshot::Receiver" => {
            rule(WaitKind::Oneshot, RECEIVE, Address(&["inner"]))
        }
        "tokio::sync::broadcast::Recv" => rule(
            WaitKind::Channel,
            RECEIVE,
            Address(&["receiver", "*", "shared"]),
        ),
        "tokio::runtime::task::join::JoinHandle" => rule(WaitKind::Task, None, Address(&["raw"])),
        "tokio::time::sleep::Sleep" => rule(
            WaitKind::Timer,
            None,
            // `inner` in tokio 1.23, `entry` in 1.32 to 1.49, its own in 1.54.
            Deadline("deadline", &["inner", "entry"]),
        ),
        // It waits for frames of its stream, which the connection's task reads.
        "h2::client::ResponseFuture" => {
            rule(WaitKind::Descriptor, RECEIVE, Address(&["inner", "inner"]))
        }
        "tokio::runtime::io::scheduled_io::Readiness" => {
            rule(WaitKind::Descriptor, None, How::Nothing)
        }
        _ => {
            let (module, _) = path.rsplit_once("::")?;
            let direction = match module.strip_prefix("tokio::io::util::")? {
                name if name.starts_with("read") => RECEIVE,
                name if ["write", "flush", "shutdown"]
                    .iter()
                    .any(|p| name.starts_with(p)) =>
                {
                    SEND
                }
                _ => return None,
            };
            let members = &["reader", "writer", "a"];
            rule(WaitKind::Descriptor, direction, Descriptor(members))
        }
    })
}

/// What the type of the path (without parameters) is to those who wait, when a task keeps one, and the
/// members on the way from it: of a guard to the semaphore that those who wait for the lock refer to; of
/// a channel's end to the pointer that the other end has, too; of a connection to the socket (tokio
/// `sync/`, `net/`, `io/split.rs`; an `Arc` is std's, `alloc/src/sync.rs`).
pub(super) fn kept(path: &str) -> Option<(Keeps, &'static [&'static str])> {
    const OWNED: &[&str] = &["lock", "ptr", "pointer", "*", "data", "s"];
    const SENDER: Keeps = Keeps::End(Direction::Send);
    const RECEIVER: Keeps = Keeps::End(Direction::Receive);
    match path {
        "futures_channel::oneshot::Sender" => return Some((SENDER, &["inner"])),
        "futures_channel::oneshot::Receiver" => return Some((RECEIVER, &["inner"])),
        // What a connection shares with its streams lies behind an `Arc` of all of them (h2 0.4 `proto/`).
        "h2::proto::streams::streams::OpaqueStreamRef" => {
            return Some((Keeps::Stream, &["inner"]));
        }
        "h2::client::ResponseFuture" => return Some((Keeps::Stream, &["inner", "inner"])),
        "h2::proto::connection::Connection" => {
            return Some((Keeps::Streams, &["inner", "streams", "inner"]));
        }
        _ => {}
    }
    let (_, name) = path.rsplit_once("::")?;
    let module = path.strip_prefix("tokio::")?;
    Some(match module {
        "sync::mutex::MutexGuard" => (Keeps::Guard(WaitKind::Mutex), &["lock", "*", "s"]),
        "sync::mutex::MappedMutexGuard" => (Keeps::Guard(WaitKind::Mutex), &["s", "*"]),
        "sync::mutex::OwnedMutexGuard" => (Keeps::Guard(WaitKind::Mutex), OWNED),
        "sync::rwlock::read_guard::RwLockReadGuard"
        | "sync::rwlock::write_guard::RwLockWriteGuard" => {
            (Keeps::Guard(WaitKind::RwMutex), &["s", "*"])
        }
        "sync::rwlock::owned_read_guard::OwnedRwLockReadGuard"
        | "sync::rwlock::owned_write_guard::OwnedRwLockWriteGuard" => {
            (Keeps::Guard(WaitKind::RwMutex), OWNED)
        }
        "sync::semaphore::SemaphorePermit" => {
            (Keeps::Guard(WaitKind::Semaphore), &["sem", "*", "ll_sem"])
        }
        "sync::semaphore::OwnedSemaphorePermit" => (
            Keeps::Guard(WaitKind::Semaphore),
            &["sem", "ptr", "pointer", "*", "data", "ll_sem"],
        ),
        "sync::mpsc::bounded::Sender" | "sync::mpsc::unbounded::UnboundedSender" => {
            (SENDER, &["chan", "inner"])
        }
        "sync::mpsc::bounded::Receiver" | "sync::mpsc::unbounded::UnboundedReceiver" => {
            (RECEIVER, &["chan", "inner"])
        }
        "sync::oneshot::Sender" => (SENDER, &["inner"]),
        "sync::oneshot::Receiver" => (RECEIVER, &["inner"]),
        "sync::broadcast::Sender" | "sync::watch::Sender" => (SENDER, &["shared"]),
        "sync::broadcast::Receiver" | "sync::watch::Receiver" => (RECEIVER, &["shared"]),
        "net::tcp::stream::TcpStream" | "net::unix::stream::UnixStream" => (Keeps::Connection, &[]),
        _ if module.starts_with("net::") && matches!(name, "OwnedReadHalf" | "OwnedWriteHalf") => {
            (Keeps::Connection, &["inner", "ptr", "pointer", "*", "data"])
        }
        "io::split::ReadHalf" | "io::split::WriteHalf" => (
            Keeps::Connection,
            &["inner", "ptr", "pointer", "*", "data", "stream"],
        ),
        _ => return None,
    })
}

/// A connection that a future written by hand drives. When that future polls nothing that is known, it waits
/// for the socket if none of the options in `none` has a value. A path that leads to no member does not count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Driver {
    pub(super) socket: &'static [&'static str],
    pub(super) none: &'static [&'static [&'static str]],
}

/// hyper 0.14 and 1 (`proto/h1/dispatch.rs`). A server's has a handler `in_flight` or a body that it sends, else
/// it waits for the next request, or to write the rest of an answer; a client's sends a body, or waits for an
/// answer, for the other side to close, and for the next request of its own program.
///
/// h2 0.4 (`proto/connection.rs`): its streams are polled by others.
pub(super) fn driver(path: &str) -> Option<Driver> {
    match path {
        "hyper::proto::h1::dispatch::Dispatcher" => Some(Driver {
            socket: &["conn", "io"],
            none: &[&["dispatch", "in_flight"], &["body_rx"]],
        }),
        "h2::proto::connection::Connection" => Some(Driver {
            socket: &["codec"],
            none: &[],
        }),
        _ => None,
    }
}

/// Whether a type of that name (without its path) may be one that [`kept`] knows.
pub(super) fn may_be_kept(name: &[u8]) -> bool {
    let name = name.split(|c| *c == b'<').next().unwrap_or(name);
    [
        &b"Guard"[..],
        b"Permit",
        b"Sender",
        b"Receiver",
        b"Stream",
        b"StreamRef",
        b"Connection",
        b"ResponseFuture",
        b"Half",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

/// The async function of the path (without `impl` blocks and parameters), if it is known: it tells
/// what its innermost future waits for better than that one does.
pub(super) fn function(path: &str) -> Option<Rule> {
    const CHANNEL: How = How::Address(&["self", "*", "chan", "inner"]);
    let (module, name) = path.rsplit_once("::")?;
    let starts = |prefix: &str| name.starts_with(prefix);
    Some(match module {
        "tokio::sync::mutex" => rule(WaitKind::Mutex, None, How::Nothing),
        "tokio::sync::rwlock" if starts("read") => rule(WaitKind::RwMutex, RECEIVE, How::Nothing),
        "tokio::sync::rwlock" if starts("write") => rule(WaitKind::RwMutex, SEND, How::Nothing),
        "tokio::sync::mpsc::bounded" | "tokio::sync::mpsc::unbounded" if starts("recv") => {
            rule(WaitKind::Channel, RECEIVE, CHANNEL)
        }
        "tokio::sync::mpsc::bounded" if starts("send") || starts("reserve") => {
            rule(WaitKind::Channel, SEND, CHANNEL)
        }
        "tokio::sync::watch" if starts("changed") || starts("wait_for") => rule(
            WaitKind::Channel,
            RECEIVE,
            How::Address(&["self", "*", "shared"]),
        ),
        "tokio::task::join_set" => rule(WaitKind::Task, None, How::Nothing),
        _ if module.starts_with("tokio::net::") => {
            let direction = match name {
                _ if ["accept", "read", "recv", "peek"].iter().any(|p| starts(p)) => RECEIVE,
                _ if ["connect", "write", "send"].iter().any(|p| starts(p)) => SEND,
                _ => None,
            };
            rule(WaitKind::Descriptor, direction, How::Descriptor(&["self"]))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn futures_and_functions_are_told_by_their_paths() {
        let kind = |rule: Option<Rule>| rule.map(|rule| (rule.kind, rule.direction));
        for (path, wanted) in [
            ("tokio::time::sleep::Sleep", Some((WaitKind::Timer, None))),
            (
                "tokio::io::util::read_exact::ReadExact",
                Some((WaitKind::Descriptor, RECEIVE)),
            ),
            ("tokio::io::util::copy::Copy", None),
            ("app::Sleep", None),
            ("Sleep", None),
        ] {
            assert_eq!(kind(future(path)), wanted, "{path}");
        }
        for (path, wanted) in [
            ("tokio::sync::mutex::lock", Some((WaitKind::Mutex, None))),
            (
                "tokio::sync::rwlock::write_owned",
                Some((WaitKind::RwMutex, SEND)),
            ),
            (
                "tokio::sync::mpsc::unbounded::recv_many",
                Some((WaitKind::Channel, RECEIVE)),
            ),
            (
                "tokio::net::tcp::listener::accept",
                Some((WaitKind::Descriptor, RECEIVE)),
            ),
            ("app::mutex::lock", None),
            ("lock", None),
        ] {
            assert_eq!(kind(function(path)), wanted, "{path}");
        }
    }
}
