//! Who ended the waits, and which did not end.

use super::blocking::shown;
use crate::export::dto::Report;
use crate::export::report::verdict::Rank;
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{count, counted, duration};
use crate::export::text::wrap::paragraph;

/// Wakers per site shown without `--full`.
const WAKERS: usize = 3;
/// Unfinished lines shown without `--full`.
const UNFINISHED: usize = 8;

/// One row per waker of the shown sites.
pub(super) fn wakers(report: &Report, options: &TextOptions) -> String {
    let mut table = Table::new(&[
        ("site", Column::Text),
        ("woken by", Column::Text),
        ("at", Column::Text),
        ("times", Column::Number),
    ]);
    let limit = if options.full { usize::MAX } else { WAKERS };
    for (i, entry) in shown(report, options).iter().enumerate() {
        for (nth, waker) in entry.wakers.iter().take(limit).enumerate() {
            let site = format!("#{} {}", i + 1, phrase::what(entry));
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
pub(super) fn unfinished(report: &Report, options: &TextOptions) -> String {
    let mut open: Vec<_> = report
        .blocking
        .iter()
        .enumerate()
        .filter(|(_, e)| e.unfinished.count > 0)
        .collect();
    open.sort_by_key(|(i, entry)| (std::cmp::Reverse(entry.unfinished.oldest_ns), *i));
    let limit = if options.full { usize::MAX } else { UNFINISHED };
    let mut out = String::new();
    for (i, entry) in open.iter().take(limit) {
        let unfinished = &entry.unfinished;
        let oldest = duration(unfinished.oldest_ns);
        let age = if unfinished.lower_bound {
            format!("at least {oldest} (it began before the observation)")
        } else {
            oldest
        };
        let nature = match Rank::of(entry) {
            Rank::ForWork => "; waiting for work",
            Rank::Allowed => "; allowed to block",
            _ => "",
        };
        let mut text = format!(
            "#{}  {} in {} by {}, oldest {age}{nature}",
            i + 1,
            counted(unfinished.count, "wait", "waits"),
            phrase::what(entry),
            phrase::who(entry),
        );
        text += &format!("; at {}", phrase::site(&entry.site, 60, 40));
        if let Some(resource) = &entry.resource {
            text += &format!(" on {}", phrase::resource(resource, 60));
        }
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
