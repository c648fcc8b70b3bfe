//! Channels, locks and the like at which tasks meet.

use super::frame::{Resource, Site};
use super::{schema, share};
use crate::model::connection as model;
use crate::model::meeting;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A channel, mutex, wait group... at which tasks of one target waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeetingPoint {
    /// Index into `targets`.
    pub target: usize,
    /// `channel`, `oneshot` (all channels for one value at one place), `mutex`, `rwmutex`, `wait_group`,
    /// `condition`, `semaphore`, `task` (its end is waited for).
    pub kind: String,
    /// Its address in the process, in hex.
    pub address: String,
    /// Elements that a channel held when last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
    /// Elements that a channel can hold; 0 is unbuffered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Samples that the figures are over.
    pub samples: u64,
    /// Many wait there for nearly nobody on the other side, or for one lock. Never true for tasks that
    /// wait to receive, which may just be without work.
    pub piled_up: bool,
    /// Those who wait there, most first.
    pub sides: Vec<MeetingSide>,
    /// Those who use it otherwise, as far as that is known.
    pub users: Vec<MeetingUser>,
}

/// Those who wait in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeetingSide {
    /// `send` or `receive` (of a reader-writer lock: to write or to read); absent when there is one
    /// side only, or when it could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// Waiting tasks at the last sample.
    pub count: u64,
    /// Mean over the samples.
    pub mean: f64,
    /// In the sample with most.
    pub max: u64,
    /// The longest wait by our own samples: a lower bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_ns: Option<u64>,
    /// Where they wait, most first; bounded.
    pub sites: Vec<MeetingSite>,
    /// Ids of a few of them.
    pub sample_ids: Vec<u64>,
}

/// A place where some of them wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeetingSite {
    /// The place.
    pub site: Site,
    /// Where these tasks were created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Their mean number over the samples.
    pub mean: f64,
}

/// Tasks that use it in one way from one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeetingUser {
    /// `send` or `receive`; absent when it could not be told. For a lock always absent: they may hold
    /// it, which Go does not record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// How many tasks.
    pub count: u64,
    /// Their ids; bounded.
    pub ids: Vec<u64>,
    /// The function that uses it.
    pub function: Site,
    /// How it is known: `seen_waiting` there itself; `is_task`: its end is waited for; `has_guard`: its
    /// future has a guard of it, perhaps one that it gave back; `owns`: it has the channel's other end, or
    /// the connection, perhaps one that it gave away;
    /// `stack_refers`: a frame holds the address, and
    /// its function does such things; `object_refers`: the same with an object that holds it.
    #[schemars(schema_with = "schema::user_evidence")]
    pub evidence: String,
    /// Samples in which this was seen, summed over the tasks.
    pub seen: u64,
    /// Of so many.
    pub seen_of: u64,
    /// What they did, most time first; bounded.
    pub doing: Vec<MeetingDoing>,
}

/// What users did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeetingDoing {
    /// A system call, a wait reason, or a state.
    pub what: String,
    /// Where.
    pub site: Site,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Part of the time, 0 to 1, mean over the tasks. For users of a lock: part of the samples in which
    /// they may have held it.
    pub share: f64,
    /// Time, summed over the tasks, when it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// `kernel`: measured. `census`: estimated from samples.
    #[schemars(schema_with = "schema::source")]
    pub source: String,
    /// On the CPU or ready: not a wait for something.
    pub active: bool,
    /// Index into `targets` of the process at the other end of a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_target: Option<usize>,
    /// Indices into `connections`: over which of these it leads into another target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<usize>,
    /// Descriptors that were not looked at for `connections`, because there were too many of them at
    /// this place; absent: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A connection on which tasks of one target wait and whose other end another target holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Index into `targets`: whose tasks wait.
    pub target: usize,
    /// Their descriptor.
    pub fd: i32,
    /// Index into `targets`: who holds the other end.
    pub peer_target: usize,
    /// The descriptor there.
    pub peer_fd: i32,
    /// Address of the end that is waited on; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Address of the other end; absent when it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Samples of the other target's tasks in which those who serve it were looked for.
    pub samples: u64,
    /// Tasks of the other target that only wait on their end: for this side, or for its end.
    pub waiting: Vec<MeetingUser>,
    /// Tasks of the other target that wait on their end (`seen_waiting`) or have it on their stack; what
    /// they did is over the samples in which they did or had. Empty: see `users_unknown_reason`.
    pub users: Vec<MeetingUser>,
    /// There were more users than were followed.
    pub users_cut: bool,
    /// Why no user is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_unknown_reason: Option<String>,
}

impl From<&model::Connection> for Connection {
    fn from(from: &model::Connection) -> Self {
        let users = |waiting: bool| {
            let users = from
                .users
                .iter()
                .filter(|user| from.only_waits(user) == waiting);
            users.map(MeetingUser::from).collect()
        };
        Self {
            target: from.target,
            fd: from.fd,
            peer_target: from.peer_target,
            peer_fd: from.peer_fd,
            local: from.local.clone(),
            peer: from.peer.clone(),
            samples: from.samples,
            waiting: users(true),
            users: users(false),
            users_cut: from.users_cut,
            users_unknown_reason: from.unknown.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&meeting::Meeting> for MeetingPoint {
    fn from(from: &meeting::Meeting) -> Self {
        Self {
            target: from.target,
            kind: from.kind.as_str().to_owned(),
            address: format!("{:#x}", from.address),
            len: from.len,
            capacity: from.capacity,
            samples: from.samples,
            piled_up: from.pile().is_some(),
            sides: from.sides.iter().map(MeetingSide::from).collect(),
            users: from.users.iter().map(MeetingUser::from).collect(),
        }
    }
}

impl From<&meeting::Side> for MeetingSide {
    fn from(from: &meeting::Side) -> Self {
        let site = |site: &meeting::SideSite| MeetingSite {
            site: (&site.site).into(),
            created_by: site.created_by.clone(),
            mean: share(site.mean),
        };
        Self {
            direction: from.direction.map(|d| d.as_str().to_owned()),
            count: from.last,
            mean: share(from.mean),
            max: from.max,
            oldest_ns: from.oldest_ns,
            sites: from.sites.iter().map(site).collect(),
            sample_ids: from.sample_ids.clone(),
        }
    }
}

impl From<&meeting::User> for MeetingUser {
    fn from(from: &meeting::User) -> Self {
        Self {
            direction: from.direction.map(|d| d.as_str().to_owned()),
            count: from.count,
            ids: from.ids.clone(),
            function: (&from.function).into(),
            evidence: from.evidence.as_str().to_owned(),
            seen: from.seen.0,
            seen_of: from.seen.1,
            doing: from.doing.iter().map(MeetingDoing::from).collect(),
        }
    }
}

impl From<&meeting::Doing> for MeetingDoing {
    fn from(from: &meeting::Doing) -> Self {
        Self {
            what: from.what.clone(),
            site: (&from.site).into(),
            resource: from.resource.as_ref().map(Resource::from),
            share: share(from.share),
            total_ns: from.total_ns,
            source: from.source.as_str().to_owned(),
            active: from.active,
            peer_target: from.peer_target,
            connections: from.connections.clone(),
            descriptors_left_out: from.fds_left_out,
        }
    }
}
