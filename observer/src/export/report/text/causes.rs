//! Blocked time by cause.

use super::numbers;
use crate::export::dto::Report;
use crate::export::report::weight::Rank;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{bar, count, duration, percent};

/// The heading, with the total, and what of it says little.
pub(super) fn heading(report: &Report) -> String {
    let total = report
        .causes
        .iter()
        .fold(0_u64, |sum, cause| sum.saturating_add(cause.total_ns));
    let for_work = report
        .blocking
        .iter()
        .filter(|entry| Rank::of(entry) == Rank::ForWork)
        .fold(0_u64, |sum, entry| sum.saturating_add(entry.total_ns));
    let mut text = format!(
        "CAUSES OF BLOCKING: {} in all, summed over tasks",
        duration(total)
    );
    if for_work > 0 {
        text += &format!(
            "; {} of it threads that slept or waited for work",
            duration(for_work)
        );
    }
    text
}

/// One row per cause.
pub(super) fn table(report: &Report) -> String {
    let mut table = Table::new(&[
        ("cause", Column::Text),
        ("share", Column::Number),
        ("", Column::Text),
        ("total", Column::Number),
        ("waits", Column::Number),
        ("largest", Column::Text),
    ]);
    let numbers = numbers(report);
    for cause in &report.causes {
        let of_cause = || {
            report
                .blocking
                .iter()
                .filter(|entry| entry.cause == cause.cause)
        };
        let waits = of_cause().fold(0_u64, |sum, entry| sum.saturating_add(entry.count));
        let largest = cause.representative.and_then(|i| {
            let function = report
                .blocking
                .get(i)?
                .site
                .function
                .as_deref()
                .unwrap_or_default();
            Some(format!("#{} {function}", numbers.get(i)?))
        });
        table.row([
            cause.cause.clone(),
            percent(cause.share),
            bar(cause.share, 20),
            duration(cause.total_ns),
            count(waits),
            largest.unwrap_or_default(),
        ]);
    }
    table.render()
}
