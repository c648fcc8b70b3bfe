//! The sites where most time was blocked, with their stacks.

use super::{limited, numbered, stack};
use crate::export::dto::{Blocking, LongPoll, Report};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::units::{counted, duration, percent, ratio};
use crate::export::text::wrap::paragraph;

/// Sites shown without `--full`.
const LIMIT: usize = 5;
/// Under a site's heading.
const INDENT: &str = "     ";

/// The entries that are shown, with their numbers.
pub(super) fn shown(report: &Report, options: TextOptions) -> Vec<(usize, &Blocking)> {
    let mut entries = numbered(report);
    if !options.full {
        entries.truncate(LIMIT);
    }
    entries
}

/// The heading.
pub(super) fn heading(report: &Report, options: TextOptions) -> String {
    let shown = shown(report, options).len();
    format!(
        "TOP BLOCKING SITES{}",
        limited(shown, report.blocking.len())
    )
}

/// One block of lines per site.
pub(super) fn sites(report: &Report, options: TextOptions) -> String {
    let total = report
        .blocking
        .iter()
        .fold(0_u64, |sum, e| sum.saturating_add(e.total_ns));
    let blocks = shown(report, options)
        .into_iter()
        .map(|(number, entry)| site(report, number, entry, total, options));
    blocks.collect::<Vec<_>>().join("\n")
}

fn site(
    report: &Report,
    number: usize,
    entry: &Blocking,
    total: u64,
    options: TextOptions,
) -> String {
    // No stack is taken of threads that are ready to run: then there is no place to name.
    let placed = entry.cause != "run_queue" || entry.site.function.is_some();
    let mut title = format!("#{number}  {}", phrase::what(entry));
    if placed {
        title += &format!(" at {}", phrase::place(&entry.site, 88, 60));
    } else {
        title += ": ready to run, but without a CPU";
    }
    if report.targets.len() > 1 {
        title += &format!(", in {}", phrase::target(report, entry.target));
    }
    if options.verbose {
        title += &format!(" [{}]", entry.id);
    }
    let mut out = paragraph(&title, "  ", INDENT);
    let on = phrase::on(entry, 80);
    if !on.is_empty() {
        out += &paragraph(&on, INDENT, INDENT);
    }
    if let Some(call) = &entry.c_call {
        out += &paragraph(&phrase::c_call(call, &entry.site), INDENT, INDENT);
    }
    out += &paragraph(&figures(entry, total), INDENT, INDENT);
    if let Some(reason) = entry.site.unknown_reason.as_ref().filter(|_| placed) {
        out += &paragraph(
            &format!("place not known: {}", fit(reason, 200)),
            INDENT,
            INDENT,
        );
    }
    if let Some(holder) = phrase::holder(entry) {
        out += &paragraph(&holder, INDENT, INDENT);
    }
    if let Some(rule) = rule(entry, options) {
        out += &paragraph(&rule, INDENT, INDENT);
    }
    out + &stack::lines(entry, options)
}

fn figures(entry: &Blocking, total: u64) -> String {
    let mut text = format!(
        "{} of blocked time: {} by {}, {} in all",
        percent(ratio(entry.total_ns, total)),
        phrase::counted_waits(entry, entry.count),
        phrase::who(entry),
        duration(entry.total_ns),
    );
    if let Some(poll) = &entry.long_poll {
        return text + &held(poll);
    }
    // Of waits that have not ended there is no distribution, only an age; of one wait neither.
    if entry.count > entry.unfinished.count && entry.count > 1 {
        text += &format!(
            "; p50 {}, p99 {}, worst {}",
            duration(entry.p50_ns),
            duration(entry.p99_ns),
            duration(entry.max_ns)
        );
    }
    if entry.run_queue_ns > 0 && entry.cause != "run_queue" {
        text += &format!("; {} of it waiting for a CPU", duration(entry.run_queue_ns));
    }
    if entry.unfinished.count > 0 {
        text += &format!(
            "; {} not ended",
            counted(entry.unfinished.count, "wait", "waits")
        );
    }
    text
}

/// What sampling tells of polls: bounds.
fn held(poll: &LongPoll) -> String {
    let mut text = format!(
        " on a CPU at least ({} of a worker by {}); the longest {}",
        percent(poll.worker_share),
        counted(poll.samples, "sample", "samples"),
        phrase::longest_poll(poll)
    );
    for (ns, what) in [
        (poll.blocked_ns, "blocked in the same polls"),
        (poll.run_queue_ns, "waiting for a CPU in them"),
    ] {
        if ns > 0 {
            text += &format!("; {} {what}", duration(ns));
        }
    }
    text
}

fn rule(entry: &Blocking, options: TextOptions) -> Option<String> {
    let evidence = entry
        .legality_evidence
        .as_ref()
        .map(|evidence| fit(evidence, 160));
    let text = match (entry.legality.as_str(), entry.cause.as_str()) {
        // Nobody calls for being without a CPU: there is no rule about it.
        (_, "run_queue") => return None,
        ("in_poll", "long_poll") => "NOT good here: its thread runs no other task meanwhile",
        ("in_poll", _) => {
            "NOT allowed here: inside an async poll, its thread runs no other task meanwhile"
        }
        ("may_block", _) => "allowed here: made for blocking (spawn_blocking or block_in_place)",
        ("unknown", _) => "allowed here or not: could not be told",
        _ => return evidence.map(|evidence| format!("note: {evidence}")),
    };
    // Why something is not known is always said; how something is known, on request.
    let evidence = evidence.filter(|_| options.verbose || entry.legality == "unknown");
    Some(match evidence {
        Some(evidence) => format!("{text} ({evidence})"),
        None => text.to_owned(),
    })
}
