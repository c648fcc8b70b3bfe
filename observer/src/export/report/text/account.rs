//! What was seen and what was not, in words, and what observing cost.

use crate::export::dto::Report;
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, bytes, count, counted, duration, percent, ratio};
use crate::export::text::wrap::paragraph;

/// The one lost detail that sums lack.
const READY_NOT_SEEN: &str = "ready_time_not_seen";

/// Reasons of loss in words. A reason that is not here is shown by its name.
const REASONS: &[(&str, &str)] = &[
    ("inflight_map_full", "too many threads were blocked at once"),
    (
        "aggregate_map_full",
        "too many different waits for the kernel's table of sums",
    ),
    ("end_not_seen", "their end was not seen"),
    (
        "user_stack_unreadable",
        "the user stack could not be walked",
    ),
    (
        "kernel_stack_unreadable",
        "the kernel stack could not be walked",
    ),
    (
        "stack_map_collision",
        "another stack had the slot in the kernel's table",
    ),
    ("stack_map_full", "the kernel's table of stacks was full"),
    (
        "stack_sampled",
        "their user stack is that of other waits in the same syscall, on the same resource, from the same instruction",
    ),
    (
        "stack_copy_buffer_full",
        "no room in the buffer for a copy of the stack",
    ),
    (
        "record_buffer_full",
        "their single records did not fit the buffer",
    ),
    (
        READY_NOT_SEEN,
        "their thread was not seen to get its CPU again: counted until it was woken",
    ),
    (
        "record_not_understood",
        "their records could not be decoded",
    ),
    (
        "tasks_folded",
        "too many tasks to sum each apart: folded together",
    ),
    (
        "task_unreadable",
        "the running task could not be read from the thread's memory",
    ),
    (
        "task_mismatch",
        "the runtime's structures did not check out, so no task was named",
    ),
    (
        "path_map_full",
        "waits for a path for which there was no room: the report does not name it",
    ),
    (
        "cpu_sample_buffer_full",
        "samples of running threads did not fit the buffer",
    ),
    (
        "cpu_stack_sampled",
        "running threads whose stack was not copied: placed by their instruction alone",
    ),
    (
        "long_poll_buffer_full",
        "long polls that did not fit the buffer",
    ),
    (
        "poll_not_understood",
        "polls and wake-ups of tasks whose type is not known",
    ),
    (
        "poll_too_deep",
        "polls inside of more polls than are followed",
    ),
    (
        "poll_thread_map_full",
        "polls on threads for which there was no room",
    ),
    ("poll_buffer_full", "long polls that did not fit the buffer"),
    (
        "delay_buffer_full",
        "long delays that did not fit the buffer",
    ),
    (
        "woken_map_full",
        "wake-ups for which there was no room: their delays are not known",
    ),
    (
        "held_stretches_full",
        "stretches inside polls for which there was no room: workers were held longer",
    ),
    (
        "poll_rows_full",
        "long polls and delays of more tasks than are told apart",
    ),
    (
        "process_record_buffer_full",
        "records of starting or ending processes did not fit the buffer",
    ),
];

fn reason(name: &str) -> String {
    match REASONS.iter().find(|(known, _)| *known == name) {
        Some((_, words)) => (*words).to_owned(),
        None => fit(&name.replace('_', " "), 60),
    }
}

/// The account, one line per fact.
pub(super) fn completeness(report: &Report) -> String {
    let account = &report.completeness;
    let records_lost = account.details_lost.get("record_buffer_full");
    let counted_only = match records_lost {
        Some(1..) => "counted only (short, of idle threads, or without room for a record)",
        _ => "counted only (short, or of idle threads)",
    };
    let parts = [
        (account.aggregated, counted_only),
        (account.emitted, "recorded one by one"),
        (account.unfinished, "not ended"),
        (account.filtered, "left out (the thread exited)"),
        (account.lost_total(), "lost"),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{}{NBSP}{what}", count(n)))
        .collect();
    let mut lines = vec![match (account.seen, account.lost_total()) {
        (0, 0) => "waits seen: none".to_owned(),
        (seen, 0) => format!(
            "waits seen: {}, none lost: {}",
            count(seen),
            parts.join(", ")
        ),
        (seen, _) => format!("waits seen: {}: {}", count(seen), parts.join(", ")),
    }];
    let off = account.unaccounted();
    if off != 0 {
        let size = count(u64::try_from(off.unsigned_abs()).unwrap_or(u64::MAX));
        lines.push(if off > 0 {
            format!("this does not add up: {size} of the waits seen can not be accounted for")
        } else {
            format!("this does not add up: {size} more waits are accounted for than were seen")
        });
    }
    for (name, n) in account.lost.iter().filter(|(_, n)| **n > 0) {
        let share = percent(ratio(*n, account.seen.max(*n)));
        lines.push(format!(
            "lost: {} ({share}): {}",
            counted(*n, "wait", "waits"),
            reason(name)
        ));
    }
    for (name, n) in account.details_lost.iter().filter(|(_, n)| **n > 0) {
        let reason = reason(name);
        let sums = if name == READY_NOT_SEEN {
            "sums lack their time on the run queue"
        } else {
            "sums complete"
        };
        lines.push(format!("details missing, {sums}: {}: {reason}", count(*n)));
    }
    for (name, n) in account.stacks_lost.iter().filter(|(_, n)| **n > 0) {
        lines.push(format!("stacks missing: {}: {}", count(*n), reason(name)));
    }
    if account.unattributed_ns > 0 {
        lines.push(format!(
            "blocked time whose task is not known: {}",
            duration(account.unattributed_ns)
        ));
    }
    if account.idle_ns > 0 {
        lines.push(format!(
            "idle runtime threads, not counted as blocked: {}",
            duration(account.idle_ns)
        ));
    }
    if let Some(cost) = &account.census {
        lines.push(format!(
            "task lists: read {}, {}, {} changed while read, slowest {}, {} of CPU time",
            counted(cost.samples, "time", "times"),
            bytes(cost.bytes_read),
            counted(cost.torn, "task", "tasks"),
            duration(cost.max_ns),
            duration(cost.cpu_ns)
        ));
    }
    lines.push(overhead(report));
    lines
        .iter()
        .map(|line| paragraph(line, "  ", "      "))
        .collect()
}

fn overhead(report: &Report) -> String {
    let cost = &report.overhead;
    let window = report.window.duration_ns;
    let mut parts = vec![match (cost.bpf_run_ns, cost.bpf_run_count) {
        (Some(ns), Some(runs)) if runs > 0 => format!(
            "kernel programs {} in {} for all processes ({} each, {} of all CPUs)",
            duration(ns),
            counted(runs, "run", "runs"),
            duration(ns / runs),
            percent(ratio(
                ns,
                window.saturating_mul(u64::from(report.host.cpus))
            ))
        ),
        (Some(ns), _) => format!("kernel programs {}", duration(ns)),
        (None, _) => "kernel programs not measured".to_owned(),
    }];
    // A bound of more than all says nothing: then the target did next to nothing itself.
    if let Some(share) = cost.target_cpu_share.filter(|share| *share < 1.0) {
        parts.push(format!(
            "at most {} of the target's CPU time",
            percent(share)
        ));
    }
    parts.push(format!(
        "observer {} of CPU time ({} of one CPU), {} of memory at most",
        duration(cost.observer_cpu_ns),
        percent(ratio(cost.observer_cpu_ns, window)),
        bytes(cost.rss_bytes)
    ));
    format!("cost: {}", parts.join("; "))
}

/// Everything that was degraded.
pub(super) fn notes(report: &Report) -> String {
    report
        .notes
        .iter()
        .map(|note| paragraph(&fit(note, 400), "  - ", "    "))
        .collect()
}
