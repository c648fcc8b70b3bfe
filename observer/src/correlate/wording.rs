//! How the graph names things, and says how they are known.

use crate::model::census::{Direction, WaitKind};
use crate::model::connection::Connection;
use crate::model::meeting::{Meeting, User, UserEvidence};
use crate::model::{Frame, Known, Resource};

/// Where the place is not known.
pub(super) const UNKNOWN_PLACE: &str = "an unknown place";

/// `goroutine`, `12 goroutines`.
pub(super) fn counted(noun: &str, n: u64) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

pub(super) fn place_name(site: &Known<Frame>) -> String {
    site.known()
        .and_then(frame_name)
        .unwrap_or_else(|| UNKNOWN_PLACE.to_owned())
}

pub(super) fn frame_name(frame: &Frame) -> Option<String> {
    let function = frame.function.clone()?;
    Some(match (&frame.file, frame.line) {
        (Some(file), Some(line)) => {
            let short = file.rsplit('/').next().unwrap_or(file);
            format!("{function} {short}:{line}")
        }
        _ => function.to_string(),
    })
}

/// What connections have in common.
pub(super) fn socket_name<'a>(connections: impl Iterator<Item = &'a Connection>) -> String {
    let mut sockets = connections.map(|connection| Resource {
        kind: "socket",
        local: connection.local.clone(),
        peer: connection.peer.clone(),
        ..Resource::default()
    });
    let mut common = sockets.next().unwrap_or(Resource {
        kind: "socket",
        ..Resource::default()
    });
    sockets.for_each(|socket| common.keep_common(&socket));
    resource_name(&common)
}

pub(super) fn resource_name(resource: &Resource) -> String {
    let kind = resource.kind;
    match (&resource.path, &resource.local, &resource.peer) {
        (Some(path), ..) => format!("{kind} {path}"),
        (_, Some(local), Some(peer)) => format!("{kind} {local} -> {peer}"),
        (_, None, Some(peer)) => format!("{kind} to {peer}"),
        (_, Some(local), None) => format!("{kind} at {local}"),
        _ => match resource.fd {
            Some(fd) => format!("{kind} fd {fd}"),
            None => kind.to_owned(),
        },
    }
}

pub(super) fn purpose(kind: WaitKind, direction: Option<Direction>) -> &'static str {
    match (kind, direction) {
        (WaitKind::Channel, Some(Direction::Send)) => " to send",
        (WaitKind::Channel, Some(Direction::Receive)) => " to receive",
        (WaitKind::RwMutex, Some(Direction::Send)) => " to write",
        (WaitKind::RwMutex, Some(Direction::Receive)) => " to read",
        _ => "",
    }
}

pub(super) fn relation(meeting: &Meeting, user: &User) -> &'static str {
    match (meeting.kind, user.direction) {
        (WaitKind::Channel, Some(Direction::Send)) | (WaitKind::Task | WaitKind::Oneshot, _) => {
            "wakes"
        }
        (WaitKind::Channel, _) => "consumes",
        _ => "holds",
    }
}

/// How it is known that tasks use a meeting point, in words.
pub(super) fn evidence(kind: WaitKind, user: &User) -> String {
    let (seen, of) = user.seen;
    let does = match (kind, user.direction) {
        (WaitKind::Channel, Some(Direction::Receive)) => "receives from channels",
        (WaitKind::Channel, Some(Direction::Send)) => "sends to channels",
        (WaitKind::Channel, None) => "sends or receives on channels",
        _ => "locks mutexes: it may hold it, Go does not record who does",
    };
    match user.evidence {
        UserEvidence::SeenWaiting => format!(
            "seen waiting{} there in {seen} of {of} samples",
            purpose(kind, user.direction)
        ),
        UserEvidence::IsTask => "its end is what is waited for".to_owned(),
        UserEvidence::HasGuard => {
            format!(
                "its future has a guard of it in {seen} of {of} samples; one that it gave back stays there, too"
            )
        }
        UserEvidence::Owns if kind == WaitKind::Oneshot => {
            format!("its future had the other end, unless it gave that away; seen {seen} times")
        }
        UserEvidence::Owns => format!(
            "its future has the channel's {} in {seen} of {of} samples, unless it gave that away",
            match user.direction {
                Some(Direction::Receive) => "receiver",
                Some(Direction::Send) => "sender",
                None => "sender and receiver",
            }
        ),
        UserEvidence::StackRefers => format!(
            "its frame holds the address in {seen} of {of} samples, and that function {does}"
        ),
        UserEvidence::ObjectRefers => format!(
            "its frame holds an object with the address in {seen} of {of} samples, and that function {does}"
        ),
    }
}
