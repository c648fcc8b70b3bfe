//! The verdict: one paragraph that is true and that a tired person understands.
//!
//! Many tasks that wait at one channel or lock come first, with what those do whom they wait for: the
//! kernel does not see them, and what it sees is then only the cause.
//!
//! Else it is about the worst site among those that matter most: first blocking inside an async poll,
//! then blocked goroutines and tasks, then threads, then threads that wait for work, and blocking
//! where it is allowed only when there is nothing else. The sums of blocked time do not decide
//! between these, because forty idle library threads sum up to more than any fault.

use super::{phrase, pile};
use crate::export::dto::{Blocking, MeetingPoint, Report};
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, counted, duration, percent, ratio};

/// What a blocked entry means, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A blocking call inside an async poll.
    InPoll,
    /// A goroutine or a task whose legality is not known.
    Task,
    /// A thread that runs no task.
    Thread,
    /// A thread that sleeps, or waits for events or connections as an event loop does.
    ForWork,
    /// `spawn_blocking`, `block_in_place`.
    Allowed,
}

impl Rank {
    /// The rank of an entry.
    pub fn of(entry: &Blocking) -> Self {
        match (
            entry.legality.as_str(),
            phrase::kind(entry),
            entry.cause.as_str(),
        ) {
            ("in_poll", ..) => Self::InPoll,
            ("may_block", ..) => Self::Allowed,
            // Go's goroutine that waits for signals does so for its whole life.
            (_, "goroutine", "futex") if waits_for_signals(entry) => Self::ForWork,
            (_, "thread", "epoll" | "accept" | "sleep" | "idle") => Self::ForWork,
            (_, "thread", _) => Self::Thread,
            _ => Self::Task,
        }
    }
}

fn waits_for_signals(entry: &Blocking) -> bool {
    let functions = entry.stack.iter().filter_map(|f| f.function.as_deref());
    functions
        .into_iter()
        .any(|name| name == "os/signal.signal_recv")
}

/// The verdict as one line of plain text.
pub fn one_line(report: &Report) -> String {
    paragraph(report).replace(NBSP, " ")
}

/// The verdict, with no-break spaces where a line must not be broken.
pub fn paragraph(report: &Report) -> String {
    let mut stuck = pile::deadlocks(report);
    let mut sentences = match (pile::worst(report), worst(report)) {
        (Some(point), entry) => {
            let mut sentences = pile::sentences(report, point);
            sentences.extend(apart(report, point, entry));
            sentences
        }
        (None, Some((entry, rank))) => about(report, entry, rank),
        (None, None) if !stuck.is_empty() => Vec::new(),
        (None, None) => vec![nothing(report)],
    };
    stuck.append(&mut sentences);
    let mut sentences = stuck;
    if pile::worst(report).is_none() {
        sentences.extend(pile::groups(report));
    }
    sentences.extend(degraded(report));
    sentences.extend(lost(report));
    sentences.join(" ")
}

/// The entries (as indices into `blocking`) in the order in which people should look at them: what
/// is a fault and amounts to something, most urgent first; then the rest by time, what is allowed
/// last. The verdict is about the first, and the text form numbers sites in this order.
pub fn order(report: &Report) -> Vec<usize> {
    let entries = report.blocking.iter().enumerate();
    let mut order: Vec<_> = entries
        .map(|(i, entry)| (urgency(report, entry), i))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

/// What the order is by, before time.
pub fn urgency(report: &Report, entry: &Blocking) -> (u8, Rank) {
    match Rank::of(entry) {
        rank if matters(report, entry) => (0, rank),
        Rank::Allowed => (2, Rank::Allowed),
        _ => (1, Rank::ForWork),
    }
}

/// Whether an entry is a possible fault that amounts to something.
fn matters(report: &Report, entry: &Blocking) -> bool {
    let rank = Rank::of(entry);
    // A poll is expected to end within 100 µs; a whole millisecond is a fault at any share.
    let long_poll = rank == Rank::InPoll && entry.max_ns >= 1_000_000;
    rank < Rank::ForWork && (long_poll || entry.total_ns >= report.window.duration_ns / 100)
}

/// The entry to speak of.
fn worst(report: &Report) -> Option<(&Blocking, Rank)> {
    let entry = report.blocking.get(*order(report).first()?)?;
    Some((entry, Rank::of(entry)))
}

fn about(report: &Report, entry: &Blocking, rank: Rank) -> Vec<String> {
    let peers = || report.blocking.iter().filter(move |e| Rank::of(e) == rank);
    let sum = |entries: &mut dyn Iterator<Item = &Blocking>, value: fn(&Blocking) -> u64| {
        entries.fold(0_u64, |sum, e| sum.saturating_add(value(e)))
    };
    let total = sum(&mut peers(), |e| e.total_ns);

    let mut out = Vec::new();
    let urgent = || {
        report
            .blocking
            .iter()
            .filter(|e| Rank::of(e) < Rank::ForWork)
    };
    let (cpu, all) = (
        sum(&mut urgent(), run_queue),
        sum(&mut urgent(), |e| e.total_ns),
    );
    // Below a tenth of the window it is what a scheduler does, not a shortage.
    if cpu > all / 2 && cpu >= report.window.duration_ns / 10 {
        let others = urgent().count() < report.blocking.len();
        out.push(format!(
            "Not enough CPU: {} of blocked time{} was spent ready to run, waiting for a CPU ({}{} in {}).",
            percent(ratio(cpu, all)),
            if others { " (sleeps, waits for work and allowed waits left out)" } else { "" },
            duration(cpu),
            if cpu > report.window.duration_ns { ", all tasks together," } else { "" },
            duration(report.window.duration_ns),
        ));
    } else if rank == Rank::Allowed {
        out.push("Tasks blocked only where blocking is allowed.".to_owned());
    } else if !matters(report, entry) {
        let has = |rank| report.blocking.iter().any(|e| Rank::of(e) == rank);
        out.push(match (has(Rank::ForWork), has(Rank::Allowed)) {
            (true, true) => {
                "Nothing was blocked for long, but for threads that slept or waited for work, and \
                 blocking where it is allowed."
            }
            (true, false) => {
                "Nothing was blocked for long, but for threads that slept or waited for work."
            }
            (false, true) => "Nothing was blocked for long, but where blocking is allowed.",
            (false, false) => "Nothing was blocked for long.",
        }.to_owned());
    }
    out.push(worst_sentence(report, entry, rank, total));
    out.extend(open_waits(report, entry));
    if run_queue(entry) > entry.total_ns / 2 && out.len() == 1 && entry.cause != "run_queue" {
        out.push(format!(
            "Most of that ({}) was spent after the wait was over, waiting for a CPU.",
            duration(run_queue(entry))
        ));
    }
    out.extend(meaning(entry, rank));
    out.extend(phrase::holder(entry));
    out.extend(phrase::victims(report, entry));
    out.extend(unplaced(entry, total, peers()));
    out.extend(next(entry, total, peers()));
    out.extend(still_waiting(report, entry));
    out
}

/// What is worst beside a pile-up: when it is a fault at any time, or most of the blocked time, and
/// not what the pile-up waits for.
fn apart(
    report: &Report,
    point: &MeetingPoint,
    entry: Option<(&Blocking, Rank)>,
) -> Option<String> {
    let (entry, rank) = entry.filter(|(entry, _)| matters(report, entry))?;
    let total = report
        .blocking
        .iter()
        .filter(|e| Rank::of(e) == rank)
        .fold(0_u64, |sum, e| sum.saturating_add(e.total_ns));
    let most = rank == Rank::InPoll || ratio(entry.total_ns, total) >= 0.5;
    (rank <= Rank::Task && most && !pile::tells(point, entry)).then(|| {
        format!(
            "Apart from that, {}",
            worst_sentence(report, entry, rank, total)
        )
    })
}

fn run_queue(entry: &Blocking) -> u64 {
    if entry.cause == "run_queue" {
        entry.total_ns
    } else {
        entry.run_queue_ns.min(entry.total_ns)
    }
}

fn has_long_polls(report: &Report) -> bool {
    report
        .blocking
        .iter()
        .any(|entry| entry.long_poll.is_some())
}

/// What the shares are shares of.
fn whose(report: &Report, rank: Rank) -> &'static str {
    if report.blocking.iter().all(|e| Rank::of(e) == rank) && !has_long_polls(report) {
        return "blocked time";
    }
    let all_goroutines = || {
        report
            .blocking
            .iter()
            .filter(|e| Rank::of(e) == Rank::Task)
            .all(|e| phrase::kind(e) == "goroutine")
    };
    match rank {
        Rank::InPoll if has_long_polls(report) => {
            "the time for which async polls held their worker"
        }
        Rank::InPoll => "the time blocked inside async polls",
        Rank::Task if all_goroutines() => "the blocked time of goroutines",
        Rank::Task => "the blocked time of tasks",
        Rank::Thread => "the blocked time of threads (sleeps and waits for work left out)",
        Rank::ForWork => "the time spent sleeping or waiting for work",
        Rank::Allowed => "the time blocked where that is allowed",
    }
}

fn worst_sentence(report: &Report, entry: &Blocking, rank: Rank, total: u64) -> String {
    let one = entry.tasks_total <= 1 && entry.tasks.len() == 1;
    let mut text = format!(
        "{} of {}: {}",
        percent(ratio(entry.total_ns, total)),
        whose(report, rank),
        phrase::who(entry)
    );
    if report.targets.len() > 1 {
        text += &format!(" of {}", phrase::target(report, entry.target));
    }
    text += &format!(" {}", phrase::verb(entry, one));
    // No stack is taken of threads that are ready to run: then there is no place to name.
    if entry.cause != "run_queue" || entry.site.function.is_some() {
        text += &format!(" at {}", phrase::site(&entry.site, 90, 60));
    }
    text += &phrase::on(entry, 60);
    if let Some(call) = &entry.c_call {
        text += &format!(", {}", phrase::c_call(call, &entry.site));
    }
    let window = report.window.duration_ns;
    let together = if entry.total_ns > window && !one {
        " (all tasks together)"
    } else {
        ""
    };
    if let Some(poll) = &entry.long_poll {
        text += &format!(
            ", {}, at least {}{together} on a CPU in {}, the longest {}.",
            phrase::counted_waits(entry, entry.count),
            duration(entry.total_ns),
            duration(window),
            phrase::longest_poll(poll),
        );
        return text;
    }
    text += &format!(
        ", {}, {}{together} in {}",
        phrase::counted_waits(entry, entry.count),
        duration(entry.total_ns),
        duration(window)
    );
    if entry.count > entry.unfinished.count {
        if entry.count > 1 {
            text += &format!(", p99 {}", duration(entry.p99_ns));
        }
        text += &format!(", worst {}", duration(entry.max_ns));
    }
    text + "."
}

/// The waits of this entry that had not ended.
fn open_waits(report: &Report, entry: &Blocking) -> Option<String> {
    let open = &entry.unfinished;
    let age = age(open.oldest_ns, open.lower_bound);
    match (open.count, entry.count) {
        (0, _) => None,
        (1, 1) => Some(format!(
            "It had not ended when the observation did, after {age}."
        )),
        (n, all) if n >= all => Some(format!(
            "None of them had ended after {age}, the age of the oldest."
        )),
        (n, _) => {
            // A wait in progress at the end is ordinary when waits are this long anyway.
            let unusual =
                open.oldest_ns > entry.max_ns || open.oldest_ns > report.window.duration_ns / 2;
            unusual.then(|| {
                format!(
                    "{} of them had not ended, the oldest after {age}.",
                    count(n)
                )
            })
        }
    }
}

fn age(oldest_ns: u64, lower_bound: bool) -> String {
    let at_least = if lower_bound { "at least " } else { "" };
    format!("{at_least}{}", duration(oldest_ns))
}

/// What it means that a task blocks there. Only what the runtime's rules say.
fn meaning(entry: &Blocking, rank: Rank) -> Option<String> {
    if entry.cause == "run_queue" {
        return None;
    }
    let text = match (rank, phrase::kind(entry), entry.legality.as_str()) {
        (Rank::InPoll, ..) if entry.long_poll.is_some() => {
            "Until such a poll ends, its thread runs no other task: compute in spawn_blocking, or \
             yield in between."
        }
        (Rank::InPoll, ..) => {
            "This is inside an async poll: until such a wait ends, its thread runs no other task."
        }
        (Rank::Task, "goroutine", "no_rule") if entry.legality_evidence.is_some() => {
            let how = entry.legality_evidence.as_deref().unwrap_or_default();
            return Some(format!("For most of that time {}.", fit(how, 160)));
        }
        (Rank::Task, "goroutine", _) => {
            "A goroutine may block there: it is a fault only if something waits for it."
        }
        (Rank::Task, _, "unknown") => match &entry.legality_evidence {
            Some(why) => {
                return Some(format!(
                    "Whether blocking is allowed there could not be told: {}.",
                    fit(why, 120)
                ));
            }
            None => "Whether blocking is allowed there could not be told.",
        },
        // To wait for a lock, a message or a time is also what an idle thread does.
        (Rank::Thread, ..)
            if !matches!(
                entry.cause.as_str(),
                "futex" | "recv" | "pipe" | "condition" | "channel" | "other"
            ) =>
        {
            return None;
        }
        (Rank::Thread, ..) => {
            "A waiting thread is a fault only if it should be working: see who wakes it."
        }
        (Rank::Allowed, ..) => {
            "That is what spawn_blocking and block_in_place are for: not a fault by itself."
        }
        (Rank::Task | Rank::ForWork, ..) => return None,
    };
    Some(text.to_owned())
}

/// Whether `other` is the same wait on the same thing, but where is not known.
fn same_unplaced(entry: &Blocking, other: &Blocking) -> bool {
    other.id != entry.id
        && other.site.function.is_none()
        && other.resource.is_some()
        && (other.target, &other.cause, &other.syscall, &other.resource)
            == (entry.target, &entry.cause, &entry.syscall, &entry.resource)
}

/// The part of the same wait whose place is not known: it may well be the same place.
fn unplaced<'a>(
    entry: &Blocking,
    total: u64,
    peers: impl Iterator<Item = &'a Blocking>,
) -> Option<String> {
    let time = peers
        .filter(|other| same_unplaced(entry, other))
        .fold(0_u64, |sum, other| sum.saturating_add(other.total_ns));
    (ratio(time, total) >= 0.01).then(|| {
        format!(
            "Another {} ({}) is {} on the same {}, at places that are not known.",
            percent(ratio(time, total)),
            duration(time),
            phrase::what(entry),
            fit(
                entry
                    .resource
                    .as_ref()
                    .map_or("thing", |resource| &resource.kind),
                20
            )
        )
    })
}

/// The second worst, when it is worth a sentence.
fn next<'a>(
    entry: &Blocking,
    total: u64,
    mut peers: impl Iterator<Item = &'a Blocking>,
) -> Option<String> {
    let second = peers.find(|other| other.id != entry.id && !same_unplaced(entry, other))?;
    (ratio(second.total_ns, total) >= 0.2).then(|| {
        format!(
            "Next: {}, {} at {}, {}.",
            percent(ratio(second.total_ns, total)),
            phrase::what(second),
            phrase::place(&second.site, 60, 40),
            duration(second.total_ns)
        )
    })
}

/// A task that hangs elsewhere, which sums of time do not bring to the top.
fn still_waiting(report: &Report, entry: &Blocking) -> Option<String> {
    let hung = report
        .blocking
        .iter()
        .filter(|e| e.id != entry.id && Rank::of(e) <= Rank::Task && e.unfinished.count > 0)
        .filter(|e| e.unfinished.oldest_ns >= report.window.duration_ns / 10 * 9)
        .max_by_key(|e| (e.unfinished.oldest_ns, std::cmp::Reverse(e.id.as_str())))?;
    let open = &hung.unfinished;
    Some(format!(
        "Also still waiting: {} in {} at {}, oldest {}.",
        counted(open.count, "wait", "waits"),
        phrase::what(hung),
        phrase::place(&hung.site, 60, 40),
        age(open.oldest_ns, open.lower_bound)
    ))
}

/// Nothing is blocked: why that can be believed, or not.
fn nothing(report: &Report) -> String {
    let window = duration(report.window.duration_ns);
    let account = &report.completeness;
    if report.targets.is_empty() {
        return "No process was observed.".to_owned();
    }
    if account.idle_ns > 0 {
        return format!(
            "Nothing was blocked in {window}. Runtime threads were idle for {} in all, waiting for \
             work; that is not blocking.",
            duration(account.idle_ns)
        );
    }
    if account.seen > 0 {
        return format!(
            "Nothing to show was blocked in {window}, although threads left the CPU {}: see the \
             completeness below.",
            counted(account.seen, "time", "times")
        );
    }
    format!("Nothing was blocked in {window}: no thread of the target was seen to wait.")
}

fn degraded(report: &Report) -> Option<String> {
    let mut degraded = report
        .targets
        .iter()
        .enumerate()
        .filter_map(|(i, target)| target.runtime.degraded.as_ref().map(|reason| (i, reason)));
    let (first, reason) = degraded.next()?;
    let others = match degraded.count() {
        0 => String::new(),
        n => format!(" The same for {} more, see the targets.", count(n as u64)),
    };
    Some(format!(
        "Only threads, not tasks, are told apart in {}: {}.{others}",
        phrase::target(report, first),
        fit(reason, 160)
    ))
}

fn lost(report: &Report) -> Option<String> {
    let lost = report.completeness.lost_total();
    let share = ratio(lost, report.completeness.seen.max(lost));
    (share >= 0.01).then(|| {
        format!(
            "{} of the waits were lost: the figures are lower bounds.",
            percent(share)
        )
    })
}
