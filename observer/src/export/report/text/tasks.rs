//! The tasks that were blocked most, over all sites.

use super::{limited, numbers};
use crate::export::dto::{Report, TaskShare};
use crate::export::report::weight::{self, Weights};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{count, counted, duration};
use crate::export::text::wrap::paragraph;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Tasks shown without `--full`.
const LIMIT: usize = 10;
/// Reasons listed for types that are not known.
const REASONS: usize = 3;
/// Columns that a name may have, alone and beside its creator; the table cuts further where it must.
const NAME: (usize, usize) = (60, 34);

struct Row<'a> {
    target: usize,
    task: &'a TaskShare,
    count: u64,
    total_ns: u64,
    max_ns: u64,
    /// Number of the site where it was blocked most, and for how long.
    site: usize,
    site_ns: u64,
}

/// The heading. A site lists only its largest tasks, so a sum over sites can miss small parts.
pub(super) fn heading(report: &Report, options: TextOptions) -> String {
    let all = rows(report).len();
    let shown = if options.full { all } else { all.min(LIMIT) };
    let cut = report
        .blocking
        .iter()
        .any(|entry| entry.tasks_total > entry.tasks.len() as u64);
    let caveat = if cut {
        ", from the largest ones of each site"
    } else {
        ""
    };
    format!("TASKS BLOCKED MOST{caveat}{}", limited(shown, all))
}

/// One row per task.
pub(super) fn table(report: &Report, options: TextOptions) -> String {
    let several = report.targets.len() > 1;
    let mut columns = vec![("task", Column::Text)];
    if several {
        columns.push(("of", Column::Text));
    }
    columns.extend([
        ("name", Column::Text),
        ("created by", Column::Text),
        ("waits", Column::Number),
        ("total", Column::Number),
        ("worst", Column::Number),
        ("mostly in", Column::Text),
    ]);
    let rows = rows(report);
    let numbers = numbers(report);
    // A column that is empty everywhere is only noise.
    let has_name = rows.iter().any(|row| row.task.name.is_some());
    let has_creator = rows.iter().any(|row| row.task.created_by.is_some());
    columns.retain(|(name, _)| {
        (*name != "name" || has_name) && (*name != "created by" || has_creator)
    });

    let name_columns = if has_creator { NAME.1 } else { NAME.0 };
    let mut table = Table::new(&columns);
    let limit = if options.full { usize::MAX } else { LIMIT };
    for row in rows.iter().take(limit) {
        let mut cells = vec![format!(
            "{} {}",
            phrase::noun(&row.task.kind, 1),
            phrase::task_id(row.task)
        )];
        if several {
            cells.push(phrase::target(report, row.target));
        }
        if has_name {
            cells.push(phrase::task_name(row.task, name_columns).unwrap_or_default());
        }
        if has_creator {
            cells.push(row.task.created_by.clone().unwrap_or_default());
        }
        let site = report
            .blocking
            .get(row.site)
            .map(phrase::what)
            .unwrap_or_default();
        cells.extend([
            count(row.count),
            duration(row.total_ns),
            duration(row.max_ns),
            format!("#{} {site}", numbers[row.site]),
        ]);
        table.row(cells);
    }
    let rows: Vec<&TaskShare> = rows.iter().map(|row| row.task).collect();
    table.render() + &unnamed(&rows)
}

/// Why some tasks have no type's name, with how many.
fn unnamed(tasks: &[&TaskShare]) -> String {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in tasks
        .iter()
        .filter_map(|task| task.name_unknown_reason.as_deref())
    {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(reason, n)| (Reverse(*n), *reason));
    let more = reasons.len().saturating_sub(REASONS);
    let mut clauses: Vec<String> = reasons
        .iter()
        .take(REASONS)
        .map(|(reason, n)| format!("{} ({})", counted(*n, "task", "tasks"), fit(reason, 160)))
        .collect();
    if more > 0 {
        clauses.push(format!("{more} more reasons"));
    }
    if clauses.is_empty() {
        return String::new();
    }
    paragraph(
        &format!("type not known: {}", clauses.join(", ")),
        "  ",
        "      ",
    )
}

fn rows(report: &Report) -> Vec<Row<'_>> {
    let mut rows: HashMap<(usize, &str, u64, Option<u32>), Row<'_>> = HashMap::new();
    for (site, entry) in report.blocking.iter().enumerate() {
        for task in &entry.tasks {
            let row = rows
                .entry((entry.target, task.kind.as_str(), task.id, task.copy))
                .or_insert(Row {
                    target: entry.target,
                    task,
                    count: 0,
                    total_ns: 0,
                    max_ns: 0,
                    site,
                    site_ns: 0,
                });
            row.count = row.count.saturating_add(task.count);
            row.total_ns = row.total_ns.saturating_add(task.total_ns);
            row.max_ns = row.max_ns.max(task.max_ns);
            if task.total_ns > row.site_ns {
                (row.site, row.site_ns) = (site, task.total_ns);
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    let weights = Weights::of(report);
    // As the sites: what matters first, so that idle library threads do not push it out.
    rows.sort_by_cached_key(|row| {
        let urgency = report
            .blocking
            .get(row.site)
            .map(|entry| weight::urgency(&weights, entry));
        (
            urgency,
            Reverse(row.total_ns),
            row.target,
            row.task.kind.clone(),
            row.task.id,
            row.task.copy,
        )
    });
    rows
}
