//! Who waits for whom, as a graph.

/// Who waits for whom.
#[derive(Debug, Clone, Default)]
pub struct WaitGraph {
    /// Nodes.
    pub nodes: Vec<GraphNode>,
    /// Edges.
    pub edges: Vec<GraphEdge>,
    /// Circles of tasks that wait for each other and never moved, one clause each. Candidates: who
    /// holds what is known by stacks only.
    pub deadlock_candidates: Vec<String>,
}

/// A task group, channel, mutex, descriptor, socket or process.
#[derive(Debug, Clone)]
pub struct GraphNode {
    /// Unique in the report, stable for the same thing.
    pub id: String,
    /// `tasks`, `channel`, `mutex`, `socket`, `file`, `process`, ...
    pub kind: &'static str,
    /// What a person reads.
    pub label: String,
}

/// One relation.
#[derive(Debug, Clone)]
pub struct GraphEdge {
    /// Node id of what waits, holds, consumes, wakes or connects.
    pub from: String,
    /// Node id of what it waits on, holds, consumes from, wakes or connects to.
    pub to: String,
    /// `wakes`, `holds`, `consumes`, `waits`; across processes `connects`, `serves`, `awaits`, `has`.
    pub kind: &'static str,
    /// How many tasks or wake-ups it stands for.
    pub weight: u64,
    /// Part of its time that `from` spends so, 0 to 1, when that is known.
    pub share: Option<f64>,
    /// How it is known.
    pub evidence: String,
}
