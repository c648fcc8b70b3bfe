//! System calls one by one, and waits for the network: tier `syscalls`.

use super::limited;
use crate::export::dto::{NetWait, Report, SyscallRow, Syscalls, TaskShare};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{count, counted, duration};
use crate::export::text::wrap::paragraph;

/// Rows shown without `--full`.
const LIMIT: usize = 10;

/// The heading of the calls.
pub(super) fn calls_heading(seen: &Syscalls, options: TextOptions) -> String {
    let all = seen.calls.len();
    let shown = if options.full { all } else { all.min(LIMIT) };
    format!(
        "SYSTEM CALLS, each one timed; idle threads left out{}",
        limited(shown, all)
    )
}

/// One row per system call.
pub(super) fn calls(report: &Report, seen: &Syscalls, options: TextOptions) -> String {
    let several = report.targets.len() > 1;
    let mut columns = vec![("call", Column::Text)];
    if several {
        columns.push(("of", Column::Text));
    }
    columns.extend([
        ("calls", Column::Number),
        ("total", Column::Number),
        ("p50", Column::Number),
        ("p99", Column::Number),
        ("worst", Column::Number),
        ("failed", Column::Text),
        ("mostly by", Column::Text),
    ]);
    let mut table = Table::new(&columns);
    let limit = if options.full { usize::MAX } else { LIMIT };
    for row in seen.calls.iter().take(limit) {
        let mut cells = vec![row.syscall.clone()];
        if several {
            cells.push(phrase::target(report, row.target));
        }
        cells.extend([
            count(row.count),
            duration(row.total_ns),
            duration(row.p50_ns),
            duration(row.p99_ns),
            duration(row.max_ns),
            failed(row),
            briefly_by(&row.tasks, row.tasks_total),
        ]);
        table.row(cells);
    }
    table.render()
}

/// `EAGAIN 31, EPIPE 2`.
fn failed(row: &SyscallRow) -> String {
    let mut errors: Vec<_> = row.errors.iter().collect();
    errors.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    errors
        .into_iter()
        .map(|(name, n)| format!("{name} {}", count(*n)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `rdk:mock (thread 5387) and 3 more`.
fn mostly_by(tasks: &[TaskShare], all: u64) -> String {
    let Some(task) = tasks.first() else {
        return String::new();
    };
    let one = phrase::one_task(task, 30);
    match all.saturating_sub(1) {
        0 => one,
        more => format!("{one} and {} more", count(more)),
    }
}

/// `rdk:mock +3`: for a table.
fn briefly_by(tasks: &[TaskShare], all: u64) -> String {
    let Some(task) = tasks.first() else {
        return String::new();
    };
    let one = match &task.name {
        Some(name) => name.clone(),
        None => format!("{} {}", phrase::noun(&task.kind, 1), task.id),
    };
    match all.saturating_sub(1) {
        0 => one,
        more => format!("{one} +{}", count(more)),
    }
}

/// The heading of the waits for the network.
pub(super) fn net_heading(seen: &Syscalls, options: TextOptions) -> String {
    let all = seen.net_waits.len();
    let shown = if options.full { all } else { all.min(LIMIT) };
    format!(
        "WAITS FOR THE NETWORK, from \"not ready\" until the same task tried again{}",
        limited(shown, all)
    )
}

/// One block of lines per place.
pub(super) fn net_waits(report: &Report, seen: &Syscalls, options: TextOptions) -> String {
    let limit = if options.full { usize::MAX } else { LIMIT };
    seen.net_waits
        .iter()
        .take(limit)
        .map(|wait| net_wait(report, wait))
        .collect()
}

fn net_wait(report: &Report, wait: &NetWait) -> String {
    let mut text = wait.syscall.clone();
    if let Some(resource) = &wait.resource {
        text += &format!(" on {}", phrase::resource(resource, 60));
    }
    if wait.descriptors > 1 {
        text += &format!(" ({} descriptors)", count(wait.descriptors));
    }
    let who = mostly_by(&wait.tasks, wait.tasks_total);
    if !who.is_empty() {
        text += &format!(" by {who}");
    }
    if wait.site.function.is_some() {
        text += &format!(", at {}", phrase::place(&wait.site, 60, 40));
    }
    if report.targets.len() > 1 {
        text += &format!(", in {}", phrase::target(report, wait.target));
    }
    text += &format!(
        ": {}, {} in all; p50 {}, p99 {}, worst {}",
        counted(wait.count, "wait", "waits"),
        duration(wait.total_ns),
        duration(wait.p50_ns),
        duration(wait.p99_ns),
        duration(wait.max_ns)
    );
    if wait.unfinished.count > 0 {
        text += &format!(
            "; {} not tried again, for {} at most",
            count(wait.unfinished.count),
            duration(wait.unfinished.oldest_ns)
        );
    }
    paragraph(&text, "  - ", "    ")
}

/// What the figures rest on.
pub(super) fn account(seen: &Syscalls) -> String {
    let mut text = format!(
        "system calls: {} entered, {} timed, {} not returned, {} ended with their thread; {} had begun before",
        count(seen.entered),
        count(seen.summed),
        count(seen.unfinished),
        count(seen.ended),
        count(seen.before)
    );
    if seen.folded > 0 {
        text += &format!(
            "; {} without their task, for want of room",
            count(seen.folded)
        );
    }
    if seen.net_waits_untimed > 0 {
        text += &format!(
            "; besides, {} for the network of unknown length, in no sum: another task tried the \
             descriptor next, or it was closed",
            counted(seen.net_waits_untimed, "wait", "waits")
        );
    }
    for (reason, n) in &seen.lost {
        text += &format!("; lost {}: {}", count(*n), reason.replace('_', " "));
    }
    if let Some(cost) = &seen.cost {
        text += &format!(
            ". Cost for every process of this host: a trivial system call took {:.0} ns instead of {:.0} ns",
            cost.with_ns, cost.without_ns
        );
    }
    paragraph(&text, "  ", "  ")
}
