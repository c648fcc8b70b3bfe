//! What the kernel side measured of the tasks that others depend on: joined by target and task id.

use std::collections::HashMap;

use crate::model::census::WaitKind;
use crate::model::connection::Connection;
use crate::model::meeting::{Doing, Meeting, Source, User};
use crate::model::view::{Blocking, CensusGroup};
use crate::model::{Frame, Known, TaskKind};

/// Different things that users do and are shown.
const MAX_DOINGS: usize = 8;
/// State of a census that the kernel side knows better.
const IN_SYSCALL: &str = "syscall";
/// State of a census.
const RUNNING: &str = "running";

/// A census does not tell in which system call a task is: the kernel side knows what these tasks do at
/// the same place.
fn name_syscalls(user: &mut User, target: usize, blocking: &[Blocking]) {
    let line = |site: &Known<Frame>| site.known().map(|f| (f.function.clone(), f.line));
    for doing in user.doing.iter_mut().filter(|d| d.what == IN_SYSCALL) {
        let place = line(&doing.site);
        let same = |entry: &&Blocking| {
            let mine = |id: u64| user.ids.contains(&id);
            entry.target == target
                && entry.syscall.is_some()
                && place.is_some()
                && line(&entry.site) == place
                && entry.tasks.iter().any(|share| mine(share.task.id))
        };
        if let Some(entry) = blocking.iter().find(same) {
            doing.what = entry.syscall.clone().unwrap_or_default();
            doing.resource.clone_from(&entry.resource);
        }
    }
}

/// Which entries the tasks of a target are in, and with how much time.
type ByTask = HashMap<(usize, u64), Vec<(usize, u64)>>;

fn by_task(blocking: &[Blocking]) -> ByTask {
    let mut by_task = ByTask::new();
    for (index, entry) in blocking.iter().enumerate() {
        for share in &entry.tasks {
            if share.task.kind != TaskKind::Thread {
                by_task
                    .entry((entry.target, share.task.id))
                    .or_default()
                    .push((index, share.total_ns));
            }
        }
    }
    by_task
}

/// Adds measured waits to what users of meeting points do. A census only estimates the time in system
/// calls: where both know something, the measurement stays.
pub fn join(meetings: &mut [Meeting], blocking: &[Blocking], window_ns: u64) {
    let by_task = by_task(blocking);
    for meeting in meetings {
        let target = meeting.target;
        let lock = !matches!(meeting.kind, WaitKind::Channel | WaitKind::Oneshot);
        for user in &mut meeting.users {
            if lock {
                // It goes from hand to hand: their time in all says nothing of the time they hold it.
                name_syscalls(user, target, blocking);
            } else {
                measure(user, target, (&by_task, blocking), window_ns);
            }
        }
    }
}

/// The same for those who serve connections.
pub fn join_servers(connections: &mut [Connection], blocking: &[Blocking], window_ns: u64) {
    let by_task = by_task(blocking);
    for connection in connections {
        for user in &mut connection.users {
            // Those who do other things too: their time in all says nothing of this connection.
            if user.seen.0 * 10 >= user.seen.1 * 9 {
                let target = connection.peer_target;
                measure(user, target, (&by_task, blocking), window_ns);
            } else {
                name_syscalls(user, connection.peer_target, blocking);
            }
        }
    }
}

/// A connection's index, the address of its other end, and whose that is.
type Lead = (usize, Option<String>, usize);

/// Says that tasks wait on more descriptors at one place than were looked at.
pub fn left_out(meetings: &[Meeting], connections: &[Connection]) -> Option<String> {
    let users = meetings.iter().flat_map(|meeting| &meeting.users);
    let users = users.chain(connections.iter().flat_map(|connection| &connection.users));
    let left_out = users.flat_map(|user| &user.doing).map(|d| d.fds_left_out);
    let most = left_out.max().filter(|most| *most > 0)?;
    Some(format!(
        "tasks wait on more descriptors at one place than are kept ({most} left out): connections \
         to other targets may be missing there"
    ))
}

/// Fills in which connections to other targets what tasks do leads over.
pub fn lead_on(
    meetings: &mut [Meeting],
    connections: &mut [Connection],
    groups: &mut [CensusGroup],
) {
    let mut by_fd: HashMap<(usize, i32), Vec<Lead>> = HashMap::new();
    for (index, connection) in connections.iter().enumerate() {
        let found = (index, connection.peer.clone(), connection.peer_target);
        let key = (connection.target, connection.fd);
        by_fd.entry(key).or_default().push(found);
    }
    let lead = |user: &mut User, target: usize| {
        for doing in &mut user.doing {
            let peer = doing.resource.as_ref().and_then(|r| r.peer.clone());
            for (index, to, peer_target) in doing
                .fds
                .iter()
                .filter_map(|fd| by_fd.get(&(target, *fd)))
                .flatten()
            {
                let same = peer.is_none() || *to == peer;
                if same && *doing.peer_target.get_or_insert(*peer_target) == *peer_target {
                    doing.connections.push(*index);
                }
            }
        }
    };
    for group in groups {
        let found = group.fds.iter();
        let found = found.filter_map(|fd| by_fd.get(&(group.target, *fd)));
        // Of several connections under one number it is not known which one is meant.
        let only = found.filter_map(|found| match found.as_slice() {
            [(index, ..)] => Some(*index),
            _ => None,
        });
        group.connections.extend(only);
    }
    for meeting in meetings {
        let target = meeting.target;
        meeting.users.iter_mut().for_each(|u| lead(u, target));
    }
    for connection in connections {
        let target = connection.peer_target;
        connection.users.iter_mut().for_each(|u| lead(u, target));
    }
}

fn measure(
    user: &mut User,
    target: usize,
    (by_task, blocking): (&ByTask, &[Blocking]),
    window_ns: u64,
) {
    let mut sums: HashMap<usize, u64> = HashMap::new();
    for id in &user.ids {
        for (index, ns) in by_task.get(&(target, *id)).into_iter().flatten() {
            *sums.entry(*index).or_default() += ns;
        }
    }
    if sums.is_empty() {
        return;
    }
    user.doing.retain(|doing| doing.what != IN_SYSCALL);
    let all = window_ns.saturating_mul(user.ids.len() as u64).max(1) as f64;
    let mut sums: Vec<(usize, u64)> = sums.into_iter().collect();
    sums.sort_unstable();
    for (index, ns) in sums {
        let Some(entry) = blocking.get(index) else {
            continue;
        };
        user.doing.push(Doing {
            what: entry
                .syscall
                .clone()
                .unwrap_or_else(|| entry.cause.as_str().to_owned()),
            site: entry.site.clone(),
            resource: entry.resource.clone(),
            share: (ns as f64 / all).min(1.0),
            total_ns: Some(ns),
            source: Source::Kernel,
            active: entry.cause == crate::model::Cause::RunQueue,
            peer_target: None,
            fds: entry.resource.iter().filter_map(|r| r.fd).collect(),
            fds_left_out: 0,
            connections: Vec::new(),
        });
    }
    // A census calls a task running that is being polled, whatever the poll does.
    let sum: f64 = user.doing.iter().map(|doing| doing.share).sum();
    if let Some(running) = user.doing.iter_mut().find(|doing| doing.what == RUNNING) {
        running.share = (running.share - (sum - 1.0).max(0.0)).max(0.0);
    }
    user.doing
        .retain(|doing| doing.what != RUNNING || doing.share >= 0.005);
    user.doing.sort_by(|a, b| {
        b.share
            .total_cmp(&a.share)
            .then_with(|| a.what.cmp(&b.what))
    });
    user.doing.truncate(MAX_DOINGS);
}
