//! The verdict: one paragraph that is true and that a tired person understands.
//!
//! Many tasks that wait at one channel or lock come first, with what those do whom they wait for: the
//! kernel does not see them, and what it sees is then only the cause.
//!
//! Else it is about the worst site among those that matter ([`weight`]): first blocking inside an
//! async poll, then blocked goroutines and tasks, then threads. The sums of blocked time do not decide
//! between these, because forty idle library threads sum up to more than any fault. When none
//! matters, that is said, with what is left: possible faults that are trifles, else threads that
//! wait for work, else blocking where it is allowed.

use super::weight::{self, Rank, Weights, run_queue};
use super::{beside, phrase, pile};
use crate::export::dto::{Blocking, MeetingPoint, Report};
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, counted, duration, percent, ratio};

/// The verdict as one line of plain text.
pub fn one_line(report: &Report) -> String {
    paragraph(report).replace(NBSP, " ")
}

/// The verdict, with no-break spaces where a line must not be broken.
pub fn paragraph(report: &Report) -> String {
    let mut stuck = pile::deadlocks(report);
    let weights = Weights::of(report);
    let worst = weight::order(report)
        .first()
        .and_then(|i| report.blocking.get(*i));
    let mut sentences = match (pile::worst(report), worst) {
        (Some(point), entry) => {
            let mut sentences = pile::sentences(report, point);
            sentences.extend(apart(report, &weights, point, entry));
            sentences
        }
        (None, Some(entry)) => about(report, &weights, entry),
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

fn about(report: &Report, weights: &Weights<'_>, entry: &Blocking) -> Vec<String> {
    let rank = Rank::of(entry);
    let peers = || report.blocking.iter().filter(move |e| Rank::of(e) == rank);
    let total = peers().fold(0_u64, |sum, e| sum.saturating_add(e.total_ns));

    let mut out = Vec::new();
    if weights.lacks_cpu() {
        let others = report
            .blocking
            .iter()
            .any(|e| !weight::may_be_fault(report, e));
        out.push(format!(
            "Not enough CPU: {} of blocked time{} was spent ready to run, waiting for a CPU ({}{} in {}).",
            percent(ratio(weights.cpu_ns, weights.all_ns)),
            if others { " (sleeps, waits for work and allowed waits left out)" } else { "" },
            duration(weights.cpu_ns),
            if weights.cpu_ns > weights.window_ns { ", all tasks together," } else { "" },
            duration(weights.window_ns),
        ));
    } else if !weights.matters(entry) {
        return calm(report, weights).unwrap_or_else(|| at_rest(report, entry, rank, total));
    }
    // That would be the same again, as a share of itself.
    if weights.lacks_cpu() && entry.cause == "run_queue" {
        out.push(format!("The largest part: {}.", trifle(report, entry)));
        return out;
    }
    out.push(worst_sentence(report, entry, rank, total));
    if weights.only_long(entry) {
        out.push(format!(
            "Long one by one, not in sum: that is {} of the window.",
            percent(ratio(entry.total_ns, weights.window_ns))
        ));
    }
    out.extend(open_waits(report, entry));
    if run_queue(entry) > entry.total_ns / 2 && out.len() == 1 && entry.cause != "run_queue" {
        out.push(format!(
            "Most of that ({}) was spent after the wait was over, waiting for a CPU.",
            duration(run_queue(entry))
        ));
    }
    out.extend(meaning(entry, rank));
    out.extend(behind(report, entry, rank));
    out.extend(phrase::holder(entry));
    out.extend(phrase::victims(report, entry));
    out.extend(beside::unplaced(entry, total, peers()));
    out.extend(
        beside::of_another_kind(report, weights, entry)
            .or_else(|| beside::next(entry, total, peers())),
    );
    out.extend(beside::still_waiting(report, entry));
    out
}

/// Nothing that may be a fault amounts to anything: how much there is in all, and what is the largest.
/// `None`: there is nothing that may be one.
fn calm(report: &Report, weights: &Weights<'_>) -> Option<Vec<String>> {
    let faults = || weight::largest(report, |e| weight::may_be_fault(report, e));
    let bystander = weight::largest(report, |e| weight::is_bystander(report, e));
    let bystander = bystander.filter(|entry| weights.is_much(entry.total_ns));
    let window = weights.window_ns;
    let has = |rank| report.blocking.iter().any(|e| Rank::of(e) == rank);
    let mut text = "Nothing was blocked to speak of".to_owned();
    text += match (has(Rank::ForWork), has(Rank::Allowed)) {
        (true, true) => " but threads that slept or waited for work, and where blocking is allowed",
        (true, false) => " but threads that slept or waited for work",
        (false, true) => " but where blocking is allowed",
        (false, false) => "",
    };
    match faults() {
        Some(entry) if entry.total_ns < weights.all_ns => {
            text += &format!(
                ". All else comes to {} of the window, the largest: {}",
                percent(ratio(weights.all_ns, window)),
                trifle(report, entry)
            );
        }
        Some(entry) => text += &format!(". All else: {}", trifle(report, entry)),
        None if bystander.is_none() => return None,
        None => {}
    }
    text.push('.');
    let mut out = vec![text];
    out.extend(bystander.map(|entry| {
        format!(
            "Beside the runtime, {}: a fault only if that should be working.",
            trifle(report, entry)
        )
    }));
    Some(out)
}

/// `4 threads block in futex at worker_loop, 3 % of the window (7 waits, 12.0 ms in 400 ms, worst 4 ms)`.
pub(super) fn trifle(report: &Report, entry: &Blocking) -> String {
    let window = report.window.duration_ns;
    let share = match ratio(entry.total_ns, window) {
        share if share <= 1.0 => format!(", {} of the window", percent(share)),
        _ => String::new(),
    };
    let worst = if entry.count > entry.unfinished.count {
        format!(", worst {}", duration(entry.max_ns))
    } else {
        String::new()
    };
    let together = if share.is_empty() { " together" } else { "" };
    format!(
        "{}{share} ({}, {}{together} in {}{worst})",
        doing(report, entry),
        phrase::counted_waits(entry, entry.count),
        duration(entry.total_ns),
        duration(window),
    )
}

/// Only sleeps, waits for work, and blocking where it is allowed.
fn at_rest(report: &Report, entry: &Blocking, rank: Rank, total: u64) -> Vec<String> {
    let allowed = || report.blocking.iter().any(|e| Rank::of(e) == Rank::Allowed);
    let opening = match rank {
        Rank::Allowed => "Tasks blocked only where blocking is allowed.",
        _ if allowed() => {
            "Nothing was blocked but threads that slept or waited for work, and blocking where it is \
             allowed."
        }
        _ => "Nothing was blocked but threads that slept or waited for work.",
    };
    let mut out = vec![
        opening.to_owned(),
        worst_sentence(report, entry, rank, total),
    ];
    out.extend(meaning(entry, rank));
    out
}

/// What is worst beside a pile-up: when it is a fault at any time, or most of the blocked time, and
/// not what the pile-up waits for.
fn apart(
    report: &Report,
    weights: &Weights<'_>,
    point: &MeetingPoint,
    entry: Option<&Blocking>,
) -> Option<String> {
    let entry = entry.filter(|entry| weights.matters(entry))?;
    let rank = Rank::of(entry);
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

fn is_one(entry: &Blocking) -> bool {
    entry.tasks_total <= 1 && entry.tasks.len() == 1
}

/// `4 threads block in futex at worker_loop (/src/pool.c:61) on futex 0x602080`.
fn doing(report: &Report, entry: &Blocking) -> String {
    let mut text = phrase::who(entry);
    if report.targets.len() > 1 {
        text += &format!(" of {}", phrase::target(report, entry.target));
    }
    text += &format!(" {}", phrase::verb(entry, is_one(entry)));
    // No stack is taken of threads that are ready to run: then there is no place to name.
    if entry.cause != "run_queue" || entry.site.function.is_some() {
        text += &format!(" at {}", phrase::site(&entry.site, 90, 60));
    }
    text += &phrase::on(entry, 60);
    if let Some(call) = &entry.c_call {
        text += &format!(", {}", phrase::c_call(call, &entry.site));
    }
    text
}

fn worst_sentence(report: &Report, entry: &Blocking, rank: Rank, total: u64) -> String {
    let one = is_one(entry);
    let mut text = format!(
        "{} of {}: {}",
        percent(ratio(entry.total_ns, total)),
        whose(report, rank),
        doing(report, entry)
    );
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

pub(super) fn age(oldest_ns: u64, lower_bound: bool) -> String {
    let at_least = if lower_bound { "at least " } else { "" };
    format!("{at_least}{}", duration(oldest_ns))
}

/// Who waits behind polls that hold their workers: tasks that were ready. Only where there is a census.
fn behind(report: &Report, entry: &Blocking, rank: Rank) -> Option<String> {
    let target = report.targets.get(entry.target)?;
    let scheduler = target.scheduler.as_ref().filter(|_| rank == Rank::InPoll)?;
    (scheduler.runnable_mean >= 1.0).then(|| {
        format!(
            "Meanwhile {:.0} tasks on average were ready and waited for their turn, {} at most.",
            scheduler.runnable_mean,
            count(scheduler.runnable_max)
        )
    })
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
        (Rank::Thread, ..) if !weight::is_ambiguous(entry) => return None,
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
    if report.targets.iter().all(|target| target.ended.is_some()) {
        return format!("No wait was seen: what was observed ended within {window}.");
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
