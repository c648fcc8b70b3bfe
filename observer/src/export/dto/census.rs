//! The runtime's own list of tasks, in groups, and who waits for whom.

use super::frame::{Frame, Resource};
use super::{schema, share};
use crate::model::view;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The groups of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Census {
    /// Index into `targets`.
    pub target: usize,
    /// Its groups, largest first, those of the runtime itself after the others.
    pub groups: Vec<CensusGroup>,
}

/// Tasks that are in the same state for the same reason at the same place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CensusGroup {
    /// `waiting`, `runnable`, `running`, `syscall`.
    pub state: String,
    /// The runtime's wait reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_reason: Option<String>,
    /// The same in the vocabulary of `blocking[].cause`. `cgo_call`: they are in C code; what they wait
    /// for there is in `blocking`, the rest of the time it computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cause")]
    pub cause: Option<String>,
    /// Tasks at the last sample.
    pub count: u64,
    /// Mean number of tasks over the samples.
    pub mean: f64,
    /// Tasks in the sample with most. Where stacks that differ were put together: at most this.
    pub max: u64,
    /// Mean share of the target's tasks over the samples, 0 to 1.
    pub share: f64,
    /// Standard error of the share, from the number of samples: a lower bound when waits last longer
    /// than the time between samples. Absent with fewer than two samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_error: Option<f64>,
    /// `active`: on a CPU, ready, or in a system call. `blocked`: parked until something happens.
    /// `resting`: marked as waiting while the runtime works for it. `system`: the runtime's own.
    #[schemars(schema_with = "schema::nature")]
    pub nature: String,
    /// Age of the oldest by our own samples: a lower bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_ns: Option<u64>,
    /// Where they wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Parked stack of one of them, nearest frame first.
    pub stack: Vec<Frame>,
    /// Where they were created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Ids of a few of them.
    pub sample_ids: Vec<u64>,
}

/// One entry per target that has groups, in the order of the targets.
pub(super) fn by_target(groups: &[view::CensusGroup]) -> Vec<Census> {
    let mut targets: BTreeMap<usize, Vec<CensusGroup>> = BTreeMap::new();
    for group in groups {
        targets.entry(group.target).or_default().push(group.into());
    }
    targets
        .into_iter()
        .map(|(target, mut groups)| {
            groups.sort_by(|a, b| {
                (
                    a.is_rest(),
                    Reverse(a.count),
                    &a.state,
                    &a.wait_reason,
                    &a.site,
                    &a.created_by,
                )
                    .cmp(&(
                        b.is_rest(),
                        Reverse(b.count),
                        &b.state,
                        &b.wait_reason,
                        &b.site,
                        &b.created_by,
                    ))
            });
            Census { target, groups }
        })
        .collect()
}

impl CensusGroup {
    /// Not the program's tasks, or not waiting for anything: shown after the others.
    pub fn is_rest(&self) -> bool {
        matches!(self.nature.as_str(), "resting" | "system")
    }
}

impl From<&view::CensusGroup> for CensusGroup {
    fn from(group: &view::CensusGroup) -> Self {
        Self {
            state: group.state.clone(),
            wait_reason: group.wait_reason.clone(),
            cause: group.cause.map(|cause| cause.as_str().to_owned()),
            count: group.count,
            mean: share(group.mean),
            max: group.max,
            share: share(group.share),
            share_error: group.share_error.map(share),
            nature: group.nature.as_str().to_owned(),
            oldest_ns: group.oldest_ns,
            site: group.site.clone(),
            stack: group.stack.iter().map(Frame::from).collect(),
            created_by: group.created_by.clone(),
            resource: group.resource.as_ref().map(Resource::from),
            sample_ids: group.sample_ids.clone(),
        }
    }
}

/// Who waits for whom.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitGraph {
    /// Task groups, channels, mutexes, descriptors, sockets, processes.
    pub nodes: Vec<GraphNode>,
    /// Their relations.
    pub edges: Vec<GraphEdge>,
    /// Circles of tasks that wait for each other and never moved, for people. Candidates: who holds
    /// what is known by stacks only.
    pub deadlock_candidates: Vec<String>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphNode {
    /// Unique in the report.
    pub id: String,
    /// `tasks`, `channel`, `mutex`, `socket`, `file`, `process`, ...
    pub kind: String,
    /// What a person reads.
    pub label: String,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphEdge {
    /// Id of the node that waits, holds, consumes, wakes or connects: the subject of the sentence.
    pub from: String,
    /// Id of its object.
    pub to: String,
    /// `waits` (on), `consumes` (receives from), `wakes` (sends to those who receive), `holds` (a lock,
    /// or may), `connects` (to).
    pub kind: String,
    /// How many tasks or wake-ups it stands for.
    pub weight: u64,
    /// Part of its time that `from` spends so, 0 to 1, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// How it is known.
    pub evidence: String,
}

impl From<&view::WaitGraph> for WaitGraph {
    fn from(graph: &view::WaitGraph) -> Self {
        let nodes = graph.nodes.iter().map(|node| GraphNode {
            id: node.id.clone(),
            kind: node.kind.to_owned(),
            label: node.label.clone(),
        });
        let edges = graph.edges.iter().map(|edge| GraphEdge {
            from: edge.from.clone(),
            to: edge.to.clone(),
            kind: edge.kind.to_owned(),
            weight: edge.weight,
            share: edge.share.map(super::share),
            evidence: edge.evidence.clone(),
        });
        Self {
            nodes: nodes.collect(),
            edges: edges.collect(),
            deadlock_candidates: graph.deadlock_candidates.clone(),
        }
    }
}
