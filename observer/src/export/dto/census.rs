//! The runtime's own list of tasks, in groups, and who waits for whom.

use super::frame::{Frame, Resource};
use super::share;
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
    /// Its groups, largest first.
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
    /// Tasks at the last sample.
    pub count: u64,
    /// Mean share of the target's tasks over the samples, 0 to 1.
    pub share: f64,
    /// Standard error of the share.
    pub share_error: f64,
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
                    Reverse(a.count),
                    &a.state,
                    &a.wait_reason,
                    &a.site,
                    &a.created_by,
                )
                    .cmp(&(
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

impl From<&view::CensusGroup> for CensusGroup {
    fn from(group: &view::CensusGroup) -> Self {
        Self {
            state: group.state.clone(),
            wait_reason: group.wait_reason.clone(),
            count: group.count,
            share: share(group.share),
            share_error: share(group.share_error),
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitGraph {
    /// Task groups, channels, mutexes, descriptors, sockets, processes.
    pub nodes: Vec<GraphNode>,
    /// Their relations.
    pub edges: Vec<GraphEdge>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphEdge {
    /// Id of the node that waits, holds...
    pub from: String,
    /// Id of the node it points at.
    pub to: String,
    /// `wakes`, `holds`, `consumes`, `connects`, `waits`.
    pub kind: String,
    /// How many tasks or wake-ups it stands for.
    pub weight: u64,
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
            evidence: edge.evidence.clone(),
        });
        Self {
            nodes: nodes.collect(),
            edges: edges.collect(),
        }
    }
}
