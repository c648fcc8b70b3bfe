//! What the kernel side measured of the tasks that others depend on: joined by target and task id.

use std::collections::HashMap;

use crate::model::TaskKind;
use crate::model::meeting::{Doing, Meeting, Source};
use crate::model::view::Blocking;

/// Different things that users do and are shown.
const MAX_DOINGS: usize = 8;
/// State of a census that the kernel side knows better.
const IN_SYSCALL: &str = "syscall";

/// Adds measured waits to what users of meeting points do. A census only estimates the time in system
/// calls: where both know something, the measurement stays.
pub fn join(meetings: &mut [Meeting], blocking: &[Blocking], window_ns: u64) {
    let mut by_task: HashMap<(usize, u64), Vec<(usize, u64)>> = HashMap::new();
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
    for meeting in meetings {
        let target = meeting.target;
        for user in &mut meeting.users {
            let mut sums: HashMap<usize, u64> = HashMap::new();
            for id in &user.ids {
                for (index, ns) in by_task.get(&(target, *id)).into_iter().flatten() {
                    *sums.entry(*index).or_default() += ns;
                }
            }
            if sums.is_empty() {
                continue;
            }
            user.doing.retain(|doing| doing.what != IN_SYSCALL);
            let all = window_ns.saturating_mul(user.ids.len() as u64).max(1) as f64;
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
                });
            }
            user.doing.sort_by(|a, b| {
                b.share
                    .total_cmp(&a.share)
                    .then_with(|| a.what.cmp(&b.what))
            });
            user.doing.truncate(MAX_DOINGS);
        }
    }
}
