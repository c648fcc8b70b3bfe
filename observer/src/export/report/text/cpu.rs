//! Where targets compute, by samples.

use super::limited;
use crate::export::dto::{Cpu, CpuSite, Report};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::table::{Column, Table};
use crate::export::text::units::{NBSP, count, counted, percent};

/// Places shown without `--full`.
const LIMIT: usize = 8;
/// A place with less than this share of a core is shown with `--full` only.
const SHOWN: f64 = 0.01;

fn shown(cpu: &Cpu, options: TextOptions) -> impl Iterator<Item = &CpuSite> {
    let limit = if options.full { usize::MAX } else { LIMIT };
    cpu.sites
        .iter()
        .take(limit)
        .filter(move |site| options.full || site.cores >= SHOWN)
}

/// The heading.
pub(super) fn heading(report: &Report, options: TextOptions) -> String {
    let Some(cpu) = &report.cpu else {
        return String::new();
    };
    let all = usize::try_from(cpu.sites_total).unwrap_or(usize::MAX);
    format!(
        "TASKS ON A CPU: {} at {} Hz{}",
        counted(cpu.samples, "sample", "samples"),
        cpu.hz,
        places(shown(cpu, options).count(), cpu.sites.len(), all)
    )
}

/// How many of all places are shown, and how many a report lists at most.
fn places(shown: usize, listed: usize, all: usize) -> String {
    if listed >= all {
        limited(shown, all)
    } else if shown < listed {
        format!(" ({shown} of {all}; --full shows {listed})")
    } else {
        format!(" ({shown} of {all})")
    }
}

/// One row per place.
pub(super) fn table(report: &Report, options: TextOptions) -> String {
    let Some(cpu) = &report.cpu else {
        return String::new();
    };
    let mut table = Table::new(&[
        ("of a core", Column::Number),
        ("samples", Column::Number),
        ("place", Column::Text),
        ("mostly", Column::Text),
    ]);
    let mut rows = 0;
    for site in shown(cpu, options) {
        rows += 1;
        table.row([
            percent(site.cores),
            count(site.samples),
            place(site),
            mostly(report, site),
        ]);
    }
    if rows == 0 {
        return String::new();
    }
    table.render()
}

/// The nearest application code, else what the stack begins with.
fn place(site: &CpuSite) -> String {
    if site.site.function.is_some() {
        return phrase::place(&site.site, 60, 40);
    }
    match site.stack.first() {
        Some(frame) if frame.function.is_some() => {
            format!("{} (no application code)", phrase::function(frame, 50))
        }
        _ => phrase::place(&site.site, 60, 40),
    }
}

fn mostly(report: &Report, site: &CpuSite) -> String {
    let Some(task) = site.tasks.first() else {
        return "no task".to_owned();
    };
    let mut text = format!("{}{NBSP}{}", phrase::noun(&task.kind, 1), task.id);
    if let Some(name) = &task.name {
        text += &format!(" ({})", fit(name, 40));
    }
    if site.tasks_total > 1 {
        text += &format!(", {}{NBSP}more", count(site.tasks_total - 1));
    }
    if report.targets.len() > 1 {
        text += &format!(" in {}", phrase::target(report, site.target));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_promised_than_the_report_lists() {
        assert_eq!(places(8, 8, 8), "");
        assert_eq!(places(8, 90, 90), " (8 of 90; --full shows all)");
        assert_eq!(places(8, 100, 133), " (8 of 133; --full shows 100)");
        assert_eq!(places(100, 100, 133), " (100 of 133)");
    }
}
