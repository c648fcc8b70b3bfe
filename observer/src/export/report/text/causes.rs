//! Blocked time by cause.

use crate::export::dto::Report;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{bar, count, duration, percent};

/// The heading, with the total.
pub(super) fn heading(report: &Report) -> String {
    let total = report
        .causes
        .iter()
        .fold(0_u64, |sum, cause| sum.saturating_add(cause.total_ns));
    format!(
        "CAUSES OF BLOCKING: {} in all, summed over tasks",
        duration(total)
    )
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
    for cause in &report.causes {
        let of_cause = || {
            report
                .blocking
                .iter()
                .filter(|entry| entry.cause == cause.cause)
        };
        let waits = of_cause().fold(0_u64, |sum, entry| sum.saturating_add(entry.count));
        let largest = cause.representative.and_then(|index| {
            let function = report.blocking.get(index)?.site.function.as_deref()?;
            Some(format!("#{} {function}", index + 1))
        });
        table.row([
            cause.cause.clone(),
            percent(cause.share),
            bar(cause.share, 20),
            duration(cause.total_ns),
            count(waits),
            largest
                .or_else(|| cause.representative.map(|i| format!("#{}", i + 1)))
                .unwrap_or_default(),
        ]);
    }
    table.render()
}
