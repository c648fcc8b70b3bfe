//! Tasks as the runtime lists them, and who waits for whom.

use crate::export::dto::{CensusGroup, Report};
use crate::export::report::{TextOptions, phrase};
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, counted, duration, percent};
use crate::export::text::wrap::paragraph;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Groups per target shown without `--full`.
const GROUPS: usize = 8;
/// Edges shown without `--full`.
const EDGES: usize = 15;

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
        let limit = if options.full { usize::MAX } else { GROUPS };
        for group in census.groups.iter().take(limit) {
            out += &paragraph(&line(group, one), "  ", "      ");
        }
        if let Some(rest) = census.groups.get(limit..).filter(|rest| !rest.is_empty()) {
            let tasks = rest
                .iter()
                .fold(0_u64, |sum, group| sum.saturating_add(group.count));
            let text = format!(
                "... and {} with {} (--full shows all)",
                counted(rest.len() as u64, "group", "groups"),
                counted(tasks, one, &format!("{one}s"))
            );
            out += &paragraph(&text, "  ", "      ");
        }
    }
    out
}

fn line(group: &CensusGroup, one: &str) -> String {
    let mut text = format!(
        "{}, {}{}: {}",
        counted(group.count, one, &format!("{one}s")),
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
    if let Some(site) = &group.site {
        text += &format!(" at {}", fit(site, 80));
    }
    if let Some(resource) = &group.resource {
        text += &format!(" on {}", phrase::resource(resource, 60));
    }
    if let Some(oldest) = group.oldest_ns {
        text += &format!(", oldest at least {}", duration(oldest));
    }
    if let Some(creator) = &group.created_by {
        text += &format!(", created by {}", fit(creator, 80));
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

/// One line per edge, heaviest first.
pub(super) fn graph(report: &Report, options: TextOptions) -> String {
    let labels: HashMap<&str, &str> = report
        .wait_graph
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node.label.as_str()))
        .collect();
    let label = |id: &str| fit(labels.get(id).copied().unwrap_or(id), 60);
    let mut edges: Vec<_> = report.wait_graph.edges.iter().collect();
    edges.sort_by_key(|edge| (Reverse(edge.weight), &edge.from, &edge.to, &edge.kind));
    let limit = if options.full { usize::MAX } else { EDGES };
    let mut out = String::new();
    for edge in edges.iter().take(limit) {
        let mut text = format!(
            "{} --{}{NBSP}x{NBSP}{}--> {}",
            label(&edge.from),
            fit(&edge.kind, 20),
            count(edge.weight),
            label(&edge.to)
        );
        if options.verbose {
            text += &format!("  [{}]", fit(&edge.evidence, 120));
        }
        out += &paragraph(&text, "  ", "      ");
    }
    if edges.len() > limit {
        let text = format!(
            "... and {} more (--full shows all)",
            count((edges.len() - limit) as u64)
        );
        out += &paragraph(&text, "  ", "      ");
    }
    out
}
