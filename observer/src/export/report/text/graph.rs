//! Who waits for whom: the circles that the verdict has no room for, then each wait, and below it who uses what
//! is waited for and what they wait on.

use crate::export::dto::{GraphEdge, Report};
use crate::export::report::TextOptions;
use crate::export::text::clean::fit;
use crate::export::text::units::{NBSP, count, percent};
use crate::export::text::wrap::paragraph;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Edges shown without `--full`.
const EDGES: usize = 15;
/// Circles shown without `--full`.
const CIRCLES: usize = 4;
/// How far lines are moved to the right.
const MAX_DEPTH: usize = 8;

/// One line per edge: the heaviest waits first, and below each what it leads to.
pub(super) fn graph(report: &Report, options: TextOptions) -> String {
    let labels: HashMap<&str, &str> = report
        .wait_graph
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node.label.as_str()))
        .collect();
    let order = order(&report.wait_graph.edges);
    let limit = if options.full { usize::MAX } else { EDGES };
    let mut out = String::new();
    // The first one is in the verdict.
    let circles = report.wait_graph.deadlock_candidates.get(1..);
    let circles = circles.unwrap_or_default();
    let shown = if options.full { limit } else { CIRCLES };
    for circle in circles.iter().take(shown) {
        let text = format!("deadlock candidate: {}", fit(circle, 400));
        out += &paragraph(&text, "  ", "      ");
    }
    if circles.len() > shown {
        let text = format!(
            "... and {} more such circles (--full shows all)",
            count((circles.len() - shown) as u64)
        );
        out += &paragraph(&text, "  ", "      ");
    }
    for (depth, edge) in order.iter().take(limit) {
        let indent = "  ".repeat(1 + depth);
        let text = line(edge, &labels, options);
        out += &paragraph(&text, &indent, &format!("{indent}    "));
    }
    if order.len() > limit {
        let text = format!(
            "... and {} more (--full shows all)",
            count((order.len() - limit) as u64)
        );
        out += &paragraph(&text, "  ", "      ");
    }
    out
}

fn line(edge: &GraphEdge, labels: &HashMap<&str, &str>, options: TextOptions) -> String {
    let label = |id: &str| fit(labels.get(id).copied().unwrap_or(id), 90);
    let size = match edge.share {
        Some(share) => percent(share),
        None => format!("x{NBSP}{}", count(edge.weight)),
    };
    let mut text = format!(
        "{} --{}{NBSP}{size}--> {}",
        label(&edge.from),
        fit(&edge.kind, 20),
        label(&edge.to)
    );
    // How it is known who is meant in another process is never left out.
    let across = matches!(edge.kind.as_str(), "connects" | "serves" | "awaits" | "has");
    if options.verbose || edge.share.is_some() || across {
        text += &format!("  [{}]", fit(&edge.evidence, 160));
    }
    text
}

/// The edges with their depth: below a wait on something those who use it, below these their waits.
fn order(edges: &[GraphEdge]) -> Vec<(usize, &GraphEdge)> {
    let mut heaviest: Vec<usize> = (0..edges.len()).collect();
    heaviest.sort_by_key(|i| {
        let edge = &edges[*i];
        // A wait whose length is known is what somebody leads to, and stands below them.
        let leads = edge.kind == "waits" && edge.share.is_none();
        // Who waits for an answer is led to the socket that it should come from, and from there to a lock in
        // another process.
        let on = match edge.to.split('/').next() {
            Some("oneshot") => 0,
            Some("socket") => 2,
            _ => 1,
        };
        (
            !leads,
            on,
            edge.kind == "awaits",
            Reverse(edge.weight),
            Reverse(edge.share.map_or(0, |share| (share * 1e6) as u64)),
            &edge.from,
            &edge.to,
            &edge.kind,
        )
    });
    let mut walk = Walk {
        edges,
        heaviest: &heaviest,
        done: vec![false; edges.len()],
        out: Vec::new(),
    };
    for &i in &heaviest {
        walk.edge(i, 0);
    }
    walk.out
}

struct Walk<'a, 'o> {
    edges: &'a [GraphEdge],
    heaviest: &'o [usize],
    done: Vec<bool>,
    out: Vec<(usize, &'a GraphEdge)>,
}

impl Walk<'_, '_> {
    fn edge(&mut self, index: usize, depth: usize) {
        let edge = &self.edges[index];
        if std::mem::replace(&mut self.done[index], true) {
            return;
        }
        self.out.push((depth, edge));
        if depth >= MAX_DEPTH {
            return;
        }
        let is_wait = edge.kind == "waits";
        for &next in self.heaviest {
            let other = &self.edges[next];
            let below = match (is_wait, other.kind.as_str()) {
                // Who else waits for the same thing, and who uses it; where a socket leads to.
                (true, "connects") => other.from == edge.to,
                (true, "serves" | "awaits" | "has") => false,
                (true, _) => other.to == edge.to,
                // Who serves the connection in that process; else who may.
                (false, "serves" | "awaits") => edge.kind == "connects" && other.to == edge.from,
                (false, "has") => edge.kind == "connects" && other.from == edge.to,
                (false, "waits") => other.from == edge.from,
                (false, _) => false,
            };
            let same_level = is_wait && other.kind == "waits";
            if below {
                self.edge(next, if same_level { depth } else { depth + 1 });
            }
        }
    }
}
