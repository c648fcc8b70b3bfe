//! What the verdict says beside the worst site: more of the same, what is next, and what hangs elsewhere.

use super::weight::{self, Rank, Weights};
use super::{phrase, verdict};
use crate::export::dto::{Blocking, Report};
use crate::export::text::clean::fit;
use crate::export::text::units::{counted, duration, percent, ratio};

/// Whether `other` is the same wait on the same thing, but where is not known.
fn same_unplaced(entry: &Blocking, other: &Blocking) -> bool {
    other.id != entry.id
        && other.site.function.is_none()
        && other.resource.is_some()
        && (other.target, &other.cause, &other.syscall, &other.resource)
            == (entry.target, &entry.cause, &entry.syscall, &entry.resource)
}

/// The part of the same wait whose place is not known: it may well be the same place.
pub(super) fn unplaced<'a>(
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
pub(super) fn next<'a>(
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

/// Beside a wait of threads that one without work is in, too: the largest that is for neither a lock nor a message. Pools of
/// threads wait for most of the time, and more than one that writes to a slow disk does.
pub(super) fn of_another_kind(
    report: &Report,
    weights: &Weights<'_>,
    entry: &Blocking,
) -> Option<String> {
    if Rank::of(entry) != Rank::Thread || !weight::is_ambiguous(entry) {
        return None;
    }
    let other = weight::largest(report, |e| {
        Rank::of(e) == Rank::Thread && !weight::is_ambiguous(e) && e.cause != "run_queue"
    })?;
    weights.is_much(other.total_ns).then(|| {
        format!(
            "The largest that is for neither a lock nor a message: {}.",
            verdict::trifle(report, other)
        )
    })
}

/// A task that hangs elsewhere, which sums of time do not bring to the top.
pub(super) fn still_waiting(report: &Report, entry: &Blocking) -> Option<String> {
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
        verdict::age(open.oldest_ns, open.lower_bound)
    ))
}
