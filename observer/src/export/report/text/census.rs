//! Tasks as the runtime lists them.

use crate::export::dto::{CensusGroup, Report};
use crate::export::report::{TextOptions, own, phrase};
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, counted, duration, percent};
use crate::export::text::wrap::paragraph;

/// Groups per target shown without `--full`.
const GROUPS: usize = 8;

/// The groups of each target.
pub(super) fn groups(report: &Report, options: TextOptions) -> String {
    let mut out = String::new();
    for census in &report.census {
        let one = match report
            .targets
            .get(census.target)
            .map(|t| t.runtime.kind.as_str())
        {
            Some("go") => "goroutine",
            _ => "task",
        };
        if report.targets.len() > 1 {
            out += &paragraph(
                &format!("{}:", phrase::target(report, census.target)),
                "  ",
                "  ",
            );
        }
        let (rest, own): (Vec<_>, Vec<_>) = census.groups.iter().partition(|g| g.is_rest());
        let limit = if options.full { usize::MAX } else { GROUPS };
        for group in own.iter().take(limit) {
            out += &paragraph(&line(group, one), "  ", "      ");
        }
        let tasks = |groups: &[&CensusGroup]| {
            let mean = groups.iter().map(|group| group.mean).sum();
            let last = groups
                .iter()
                .fold(0_u64, |sum, group| sum.saturating_add(group.count));
            number(mean, last, one)
        };
        if let Some(more) = own.get(limit..).filter(|more| !more.is_empty()) {
            let text = format!(
                "... and {} with {} (--full shows all)",
                counted(more.len() as u64, "group", "groups"),
                tasks(more)
            );
            out += &paragraph(&text, "  ", "      ");
        }
        if options.full {
            for group in &rest {
                out += &paragraph(&line(group, one), "  ", "      ");
            }
        } else if !rest.is_empty() {
            let text = format!(
                "besides, {} of the runtime itself, at rest or at work for others (--full shows them)",
                tasks(&rest)
            );
            out += &paragraph(&text, "  ", "      ");
        }
    }
    out
}

/// `main.f (file.go:7)`, each part cut for itself.
fn place(site: &str) -> String {
    match site.rsplit_once(" (").filter(|_| site.ends_with(')')) {
        Some((function, file)) => format!("{} ({}", fit(function, 60), fit(file, 50)),
        None => fit(site, 80),
    }
}

/// `5 000 goroutines` when the last sample was like the mean, else
/// `1.6 goroutines on average (3 at the last sample)`: with the last one alone, a group that has a
/// share could read "0 tasks".
fn number(mean: f64, last: u64, one: &str) -> String {
    let many = format!("{one}s");
    if (mean - last as f64).abs() < 0.05 {
        return counted(last, one, &many);
    }
    let mean = match mean {
        ..0.05 => "<0.1".to_owned(),
        0.05..99.5 => format!("{mean:.1}"),
        _ => count(mean.round() as u64),
    };
    format!(
        "{mean}{NBSP}{many} on average ({} at the last sample)",
        count(last)
    )
}

fn line(group: &CensusGroup, one: &str) -> String {
    let mut text = format!(
        "{}, {}{}: {}",
        number(group.mean, group.count, one),
        percent(group.share),
        group
            .share_error
            .map(|error| format!("{NBSP}+/-{NBSP}{:.1}", error * 100.0))
            .unwrap_or_default(),
        fit(&group.state, 30)
    );
    if let Some(reason) = &group.wait_reason {
        text += &format!(" ({})", fit(reason, 40));
    }
    if group.cause.as_deref() == Some("cgo_call") {
        text += " (in a C call)";
    }
    if let Some(site) = &group.site {
        // Without a place it is told by the function that it was started as, or by its type.
        let is_place = !["started as ", "of type "]
            .iter()
            .any(|start| site.starts_with(start));
        let at = if is_place { " at" } else { "," };
        text += &format!("{at} {}", place(site));
    }
    if let Some(resource) = &group.resource {
        let on = match group.wait_reason.as_deref() {
            // What the others wait for is in no one place.
            Some("several futures") => "on, among others,",
            _ => "on",
        };
        text += &format!(" {on} {}", phrase::resource(resource, 60));
    }
    if let Some(caller) = own::caller(&group.stack) {
        let function = caller.function.as_deref().unwrap_or("?");
        text += &format!(", called from {}", fit(function, 60));
        if let Some(source) = phrase::source(caller.file.as_deref(), caller.line, 50) {
            text += &format!(" ({source})");
        }
    }
    if let Some(oldest) = group.oldest_ns {
        text += &format!(", oldest at least {}", duration(oldest));
    }
    if let Some(creator) = &group.created_by {
        text += &format!(", created by {}", place(creator));
    }
    match group.nature.as_str() {
        "system" => text += "; the runtime's own",
        "resting" => text += "; not blocked: the runtime works for it",
        _ => {}
    }
    if !group.sample_ids.is_empty() {
        let ids: Vec<_> = group
            .sample_ids
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        text += &format!("; for example {}", ids.join(", "));
    }
    text
}
