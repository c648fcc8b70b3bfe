//! The report as text: the verdict first, then what it rests on. Fits 100 columns, has no colour.

mod account;
mod blocking;
mod causes;
mod census;
mod cpu;
mod graph;
mod head;
mod polls;
mod scheduler;
mod stack;
mod syscalls;
mod tasks;
mod transitions;
mod waits;
mod workers;

use super::{TextOptions, verdict, weight};
use crate::export::dto::{Blocking, Report};
use crate::export::text::wrap::paragraph;

/// Renders the report.
pub fn render(report: &Report, options: TextOptions) -> String {
    let mut out = head::window(report);
    section(
        &mut out,
        "VERDICT",
        &paragraph(&verdict::paragraph(report), "  ", "  "),
    );
    section(&mut out, "TARGETS", &head::targets(report, options));
    section(&mut out, "FINDINGS", &findings(report));
    section(&mut out, &causes::heading(report), &causes::table(report));
    section(
        &mut out,
        &blocking::heading(report, options),
        &blocking::sites(report, options),
    );
    section(
        &mut out,
        &tasks::heading(report, options),
        &tasks::table(report, options),
    );
    section(
        &mut out,
        &cpu::heading(report, options),
        &cpu::table(report, options),
    );
    section(&mut out, "WORKERS", &workers::workers(report, options));
    section(
        &mut out,
        "POLLS, ONE BY ONE",
        &polls::polls(report, options),
    );
    section(
        &mut out,
        &polls::victims_heading(report, options),
        &polls::victims(report, options),
    );
    section(
        &mut out,
        "WHO ENDED THE WAITS",
        &waits::wakers(report, options),
    );
    section(
        &mut out,
        "STILL WAITING AT THE END",
        &waits::unfinished(report, options),
    );
    section(
        &mut out,
        "TASKS AS THE RUNTIME LISTS THEM",
        &census::groups(report, options),
    );
    section(
        &mut out,
        "TASKS FOLLOWED EXACTLY",
        &transitions::followed(report, options),
    );
    section(
        &mut out,
        "WHO WAITS FOR WHOM",
        &graph::graph(report, options),
    );
    if let Some(seen) = &report.syscalls {
        section(
            &mut out,
            &syscalls::calls_heading(seen, options),
            &syscalls::calls(report, seen, options),
        );
        section(
            &mut out,
            &syscalls::net_heading(seen, options),
            &syscalls::net_waits(report, seen, options),
        );
    }
    let mut account = account::completeness(report);
    if let Some(seen) = &report.syscalls {
        account += &syscalls::account(seen);
    }
    section(&mut out, "COMPLETENESS AND OVERHEAD", &account);
    section(&mut out, "NOTES", &account::notes(report));
    out
}

/// A section that has nothing to say is left out.
fn section(out: &mut String, heading: &str, body: &str) {
    if !body.is_empty() {
        out.push('\n');
        out.push_str(&paragraph(heading, "", "  "));
        out.push_str(body);
    }
}

fn findings(report: &Report) -> String {
    let lines = report.findings.iter().map(|finding| {
        let text = format!(
            "[{}] {}: {} {}",
            finding.severity, finding.title, finding.summary, finding.suggestion
        );
        paragraph(&crate::export::text::clean::clean(&text), "  - ", "    ")
    });
    lines.collect()
}

/// The entries in the order in which people should look at them, numbered from 1.
fn numbered(report: &Report) -> Vec<(usize, &Blocking)> {
    let order = weight::order(report);
    (1..)
        .zip(order.into_iter().filter_map(|i| report.blocking.get(i)))
        .collect()
}

/// For each entry of `blocking` its number in that order.
fn numbers(report: &Report) -> Vec<usize> {
    let mut numbers = vec![0; report.blocking.len()];
    for (number, i) in (1..).zip(weight::order(report)) {
        numbers[i] = number;
    }
    numbers
}

/// `5 of 12; --full shows all`, or nothing when all are shown.
fn limited(shown: usize, all: usize) -> String {
    if shown < all {
        format!(" ({shown} of {all}; --full shows all)")
    } else {
        String::new()
    }
}
