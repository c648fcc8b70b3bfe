//! Who ended the waits, and which did not end.

use super::blocking::shown;
use super::numbered;
use crate::export::dto::Report;
use crate::export::report::weight::Rank;
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{count, counted, duration};
use crate::export::text::wrap::paragraph;
use std::cmp::Reverse;

/// Wakers per site shown without `--full`.
const WAKERS: usize = 3;
/// Unfinished lines shown without `--full`.
const UNFINISHED: usize = 8;

/// One row per waker of the shown sites.
pub(super) fn wakers(report: &Report, options: TextOptions) -> String {
    let mut table = Table::new(&[
        ("site", Column::Text),
        ("woken by", Column::Text),
        ("at", Column::Text),
        ("times", Column::Number),
    ]);
    let limit = if options.full { usize::MAX } else { WAKERS };
    for (number, entry) in shown(report, options) {
        for (nth, waker) in entry.wakers.iter().take(limit).enumerate() {
            let site = format!("#{number} {}", phrase::what(entry));
            table.row([
                if nth == 0 { site } else { String::new() },
                waker.task.clone(),
                waker.site.clone().unwrap_or_default(),
                count(waker.count),
            ]);
        }
    }
    table.render()
}

/// One paragraph per entry with waits that had not ended, oldest first.
pub(super) fn unfinished(report: &Report, options: TextOptions) -> String {
    let mut open = numbered(report);
    open.retain(|(_, entry)| entry.unfinished.count > 0);
    // What waits for work, or may wait, does so as long as it likes: it comes last.
    open.sort_by_key(|(number, entry)| {
        (
            Rank::of(entry) >= Rank::ForWork,
            Reverse(entry.unfinished.oldest_ns),
            *number,
        )
    });
    let limit = if options.full { usize::MAX } else { UNFINISHED };
    let mut out = String::new();
    for (number, entry) in open.iter().take(limit) {
        let unfinished = &entry.unfinished;
        let oldest = duration(unfinished.oldest_ns);
        let age = if unfinished.lower_bound {
            format!("at least {oldest} (it began before the observation)")
        } else {
            oldest
        };
        let nature = match Rank::of(entry) {
            Rank::ForWork => "; asleep or waiting for work",
            Rank::Allowed => "; allowed to block",
            _ => "",
        };
        let mut text = format!(
            "#{number} {} in {}",
            counted(unfinished.count, "wait", "waits"),
            phrase::what(entry)
        );
        // Which tasks are the ones that still wait is known only when all of them do.
        if entry.tasks_total <= 1 || unfinished.count >= entry.count {
            text += &format!(" by {}", phrase::who(entry));
        }
        text += &format!(", oldest {age}{nature}");
        text += &format!("; at {}", phrase::place(&entry.site, 60, 40));
        text += &phrase::on(entry, 60);
        out += &paragraph(&text, "  ", "      ");
    }
    if open.len() > limit {
        let more = format!(
            "... and {} more (--full shows all)",
            count((open.len() - limit) as u64)
        );
        out += &paragraph(&fit(&more, 90), "  ", "  ");
    }
    out
}
