//! The workers of async runtimes: what they did with their time.

use crate::export::dto::{Report, Worker, Workers};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{NBSP, counted, duration, percent, ratio};
use crate::export::text::wrap::paragraph;
use std::cmp::Reverse;

/// Workers of one runtime shown without `--full`: those that were parked least.
const LIMIT: usize = 8;

/// One block per runtime.
pub(super) fn workers(report: &Report, options: TextOptions) -> String {
    let blocks = report
        .workers
        .iter()
        .map(|group| block(report, group, options));
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(report: &Report, group: &Workers, options: TextOptions) -> String {
    let mut text = match &group.kind {
        Some(kind) => format!("runtime {}", fit(kind, 30)),
        None => "runtimes not told apart".to_owned(),
    };
    if report.targets.len() > 1 {
        text += &format!(" of {}", phrase::target(report, group.target));
    }
    text += &format!(
        ": {}",
        counted(group.workers.len() as u64, "worker", "workers")
    );
    if !group.former.is_empty() {
        let others = counted(
            group.former.len() as u64,
            "other thread was one",
            "other threads were",
        );
        text += &format!(" ({others} for a time)");
    }
    if let Some(reason) = &group.kind_unknown_reason {
        text += &format!(" ({})", fit(reason, 120));
    }
    if group.all_held_ns > 0 {
        let all = if group.workers.len() > 1 {
            "all of them held inside polls at once"
        } else {
            "held inside long polls"
        };
        text += &format!(
            "; {all}: {} in {}, the longest {}",
            duration(group.all_held_ns),
            counted(group.all_held_count, "stretch", "stretches"),
            duration(group.all_held_longest_ns)
        );
    }
    let mut out = paragraph(&text, "  ", "      ");
    let mut rows: Vec<&Worker> = group.workers.iter().collect();
    rows.sort_by_key(|worker| (Reverse(all(worker) - worker.idle_ns), worker.tid));
    // Full is all that is known.
    let former = if options.full { &group.former[..] } else { &[] };
    let mut table = Table::new(&[
        ("worker", Column::Text),
        ("on a CPU", Column::Number),
        ("blocked in polls", Column::Number),
        ("no CPU", Column::Number),
        ("parked", Column::Number),
        ("other", Column::Number),
    ]);
    let limit = if options.full { usize::MAX } else { LIMIT };
    let shown = rows.iter().take(limit).map(|worker| (*worker, ""));
    for (worker, note) in shown.chain(former.iter().map(|worker| (worker, ", earlier"))) {
        let share = |ns| percent(ratio(ns, all(worker)));
        let name = worker
            .name
            .as_deref()
            .map(|name| format!(" ({})", fit(name, 20)));
        table.row([
            format!(
                "thread{NBSP}{}{}{note}",
                worker.tid,
                name.unwrap_or_default()
            ),
            share(worker.on_cpu_ns),
            share(worker.held_ns),
            share(worker.run_queue_ns),
            share(worker.idle_ns),
            share(worker.other_ns),
        ]);
    }
    out += &table.render();
    if rows.len() > limit {
        let more = counted((rows.len() - limit) as u64, "worker", "workers");
        out += &paragraph(
            &format!("and {more} that were parked more; --full shows all"),
            "  ",
            "      ",
        );
    }
    out
}

fn all(worker: &Worker) -> u64 {
    [
        worker.on_cpu_ns,
        worker.held_ns,
        worker.run_queue_ns,
        worker.idle_ns,
        worker.other_ns,
    ]
    .iter()
    .fold(0, |sum, ns| sum.saturating_add(*ns))
}
