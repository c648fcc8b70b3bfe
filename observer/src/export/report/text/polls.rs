//! Polls that were seen one by one, and who waited behind whom.

use super::limited;
use crate::export::dto::{PolledTask, Polls, Report, Victim};
use crate::export::report::{TextOptions, phrase, types};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{NBSP, count, counted, duration, percent, ratio};
use crate::export::text::wrap::paragraph;

/// Task types shown without `--full`.
const TYPES: usize = 8;
/// Tasks shown without `--full`.
const TASKS: usize = 5;
/// Victims shown without `--full`.
const VICTIMS: usize = 8;

fn limit(options: TextOptions, few: usize) -> usize {
    if options.full { usize::MAX } else { few }
}

/// All times for which polls were followed.
pub(super) fn polls(report: &Report, options: TextOptions) -> String {
    let blocks = report.polls.iter().map(|of| followed(report, of, options));
    blocks.collect::<Vec<_>>().join("\n")
}

fn followed(report: &Report, of: &Polls, options: TextOptions) -> String {
    let polls = of.types.iter().map(|t| t.polls.count).sum::<u64>();
    let mut text = format!(
        "{} in {}",
        counted(polls, "poll", "polls"),
        duration(of.duration_ns)
    );
    if report.targets.len() > 1 {
        text += &format!(", in {}", phrase::target(report, of.target));
    }
    if let Some(why) = &of.ended_early {
        text += &format!("; not to the end: {}", fit(why, 160));
    }
    if let Some(why) = &of.delays_ended_early {
        text += &match of.delays_duration_ns {
            0 => format!("; no delays: {}", fit(why, 160)),
            ns => format!(
                "; delays of the first {} only: {}",
                duration(ns),
                fit(why, 160)
            ),
        };
    }
    if let Some(waiting) = of.waiting.as_ref().filter(|waiting| waiting.count > 0) {
        text += &format!(
            "; at the end {} ready and not polled, for up to {}",
            counted(waiting.count, "task was", "tasks were"),
            duration(waiting.oldest_ns)
        );
    }
    let mut out = paragraph(&text, "  ", "      ");
    out += &types(of, options);
    out += &long(of, options);
    out
}

fn types(of: &Polls, options: TextOptions) -> String {
    if of.types.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("polls", Column::Number),
        ("time", Column::Number),
        ("p99", Column::Number),
        ("worst", Column::Number),
        ("delay p99", Column::Number),
        ("worst", Column::Number),
        ("task type", Column::Text),
    ]);
    let limit = limit(options, TYPES);
    for kind in of.types.iter().take(limit) {
        let some = |ns| match kind.delays.count {
            0 => "-".to_owned(),
            _ => duration(ns),
        };
        table.row([
            count(kind.polls.count),
            duration(kind.polls.total_ns),
            duration(kind.polls.p99_ns),
            duration(kind.polls.max_ns),
            some(kind.delays.p99_ns),
            some(kind.delays.max_ns),
            kind.name
                .as_ref()
                .map_or_else(|| "not known".to_owned(), |name| types::short(name, 60)),
        ]);
    }
    let mut out = table.render();
    if of.types.len() > limit {
        let text = format!(
            "and {} more with less time; --full shows all",
            counted((of.types.len() - limit) as u64, "type", "types")
        );
        out += &paragraph(&text, "  ", "      ");
    }
    out
}

/// What the time of long polls was spent with.
fn long(of: &Polls, options: TextOptions) -> String {
    let mut out = String::new();
    for task in of.long.iter().take(limit(options, TASKS)) {
        let all = task.polls.total_ns;
        let parts: Vec<String> = [
            (task.cpu_ns, "on a CPU"),
            (task.lock_ns, "blocked in futex"),
            (task.blocked_ns, "blocked elsewhere"),
            (task.run_queue_ns, "waiting for a CPU"),
        ]
        .into_iter()
        .filter(|(ns, _)| *ns > 0)
        .map(|(ns, what)| format!("{} {what}", percent(ratio(ns, all))))
        .collect();
        let mut text = format!(
            "{}: {} of 0.5 ms or more, {} in all, worst {}; {}",
            name(&task.task),
            counted(task.polls.count, "poll", "polls"),
            duration(all),
            duration(task.polls.max_ns),
            parts.join(", ")
        );
        if task.open > 0 {
            text += "; one had not ended";
        }
        out += &paragraph(&text, "  - ", "    ");
    }
    out
}

fn name(task: &PolledTask) -> String {
    let id = format!("{}{NBSP}{}", phrase::noun(&task.kind, 1), task.id);
    match &task.name {
        Some(name) => format!("{id} ({})", types::short(name, 50)),
        None => id,
    }
}

/// The heading.
pub(super) fn victims_heading(report: &Report, options: TextOptions) -> String {
    let all = usize::try_from(report.victims_total).unwrap_or(usize::MAX);
    let shown = report.victims.len().min(limit(options, VICTIMS));
    format!(
        "WHO WAITED FOR THEIR TURN, 1 ms OR MORE{}",
        limited(shown, all)
    )
}

/// One line for each victim and what it waited behind.
pub(super) fn victims(report: &Report, options: TextOptions) -> String {
    let lines = report.victims.iter().take(limit(options, VICTIMS));
    lines
        .map(|victim| paragraph(&sentence(report, victim), "  - ", "    "))
        .collect()
}

fn sentence(report: &Report, victim: &Victim) -> String {
    let mut text = name(&victim.task);
    if report.targets.len() > 1 {
        text += &format!(" of {}", phrase::target(report, victim.target));
    }
    text += &format!(
        ": {}, {} in all, worst {}, ",
        counted(victim.delays.count, "time", "times"),
        duration(victim.delays.total_ns),
        duration(victim.delays.max_ns)
    );
    let behind = match (victim.behind.as_str(), &victim.culprit) {
        ("poll", Some(by)) if by.id == victim.task.id => {
            "behind a poll of its own that it was woken in".to_owned()
        }
        ("poll", Some(by)) => format!(
            "behind a poll of {} on its worker, for {} of that time",
            name(by),
            percent(ratio(victim.overlap_ns, victim.delays.total_ns))
        ),
        (_, Some(by)) => format!(
            "while {} was polled on another worker, for {} of that time",
            name(by),
            percent(ratio(victim.overlap_ns, victim.delays.total_ns))
        ),
        ("no_cpu", _) => "because its worker was ready to run, but had no CPU".to_owned(),
        _ => "behind no single long poll".to_owned(),
    };
    text + &behind
}
