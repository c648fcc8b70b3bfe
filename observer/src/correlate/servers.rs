//! Who serves connections, as far as that is known, and who may where it is not.

use std::cmp::Reverse;

use super::wait_graph::Facts;
use super::wording::{place_name, resource_name};
use crate::model::connection::Connection;
use crate::model::meeting::{Doing, User, UserEvidence};
use crate::model::view::Nature;
use crate::model::{Cause, Reason, TaskKind};

/// Those who serve some connections.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Tasks that do the same are one; best known first.
    pub users: Vec<User>,
    /// Those who only wait on their end, for this side to say something.
    pub waiting: Vec<User>,
    /// Why it is not known of some.
    pub unknown: Option<Reason>,
    /// Of how many, and how many there are.
    missing: (usize, usize),
}

impl Served {
    /// Those of which it is not known.
    pub fn which(&self) -> String {
        match self.missing {
            (n, of) if n < of => format!("{n} of {of} such connections"),
            _ => "it".to_owned(),
        }
    }
}

/// Who serves the connections with these indices.
pub(super) fn of(connections: &[Connection], which: &[usize]) -> Served {
    let mut served = Served::default();
    served.missing.1 = which.len();
    if which.is_empty() {
        served.unknown = Some(Reason::new(
            "its descriptor there was not found while it was open",
        ));
    }
    for connection in which.iter().filter_map(|index| connections.get(*index)) {
        if connection.users.is_empty() {
            served.missing.0 += 1;
            let reason = connection.unknown.clone();
            served.unknown = served.unknown.or(reason);
        }
        for user in &connection.users {
            let name = place_name(&user.function);
            let same = |known: &&mut User| place_name(&known.function) == name;
            let list = if connection.only_waits(user) {
                &mut served.waiting
            } else {
                &mut served.users
            };
            match list.iter_mut().find(same) {
                Some(known) => merge(known, user),
                None => list.push(user.clone()),
            }
        }
    }
    for list in [&mut served.users, &mut served.waiting] {
        list.sort_by_key(|user| {
            (
                user.evidence,
                Reverse(user.count),
                user.ids.first().copied(),
            )
        });
    }
    served
}

fn merge(into: &mut User, other: &User) {
    let (ours, theirs) = (into.seen.1.max(1) as f64, other.seen.1.max(1) as f64);
    for doing in &mut into.doing {
        doing.share *= ours / (ours + theirs);
    }
    for doing in &other.doing {
        let share = doing.share * theirs / (ours + theirs);
        let key = |d: &Doing| {
            let on = d.resource.as_ref();
            let on = on.map(|r| {
                (
                    r.kind,
                    r.path.clone(),
                    r.peer_service().map(str::to_owned),
                    r.address,
                )
            });
            (d.what.clone(), place_name(&d.site), on, d.source)
        };
        match into.doing.iter_mut().find(|d| key(d) == key(doing)) {
            Some(known) => {
                known.share += share;
                known.total_ns = known.total_ns.zip(doing.total_ns).map(|(a, b)| a + b);
                if let (Some(ours), Some(theirs)) = (&mut known.resource, &doing.resource) {
                    ours.keep_common(theirs);
                }
                for index in &doing.connections {
                    if !known.connections.contains(index) {
                        known.connections.push(*index);
                    }
                }
            }
            None => into.doing.push(Doing {
                share,
                ..doing.clone()
            }),
        }
    }
    into.doing.sort_by(|a, b| b.share.total_cmp(&a.share));
    for id in &other.ids {
        if !into.ids.contains(id) {
            into.ids.push(*id);
            into.count += 1;
        }
    }
    // The weakest that holds for all: who waits on it has it on the stack, too.
    into.evidence = into.evidence.max(other.evidence);
    into.seen.0 += other.seen.0;
    into.seen.1 += other.seen.1;
}

/// How it is known that tasks serve a connection, in words.
pub(super) fn evidence(user: &User) -> String {
    let (seen, of) = user.seen;
    match user.evidence {
        UserEvidence::SeenWaiting => {
            format!(
                "seen waiting on its other end, or with it on the stack or in its future, in {seen} of {of} samples"
            )
        }
        UserEvidence::Owns => {
            format!(
                "its future has the other end in {seen} of {of} samples, unless it gave that away"
            )
        }
        UserEvidence::IsTask | UserEvidence::HasGuard | UserEvidence::StackRefers => {
            format!("a frame of its stack holds its other end in {seen} of {of} samples")
        }
        UserEvidence::ObjectRefers => format!(
            "a frame of its stack holds an object with its other end in {seen} of {of} samples"
        ),
    }
}

/// What most tasks of a target wait on: in words, how many do, and how that is known.
pub(super) fn largest(
    facts: &Facts<'_>,
    target: usize,
    most: usize,
) -> Vec<(String, u64, &'static str)> {
    let mut groups: Vec<_> = facts
        .groups
        .iter()
        .filter(|g| g.target == target && g.mean >= 0.05)
        .filter(|g| g.nature == Nature::Blocked || g.state == "syscall")
        .collect();
    groups.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    let in_words = |what: &str, site: Option<String>, on: Option<String>| {
        let site = site.map(|site| format!(" at {site}")).unwrap_or_default();
        let on = on.map(|on| format!(" on {on}")).unwrap_or_default();
        format!("{what}{site}{on}")
    };
    if !groups.is_empty() {
        let evidence = "one of its largest groups of waiting tasks: whether they have to do with the \
                        connection is not known";
        return groups
            .into_iter()
            .take(most)
            .map(|g| {
                let what = g.wait_reason.as_ref().unwrap_or(&g.state);
                let on = g.resource.as_ref().filter(|r| r.state.is_none());
                let text = in_words(what, g.site.clone(), on.map(resource_name));
                (text, (g.mean.round() as u64).max(1), evidence)
            })
            .collect();
    }
    let evidence = "one of its largest waits, measured: whether it has to do with the connection is \
                    not known";
    let mut waits: Vec<_> = facts
        .blocking
        .iter()
        .filter(|b| b.target == target && b.cause != Cause::RunQueue)
        .collect();
    waits.sort_by_key(|b| Reverse(b.total_ns));
    waits
        .into_iter()
        .take(most)
        .map(|b| {
            let what = b.syscall.as_deref().unwrap_or(b.cause.as_str());
            let threads = b.tasks.iter().any(|t| t.task.kind == TaskKind::Thread);
            let what = if threads {
                format!("{what} (threads)")
            } else {
                what.to_owned()
            };
            let site = b.site.known().map(|_| place_name(&b.site));
            let text = in_words(&what, site, b.resource.as_ref().map(resource_name));
            (text, b.tasks_total.max(1), evidence)
        })
        .collect()
}
