//! Who waits for whom: tasks, the channels and locks at which they meet, and what those on the other
//! side wait on in turn.
//!
//! An edge reads as a sentence: `from` waits on, consumes from, may hold, or connects to `to`.

use std::collections::{BTreeSet, HashSet};

use super::deadlocks::deadlocks;
use super::servers;
use super::wording::{
    UNKNOWN_PLACE, counted, evidence, frame_name, place_name, purpose, relation, resource_name,
    socket_name,
};
use crate::model::Resource;
use crate::model::census::{Direction, WaitKind};
use crate::model::connection::Connection;
use crate::model::meeting::{Doing, Meeting, Side, Source, User};
use crate::model::view::{Blocking, CensusGroup, GraphEdge, GraphNode, Nature, WaitGraph};

/// Meeting points that the graph shows.
const MAX_MEETINGS: usize = 32;
/// Groups of tasks that are looked at for connections to other targets: the largest.
const MAX_GROUPS: usize = 256;
/// What users do for less than this part of their time is left out.
const MIN_SHARE: f64 = 0.05;
/// Groups of tasks shown of those who serve a connection, or of those that may.
const MAX_SERVERS: usize = 4;

/// A target as the graph names it.
#[derive(Debug, Clone)]
pub struct Named {
    /// `server (pid 4242)`.
    pub name: String,
    /// What its tasks are called: `goroutine`, `task`.
    pub noun: &'static str,
}

/// What the graph is made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Where tasks meet.
    pub meetings: &'a [Meeting],
    /// Connections between targets, with [`Doing::connections`] filled in.
    pub connections: &'a [Connection],
    /// Groups of tasks.
    pub groups: &'a [CensusGroup],
    /// Measured waits.
    pub blocking: &'a [Blocking],
    /// The targets.
    pub targets: &'a [Named],
}

/// Builds the graph.
pub fn build(facts: &Facts<'_>) -> WaitGraph {
    let mut graph = Builder {
        facts,
        graph: WaitGraph::default(),
        nodes: HashSet::new(),
        led: HashSet::new(),
    };
    for meeting in of_interest(facts) {
        graph.meeting(meeting);
    }
    for group in facts.groups.iter().take(MAX_GROUPS) {
        graph.callers(group);
    }
    graph.graph.deadlock_candidates = deadlocks(facts.meetings, facts.targets);
    graph.graph
}

/// Where tasks wait that have something to hand on, a lock to take or an answer to get, and what those wait at
/// who use these, in other processes too. Tasks that wait to receive anything else are shown only then: else
/// they may just be without work.
fn of_interest<'a>(facts: &Facts<'a>) -> Vec<&'a Meeting> {
    let mut chosen: Vec<&Meeting> = facts
        .meetings
        .iter()
        .filter(|m| {
            let crowded = |side: &Side| match m.kind {
                WaitKind::Channel => side.direction == Some(Direction::Send) && side.mean >= 0.5,
                // Whose end is waited for is seldom what is wrong: those are shown where others lead to them.
                WaitKind::Condition | WaitKind::Task => false,
                _ => side.mean >= 0.5,
            };
            m.sides.iter().any(crowded)
        })
        .take(MAX_MEETINGS)
        .collect();
    fn add<'a>(to: &mut Vec<(usize, &'a Doing)>, target: usize, users: &'a [User]) {
        let doings = users.iter().flat_map(|user| &user.doing);
        to.extend(doings.filter(|d| d.share >= MIN_SHARE).map(|d| (target, d)));
    }
    let mut open: Vec<(usize, &Doing)> = Vec::new();
    for meeting in &chosen {
        add(&mut open, meeting.target, &meeting.users);
    }
    let key = |m: &Meeting| (m.target, m.kind, m.address);
    let mut known: HashSet<_> = chosen.iter().map(|m| key(m)).collect();
    let mut led: HashSet<usize> = HashSet::new();
    let mut at = 0;
    while let Some((target, doing)) = open.get(at).copied() {
        at += 1;
        let address = doing.resource.as_ref().and_then(|r| r.address);
        let next = facts
            .meetings
            .iter()
            .filter(|m| m.kind != WaitKind::Oneshot)
            .find(|m| m.target == target && Some(m.address) == address);
        if let Some(next) = next
            && chosen.len() < MAX_MEETINGS
            && known.insert(key(next))
        {
            chosen.push(next);
            add(&mut open, target, &next.users);
        }
        for index in &doing.connections {
            if let Some(connection) = facts.connections.get(*index)
                && led.insert(*index)
            {
                add(&mut open, connection.peer_target, &connection.users);
            }
        }
    }
    chosen
}

struct Builder<'a> {
    facts: &'a Facts<'a>,
    graph: WaitGraph,
    nodes: HashSet<String>,
    /// Sockets that were followed to their other end.
    led: HashSet<String>,
}

impl Builder<'_> {
    fn node(&mut self, id: String, kind: &'static str, label: String) -> String {
        if self.nodes.insert(id.clone()) {
            self.graph.nodes.push(GraphNode {
                id: id.clone(),
                kind,
                label,
            });
        }
        id
    }

    fn edge(&mut self, edge: GraphEdge) {
        let same = |e: &GraphEdge| (&e.from, &e.to, e.kind) == (&edge.from, &edge.to, edge.kind);
        if !self.graph.edges.iter().any(same) {
            self.graph.edges.push(edge);
        }
    }

    fn meeting(&mut self, meeting: &Meeting) {
        let point = self.point(meeting);
        for side in &meeting.sides {
            for place in &side.sites {
                let name = place_name(&place.site);
                let weight = (place.mean.round() as u64).max(1);
                let from = self.node(
                    format!("tasks/{}/{name}", meeting.target),
                    "tasks",
                    format!("{} at {name}", counted(self.noun(meeting.target), weight)),
                );
                self.edge(GraphEdge {
                    from,
                    to: point.clone(),
                    kind: "waits",
                    weight,
                    share: None,
                    evidence: format!(
                        "listed as waiting{}: mean {:.1} over {} samples",
                        purpose(meeting.kind, side.direction),
                        place.mean,
                        meeting.samples
                    ),
                });
            }
        }
        for user in &meeting.users {
            let from = self.user(meeting, user);
            self.edge(GraphEdge {
                from: from.clone(),
                to: point.clone(),
                kind: relation(meeting, user),
                weight: user.count,
                share: None,
                evidence: evidence(meeting.kind, user),
            });
            for doing in &user.doing {
                if !doing.active && doing.share >= MIN_SHARE {
                    self.doing(meeting.target, user.count, doing, &from);
                }
            }
        }
    }

    fn noun(&self, target: usize) -> &'static str {
        let target = self.facts.targets.get(target);
        target.map_or("task", |target| target.noun)
    }

    fn point(&mut self, meeting: &Meeting) -> String {
        let (kind, address) = (meeting.kind.as_str(), meeting.address);
        if meeting.kind == WaitKind::Oneshot {
            // Such channels live shortly, and their addresses are used again.
            let side = meeting.sides.first().and_then(|side| side.sites.first());
            let place = side.map_or_else(String::new, |place| place_name(&place.site));
            let id = format!("{kind}/{}/{place}", meeting.target);
            return self.node(id, kind, "answers (oneshot channels)".to_owned());
        }
        let fill = match (meeting.len, meeting.capacity) {
            (_, Some(0)) => " (unbuffered)".to_owned(),
            (Some(len), Some(capacity)) => format!(" ({len} of {capacity} buffered)"),
            _ => String::new(),
        };
        self.node(
            format!("{kind}/{}/{address:#x}", meeting.target),
            kind,
            format!("{} {address:#x}{fill}", kind.replace('_', " ")),
        )
    }

    fn user(&mut self, meeting: &Meeting, user: &User) -> String {
        self.tasks(meeting.target, user, "")
    }

    fn tasks(&mut self, target: usize, user: &User, of: &str) -> String {
        let name = place_name(&user.function);
        let who = match user.ids.as_slice() {
            [id] if user.count == 1 => format!("{} {id}", self.noun(target)),
            _ => counted(self.noun(target), user.count),
        };
        let first = user.ids.first().copied().unwrap_or_default();
        self.node(
            format!("tasks/{target}/{name}/{first}"),
            "tasks",
            format!("{who}{of} ({name})"),
        )
    }

    fn doing(&mut self, target: usize, weight: u64, doing: &Doing, from: &str) {
        let site = place_name(&doing.site);
        let to = match &doing.resource {
            // A meeting point that is in the graph by itself has the same id.
            Some(Resource {
                kind,
                address: Some(address),
                ..
            }) => self.node(
                format!("{kind}/{target}/{address:#x}"),
                kind,
                format!("{} {address:#x}", kind.replace('_', " ")),
            ),
            Some(resource) => {
                let label = resource_name(resource);
                self.node(
                    format!("{}/{target}/{label}", resource.kind),
                    resource.kind,
                    label,
                )
            }
            None => self.node(
                format!("wait/{target}/{}/{site}", doing.what),
                "wait",
                format!("{} at {site}", doing.what),
            ),
        };
        self.edge(GraphEdge {
            from: from.to_owned(),
            to: to.clone(),
            kind: "waits",
            weight,
            share: Some(doing.share),
            evidence: match (doing.source, &doing.resource) {
                // The node says what and where.
                (Source::Kernel, None) => "measured".to_owned(),
                (Source::Census, None) => "by samples".to_owned(),
                (Source::Kernel, _) => format!("{} at {site}, measured", doing.what),
                (Source::Census, _) => format!("{} at {site}, by samples", doing.what),
            },
        });
        if let Some(index) = doing.peer_target {
            self.other_end(&to, weight, (index, &doing.connections));
        }
    }

    /// Tasks that wait on connections to other targets, where it is known who serves these and does something
    /// else meanwhile: of an idle connection both ends wait to read.
    fn callers(&mut self, group: &CensusGroup) {
        let all = self.facts.connections;
        let peer_of = |index: &usize| all.get(*index).map(|connection| connection.peer_target);
        let peers: BTreeSet<usize> = group.connections.iter().filter_map(peer_of).collect();
        for peer in peers.into_iter().take(MAX_SERVERS) {
            let theirs = group.connections.iter().copied();
            let theirs: Vec<usize> = theirs.filter(|i| peer_of(i) == Some(peer)).collect();
            let is_blocked = group.nature == Nature::Blocked && group.mean >= 0.5;
            if !is_blocked || servers::of(all, &theirs).users.is_empty() {
                continue;
            }
            let all_waiting = (group.mean.round() as u64).max(1);
            // Requests of HTTP/2 share connections. Of descriptors that were not looked at nothing is known.
            let weight = if group.fds_whole && theirs.len() == group.fds.len() {
                all_waiting
            } else {
                theirs.len() as u64
            };
            let name = group.place.as_ref().and_then(frame_name);
            let name = name.unwrap_or_else(|| UNKNOWN_PLACE.to_owned());
            let from = self.node(
                format!("tasks/{}/{name}", group.target),
                "tasks",
                format!(
                    "{} at {name}",
                    counted(self.noun(group.target), all_waiting)
                ),
            );
            let label = socket_name(theirs.iter().filter_map(|index| all.get(*index)));
            let to = self.node(format!("socket/{}/{label}", group.target), "socket", label);
            self.edge(GraphEdge {
                from,
                to: to.clone(),
                kind: "waits",
                weight,
                share: None,
                evidence: format!(
                    "listed as waiting: mean {:.1}; {} of {} descriptors looked at lead there",
                    group.mean,
                    theirs.len(),
                    group.fds.len()
                ),
            });
            self.other_end(&to, weight, (peer, &theirs));
        }
    }

    /// Goes on from a socket into the process at its other end, when that is a target.
    fn other_end(&mut self, socket: &str, weight: u64, (index, connections): (usize, &[usize])) {
        let Some(peer) = self.facts.targets.get(index) else {
            return;
        };
        let name = peer.name.clone();
        let process = self.node(format!("process/{index}"), "process", name.clone());
        let served = servers::of(self.facts.connections, connections);
        let mut evidence = "the process holds the other end of the connection".to_owned();
        if let Some(reason) = &served.unknown {
            let which = served.which();
            evidence = format!("{evidence}; who serves {which} there is not known: {reason}");
        }
        self.edge(GraphEdge {
            from: socket.to_owned(),
            to: process.clone(),
            kind: "connects",
            weight,
            share: None,
            evidence,
        });
        if !self.led.insert(socket.to_owned()) {
            return;
        }
        for user in served.users.iter().take(MAX_SERVERS) {
            let from = self.tasks(index, user, &format!(" of {name}"));
            self.edge(GraphEdge {
                from: from.clone(),
                to: socket.to_owned(),
                kind: "serves",
                weight: user.count,
                share: None,
                evidence: servers::evidence(user),
            });
            for doing in &user.doing {
                if !doing.active && doing.share >= MIN_SHARE {
                    self.doing(index, user.count, doing, &from);
                }
            }
        }
        for user in served.waiting.iter().take(MAX_SERVERS) {
            let from = self.tasks(index, user, &format!(" of {name}"));
            self.edge(GraphEdge {
                from,
                to: socket.to_owned(),
                kind: "awaits",
                weight: user.count,
                share: None,
                evidence: format!("{}: for this side", servers::evidence(user)),
            });
        }
        if served.users.is_empty() && served.waiting.is_empty() {
            self.may_serve(index, &process);
        }
    }

    /// Where it is not known who serves a connection: what most tasks of that process do.
    fn may_serve(&mut self, target: usize, process: &str) {
        let noun = self.noun(target);
        for (what, weight, evidence) in servers::largest(self.facts, target, MAX_SERVERS) {
            let to = self.node(
                format!("group/{target}/{what}"),
                "tasks",
                format!("{} in {what}", counted(noun, weight)),
            );
            self.edge(GraphEdge {
                from: process.to_owned(),
                to,
                kind: "has",
                weight,
                share: None,
                evidence: evidence.to_owned(),
            });
        }
    }
}

#[cfg(test)]
#[path = "wait_graph_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "wait_graph_peer_tests.rs"]
mod peer_tests;
