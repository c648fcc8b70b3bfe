//! The verdict's words on the process at the other end of a connection, when it is a target too.

use super::phrase;
use crate::export::dto::{Connection, MeetingDoing, MeetingUser, Report};
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, percent};

/// The sentences: whose that end is, who serves it there, and what those do.
pub(super) fn sentences(report: &Report, doing: &MeetingDoing, out: &mut Vec<String>) {
    let Some(peer) = doing.peer_target else {
        return;
    };
    out.push(format!(
        "At the other end of that socket is {}.",
        phrase::target(report, peer)
    ));
    let connections: Vec<&Connection> = doing
        .connections
        .iter()
        .filter_map(|index| report.connections.get(*index))
        .collect();
    let users = || connections.iter().flat_map(|c| &c.users);
    let tasks = |function: Option<&String>| {
        let same = users().filter(|user| user.function.function.as_ref() == function);
        let mut ids: Vec<u64> = same.flat_map(|user| user.ids.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let waiting = || connections.iter().flat_map(|c| &c.waiting);
    if users().next().is_none()
        && let Some(user) = waiting().next()
    {
        let function = user
            .function
            .function
            .as_deref()
            .unwrap_or("an unknown place");
        out.push(format!(
            "There, as far as is known, a task only waits on it ({}), for this side to go on.",
            fit(function, 70)
        ));
        return;
    }
    let Some(most) = users().max_by_key(|user| tasks(user.function.function.as_ref()).len()) else {
        let reasons = || connections.iter().map(|c| c.users_unknown_reason.as_ref());
        out.push(match reasons().flatten().next() {
            Some(reason) => format!("Who serves it there is not known: {}.", fit(reason, 160)),
            None => "Who serves it there is not known.".to_owned(),
        });
        return;
    };
    let ids = tasks(most.function.function.as_ref());
    let same: Vec<&MeetingUser> = users()
        .filter(|user| user.function.function == most.function.function)
        .collect();
    let go = report
        .targets
        .get(peer)
        .is_some_and(|t| t.runtime.kind == "go");
    let noun = phrase::noun(if go { "goroutine" } else { "" }, ids.len() as u64);
    let one = ids.len() == 1;
    let who = match ids.as_slice() {
        [id] => format!("{noun}{NBSP}{id}"),
        _ => format!("{} {noun}", count(ids.len() as u64)),
    };
    let function = most.function.function.as_deref();
    let function = function.map(|f| format!(" ({})", fit(f, 70)));
    let (serves, s) = if one { ("serves", "s") } else { ("serve", "") };
    let mut text = format!("There {who}{} {serves} it", function.unwrap_or_default());
    if let Some((doing, share)) = mostly(&same) {
        let time = if one { "the time" } else { "their time" };
        text += &format!(" and spend{s} {} of {time} ", percent(share));
        text += &if doing.active {
            "on the CPU or ready for it".to_owned()
        } else {
            let place = phrase::place(&doing.site, 70, 50);
            format!("in {} at {place}", fit(&doing.what, 40))
        };
    }
    out.push(text + ".");
    let (seen, of) = same.iter().fold((0, 0), |(seen, of), user| {
        (seen + user.seen, of + user.seen_of)
    });
    let stack = if one { "its stack" } else { "their stacks" };
    let of = format!("{} of {} samples", count(seen), count(of));
    out.push(match most.evidence.as_str() {
        "seen_waiting" => format!("Seen waiting on it, or by {stack}, in {of}."),
        "stack_refers" => format!("Known by {stack}, which hold{s} the connection in {of}."),
        _ => format!("Likely by {stack}, which hold{s} an object with the connection in {of}."),
    });
}

/// What they do most, with its mean share.
fn mostly<'a>(users: &[&'a MeetingUser]) -> Option<(&'a MeetingDoing, f64)> {
    let all: f64 = users.iter().map(|user| user.seen_of as f64).sum();
    let mut sums: Vec<(&MeetingDoing, f64)> = Vec::new();
    for user in users {
        for doing in &user.doing {
            let part = doing.share * user.seen_of as f64 / all.max(1.0);
            let same = |known: &&mut (&MeetingDoing, f64)| {
                (&known.0.what, &known.0.site) == (&doing.what, &doing.site)
            };
            match sums.iter_mut().find(same) {
                Some(known) => known.1 += part,
                None => sums.push((doing, part)),
            }
        }
    }
    sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))
}
