//! The verdict on a pile-up: who waits at which channel or lock, and what those do who could end it.

use super::phrase;
use crate::export::dto::{Blocking, MeetingDoing, MeetingPoint, MeetingSide, MeetingUser, Report};
use crate::export::text::clean::{clean, fit};
use crate::export::text::units::{NBSP, count, duration, percent};

/// How far a chain of meeting points is followed in words.
const DEPTH: usize = 3;
/// Tasks that may hold a lock and are named besides the first.
const HOLDERS: usize = 2;
/// What users do for less than this part of their time is not spoken of.
const WORTH_SAYING: f64 = 0.1;

/// The largest pile-up of a report, if there is one.
pub fn worst(report: &Report) -> Option<&MeetingPoint> {
    // They are sorted by waiting tasks.
    report.meeting_points.iter().find(|point| point.piled_up)
}

/// Whether a blocked entry is what users of this meeting point spend their time in: then the pile-up
/// has told it already.
pub fn tells(point: &MeetingPoint, entry: &Blocking) -> bool {
    let what = entry.syscall.as_ref().unwrap_or(&entry.cause);
    point.target == entry.target
        && point
            .users
            .iter()
            .flat_map(|user| &user.doing)
            .any(|doing| {
                doing.share >= WORTH_SAYING
                    && doing.what == *what
                    && doing.site.function == entry.site.function
            })
}

/// The sentences.
pub fn sentences(report: &Report, point: &MeetingPoint) -> Vec<String> {
    let Some(side) = point.sides.first() else {
        return Vec::new();
    };
    let mut out = vec![crowd(report, point, side)];
    follow(report, point, DEPTH, &mut vec![&point.address], &mut out);
    let others = || report.meeting_points.iter().filter(|p| p.piled_up);
    if let Some((next, side)) = others()
        .filter(|p| (p.target, &p.address) != (point.target, &point.address))
        .find_map(|p| Some((p, p.sides.first()?)))
    {
        out.push(format!(
            "Also piled up: {} at {}{}.",
            count(side.mean.round() as u64),
            name(next),
            place(side)
        ));
    }
    out
}

fn is_go(report: &Report, target: usize) -> bool {
    report
        .targets
        .get(target)
        .is_some_and(|t| t.runtime.kind == "go")
}

fn noun(report: &Report, target: usize, n: u64) -> &'static str {
    let go = is_go(report, target);
    phrase::noun(if go { "goroutine" } else { "" }, n)
}

/// `channel 0xc000123400 (unbuffered)`.
fn name(point: &MeetingPoint) -> String {
    let kind = clean(&point.kind).replace('_', " ");
    let fill = match (point.len, point.capacity) {
        (_, Some(0)) => " (unbuffered)".to_owned(),
        (Some(len), Some(capacity)) => {
            format!(" ({} of {} buffered)", count(len), count(capacity))
        }
        _ => String::new(),
    };
    format!("{kind}{NBSP}{}{fill}", clean(&point.address))
}

fn place(side: &MeetingSide) -> String {
    side.sites
        .first()
        .map(|s| format!(", at {}", phrase::place(&s.site, 70, 50)))
        .unwrap_or_default()
}

fn crowd(report: &Report, point: &MeetingPoint, side: &MeetingSide) -> String {
    let mean = side.mean.round() as u64;
    let states = report.targets.get(point.target).map(|t| {
        let tasks = &t.tasks;
        [
            tasks.running,
            tasks.runnable,
            tasks.waiting,
            tasks.in_syscall,
        ]
    });
    // At the last sample: it says nothing when the crowd had gone by then.
    let all = states
        .map(|states| states.into_iter().flatten().sum::<u64>())
        .filter(|all| *all >= mean && side.count * 2 >= mean);
    let of = all
        .map(|all| format!(" of {}", count(all)))
        .unwrap_or_default();
    let does = match (point.kind.as_str(), side.direction.as_deref()) {
        ("channel", Some("send")) => "wait to send on",
        ("channel", _) => "wait at",
        ("rwmutex", Some("send")) => "wait to lock for writing",
        ("rwmutex", Some("receive")) => "wait to lock for reading",
        _ => "wait for",
    };
    let mut text = format!(
        "{}{of} {}",
        count(mean),
        noun(report, point.target, all.unwrap_or(mean)),
    );
    if report.targets.len() > 1 {
        text += &format!(" of {}", phrase::target(report, point.target));
    }
    text += &format!(" {does} {}{}", name(point), place(side));
    let mut details = Vec::new();
    if point.samples > 1 {
        details.push(format!("mean of {} samples", count(point.samples)));
        if side.max > mean + mean / 10 {
            details.push(format!("at most {}", count(side.max)));
        }
    }
    if let Some(oldest) = side.oldest_ns {
        details.push(format!("the longest for at least {}", duration(oldest)));
    }
    if !details.is_empty() {
        text += &format!(": {}", details.join(", "));
    }
    text + "."
}

/// Those who could end the waits, what they do, and so on where that leads to another meeting point.
fn follow<'a>(
    report: &'a Report,
    point: &'a MeetingPoint,
    depth: usize,
    seen: &mut Vec<&'a String>,
    out: &mut Vec<String>,
) {
    let direction = point
        .sides
        .first()
        .and_then(|side| side.direction.as_deref());
    let mut users = point
        .users
        .iter()
        .filter(|user| user.direction.is_none() || user.direction.as_deref() != direction);
    let Some(user) = users.next() else {
        out.push(nobody(report, point).to_owned());
        return;
    };
    let doing = user.doing.iter().find(|doing| doing.share >= WORTH_SAYING);
    out.push(spends(report, point, user, doing));
    let mut users = users.peekable();
    // One of them holds the lock.
    let has_guard = |user: &&MeetingUser| user.evidence == "has_guard";
    for _ in 0..HOLDERS {
        if let Some(other) = users.next_if(has_guard) {
            out.push(or(report, point, other));
        }
    }
    out.extend(known(point, user));
    let others: u64 = users.map(|user| user.count).sum();
    if others > 0 {
        out.push(format!(
            "{} more {} in other functions, see the wait graph.",
            count(others),
            if others == 1 { "uses it" } else { "use it" }
        ));
    }
    let Some(doing) = doing else { return };
    super::peer::sentences(report, doing, out);
    let address = doing.resource.as_ref().and_then(|r| r.address.as_ref());
    let next = report
        .meeting_points
        .iter()
        .find(|p| p.target == point.target && Some(&p.address) == address);
    if let Some(next) = next
        && depth > 1
        && !seen.contains(&&next.address)
    {
        seen.push(&next.address);
        follow(report, next, depth - 1, seen, out);
    }
}

fn nobody(report: &Report, point: &MeetingPoint) -> &'static str {
    let is_go = is_go(report, point.target);
    match point.kind.as_str() {
        "channel" if !is_go => {
            "Who should take from it is not known: nobody was seen waiting at its other side."
        }
        "channel" => {
            "Who should take from it is not known: nobody was seen waiting at its other side, and no \
             stack that could be read refers to it."
        }
        "condition" => "Who should notify it is not known.",
        "task" => "What that task waits for is in the list of tasks.",
        _ if !is_go => {
            "Who holds it is not known: tokio does not record it, and no parked task whose future could be \
             read has a guard of it."
        }
        _ => {
            "Who holds it is not known: Go does not record it, and no stack that could be read refers \
             to it."
        }
    }
}

/// `goroutine 43 (main.consumeClicks)`, `3 goroutines (main.update)`.
fn who(report: &Report, point: &MeetingPoint, user: &MeetingUser) -> String {
    let function = user
        .function
        .function
        .as_deref()
        .map(|f| format!(" ({})", fit(f, 70)))
        .unwrap_or_default();
    let noun = noun(report, point.target, user.count);
    match user.ids.as_slice() {
        [id] if user.count == 1 => format!("{noun}{NBSP}{id}{function}"),
        _ => format!("{} {noun}{function}", count(user.count)),
    }
}

/// `Its receiver, goroutine 43 (main.consumeClicks), spends 83 % of the time in fsync at ...`
fn spends(
    report: &Report,
    point: &MeetingPoint,
    user: &MeetingUser,
    doing: Option<&MeetingDoing>,
) -> String {
    let one = user.count == 1;
    let who = who(report, point, user);
    if user.evidence == "is_task" {
        return format!("That is {}", held_by(&who, user, doing));
    }
    if point.kind != "channel" {
        return holder(&who, user, doing);
    }
    let who = match (point.kind.as_str(), user.direction.as_deref(), one) {
        ("channel", Some("receive"), true) => format!("Its receiver, {who},"),
        ("channel", Some("receive"), false) => format!("Its receivers, {who},"),
        ("channel", Some(_), true) => format!("Its sender, {who},"),
        ("channel", Some(_), false) => format!("Its senders, {who},"),
        _ => format!("On its other side, as far as is known, {who}"),
    };
    let s = if one { "s" } else { "" };
    let Some(doing) = doing else {
        return format!("{who} do{} nothing for long.", if one { "es" } else { "" });
    };
    let share = percent(doing.share);
    let time = if one { "the time" } else { "their time" };
    let sampled = match doing.source.as_str() {
        "census" => format!(" (by {} samples)", count(user.seen_of)),
        _ => String::new(),
    };
    if doing.active {
        let how = match doing.what.as_str() {
            "running" => "on the CPU",
            _ => "ready to run, without a CPU",
        };
        return format!("{who} spend{s} {share} of {time} {how}{sampled}.");
    }
    let on = doing
        .resource
        .as_ref()
        .map(|r| format!(" on {}", phrase::resource(r, 70)))
        .unwrap_or_default();
    format!(
        "{who} spend{s} {share} of {time}{sampled} in {} at {}{on}.",
        fit(&doing.what, 40),
        phrase::place(&doing.site, 70, 50)
    )
}

/// `Or it is task 4 (app::update), then in sleep at ...`
fn or(report: &Report, point: &MeetingPoint, user: &MeetingUser) -> String {
    let doing = user.doing.iter().find(|doing| doing.share >= WORTH_SAYING);
    format!(
        "Or it is {}",
        held_by(&who(report, point, user), user, doing)
    )
}

/// `Its holder, as far as stacks tell, is one of 22 goroutines (main.update), and was in ...`
fn holder(who: &str, user: &MeetingUser, doing: Option<&MeetingDoing>) -> String {
    let known = match user.evidence.as_str() {
        "has_guard" => ", as far as parked futures tell,",
        _ => ", as far as stacks tell,",
    };
    format!("Its holder{known} is {}", held_by(who, user, doing))
}

/// `one of 22 goroutines (main.update), and was in ...`
fn held_by(who: &str, user: &MeetingUser, doing: Option<&MeetingDoing>) -> String {
    let one = if user.count == 1 { "" } else { "one of " };
    let who = format!("{one}{who}");
    let Some(doing) = doing else {
        return format!("{who}.");
    };
    let what = match (doing.active, doing.what.as_str()) {
        (true, "running") => "on the CPU".to_owned(),
        (true, _) => "ready to run, without a CPU".to_owned(),
        (false, what) => format!(
            "in {} at {}",
            fit(what, 40),
            phrase::place(&doing.site, 70, 50)
        ),
    };
    let on = doing
        .resource
        .as_ref()
        .filter(|r| r.kind != "descriptor")
        .map(|r| format!(" on {}", phrase::resource(r, 70)))
        .unwrap_or_default();
    format!(
        "{who}, then {what}{on} in {} of {} samples.",
        percent(doing.share),
        count(user.seen)
    )
}

/// How it is known who that is.
fn known(point: &MeetingPoint, user: &MeetingUser) -> Option<String> {
    let of = format!("{} of {} samples", count(user.seen), count(user.seen_of));
    let stack = if user.count == 1 {
        "its stack"
    } else {
        "their stacks"
    };
    Some(match (user.evidence.as_str(), point.kind.as_str()) {
        // Who is waited for is no guess.
        ("is_task", _) => return None,
        ("seen_waiting", _) => format!("Seen waiting there in {of}."),
        ("has_guard", _) => format!(
            "Known by a guard of it in a future, in {of}; one that was given back stays there, too."
        ),
        ("owns", _) => format!(
            "Known by the channel's {} among the variables of its future, in {of}; one that was given away \
             stays there, too.",
            match user.direction.as_deref() {
                Some("receive") => "receiver",
                Some(_) => "sender",
                None => "sender and receiver",
            }
        ),
        ("stack_refers", "channel") => format!(
            "Known by {stack}: the channel's address, in a function that {}, in {of}.",
            uses(user)
        ),
        (_, "channel") => format!(
            "Likely by {stack}: an object with the channel's address, in a function that {}, in {of}.",
            uses(user)
        ),
        _ => format!(
            "Known only by {stack}: the lock's address, in a function that locks, and not waiting for \
             it; Go does not record who holds a lock."
        ),
    })
}

fn uses(user: &MeetingUser) -> &'static str {
    match user.direction.as_deref() {
        Some("receive") => "receives",
        Some(_) => "sends",
        None => "sends or receives",
    }
}

/// Many tasks that wait inside the runtime, which the kernel does not see, and at no one thing that could
/// be named.
pub fn groups(report: &Report) -> Option<String> {
    let in_runtime = |reason: &str| {
        // Go's reasons, and ours for tokio; those who receive may just be without work.
        [
            "chan ",
            "select",
            "semacquire",
            "sync.",
            "mutex",
            "channel send",
            "join",
            "rwlock",
            "semaphore",
        ]
        .iter()
        .any(|start| reason.starts_with(start))
    };
    let (target, group) = report
        .census
        .iter()
        .flat_map(|census| {
            census
                .groups
                .iter()
                .map(move |group| (census.target, group))
        })
        .filter(|(_, group)| group.count >= 10 && group.share >= 0.25)
        .filter(|(_, group)| group.wait_reason.as_deref().is_some_and(in_runtime))
        .max_by_key(|(target, group)| (group.count, std::cmp::Reverse(*target)))?;
    let noun = match report.targets.get(target).map(|t| t.runtime.kind.as_str()) {
        Some("go") => "goroutines",
        _ => "tasks",
    };
    let place = group
        .site
        .as_ref()
        .map(|s| format!(" at {}", fit(s, 70)))
        .unwrap_or_default();
    Some(format!(
        "Inside the runtime, {} {noun} ({} of them) wait in '{}'{place}.",
        count(group.count),
        percent(group.share),
        fit(group.wait_reason.as_deref().unwrap_or_default(), 40),
    ))
}

/// Tasks that wait for each other, as far as stacks tell: nothing else matters more to them.
pub fn deadlocks(report: &Report) -> Vec<String> {
    let all = &report.wait_graph.deadlock_candidates;
    let mut out: Vec<String> = all
        .first()
        .map(|first| format!("Deadlock candidate: {}.", fit(first, 400)))
        .into_iter()
        .collect();
    if all.len() > 1 {
        out.push(format!(
            "{} more such {}: under WHO WAITS FOR WHOM.",
            count(all.len() as u64 - 1),
            if all.len() == 2 { "circle" } else { "circles" }
        ));
    }
    out
}
