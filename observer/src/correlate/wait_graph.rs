//! Who waits for whom: tasks, the channels and locks at which they meet, and what those on the other
//! side wait on in turn.
//!
//! An edge reads as a sentence: `from` waits on, consumes from, may hold, or connects to `to`.

use std::collections::{HashMap, HashSet};

use crate::model::census::{Direction, WaitKind};
use crate::model::meeting::{Doing, Meeting, Side, Source, User, UserEvidence};
use crate::model::view::{GraphEdge, GraphNode, WaitGraph};
use crate::model::{Frame, Known, Resource};

/// Meeting points that the graph shows.
const MAX_MEETINGS: usize = 32;
/// What users do for less than this part of their time is left out.
const MIN_SHARE: f64 = 0.05;
/// Samples, and time between first and last (ns), that a candidate for a deadlock needs.
const DEADLOCK_SAMPLES: u64 = 4;

/// A target as the graph names it.
#[derive(Debug, Clone)]
pub struct Named {
    /// `server (pid 4242)`.
    pub name: String,
    /// What its tasks are called: `goroutine`, `task`.
    pub noun: &'static str,
}

/// Builds the graph.
pub fn build(meetings: &[Meeting], targets: &[Named]) -> WaitGraph {
    let mut graph = Builder {
        targets,
        graph: WaitGraph::default(),
        nodes: HashSet::new(),
    };
    for meeting in of_interest(meetings) {
        graph.meeting(meeting);
    }
    graph.graph.deadlock_candidates = deadlocks(meetings, targets);
    graph.graph
}

/// Where tasks wait that have something to hand on or a lock to take, and what those wait at who use
/// these. Tasks that wait to receive are shown only then: else they may just be without work.
fn of_interest(meetings: &[Meeting]) -> Vec<&Meeting> {
    let mut chosen: Vec<&Meeting> = meetings
        .iter()
        .filter(|m| {
            let crowded = |side: &Side| match m.kind {
                WaitKind::Channel => side.direction == Some(Direction::Send) && side.mean >= 0.5,
                WaitKind::Condition => false,
                _ => side.mean >= 0.5,
            };
            m.sides.iter().any(crowded)
        })
        .take(MAX_MEETINGS)
        .collect();
    let mut at = 0;
    while let Some(meeting) = chosen.get(at).copied() {
        at += 1;
        let doings = meeting.users.iter().flat_map(|user| &user.doing);
        for doing in doings.filter(|d| d.share >= MIN_SHARE) {
            let address = doing.resource.as_ref().and_then(|r| r.address);
            let next = meetings
                .iter()
                .find(|m| m.target == meeting.target && Some(m.address) == address);
            let known = |next: &Meeting| {
                chosen
                    .iter()
                    .any(|m| (m.target, m.address) == (next.target, next.address))
            };
            if let Some(next) = next
                && chosen.len() < MAX_MEETINGS
                && !known(next)
            {
                chosen.push(next);
            }
        }
    }
    chosen
}

struct Builder<'a> {
    targets: &'a [Named],
    graph: WaitGraph,
    nodes: HashSet<String>,
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
                    format!("{} at {name}", counted(self.noun(meeting), weight)),
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
                    self.doing(meeting, user, doing, &from);
                }
            }
        }
    }

    fn noun(&self, meeting: &Meeting) -> &'static str {
        self.targets
            .get(meeting.target)
            .map_or("task", |target| target.noun)
    }

    fn point(&mut self, meeting: &Meeting) -> String {
        let (kind, address) = (meeting.kind.as_str(), meeting.address);
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
        let name = place_name(&user.function);
        let who = match user.ids.as_slice() {
            [id] if user.count == 1 => format!("{} {id}", self.noun(meeting)),
            _ => counted(self.noun(meeting), user.count),
        };
        let first = user.ids.first().copied().unwrap_or_default();
        self.node(
            format!("tasks/{}/{name}/{first}", meeting.target),
            "tasks",
            format!("{who} ({name})"),
        )
    }

    fn doing(&mut self, meeting: &Meeting, user: &User, doing: &Doing, from: &str) {
        let target = meeting.target;
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
            weight: user.count,
            share: Some(doing.share),
            evidence: match doing.source {
                Source::Kernel => format!("{} at {site}, measured", doing.what),
                Source::Census => format!("{} at {site}, by samples", doing.what),
            },
        });
        if let Some((index, peer)) = doing
            .peer_target
            .and_then(|index| Some((index, self.targets.get(index)?)))
        {
            let name = peer.name.clone();
            let process = self.node(format!("process/{index}"), "process", name);
            self.edge(GraphEdge {
                from: to,
                to: process,
                kind: "connects",
                weight: user.count,
                share: None,
                evidence: "the process holds the other end of the connection".to_owned(),
            });
        }
    }
}

/// `goroutine`, `12 goroutines`.
fn counted(noun: &str, n: u64) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

fn place_name(site: &Known<Frame>) -> String {
    let name = |frame: &Frame| {
        let function = frame.function.clone()?;
        Some(match (&frame.file, frame.line) {
            (Some(file), Some(line)) => {
                let short = file.rsplit('/').next().unwrap_or(file);
                format!("{function} {short}:{line}")
            }
            _ => function,
        })
    };
    site.known()
        .and_then(name)
        .unwrap_or_else(|| "an unknown place".to_owned())
}

fn resource_name(resource: &Resource) -> String {
    let kind = resource.kind;
    match (&resource.path, &resource.local, &resource.peer) {
        (Some(path), ..) => format!("{kind} {path}"),
        (_, Some(local), Some(peer)) => format!("{kind} {local} -> {peer}"),
        (_, None, Some(peer)) => format!("{kind} to {peer}"),
        _ => match resource.fd {
            Some(fd) => format!("{kind} fd {fd}"),
            None => kind.to_owned(),
        },
    }
}

fn purpose(kind: WaitKind, direction: Option<Direction>) -> &'static str {
    match (kind, direction) {
        (WaitKind::Channel, Some(Direction::Send)) => " to send",
        (WaitKind::Channel, Some(Direction::Receive)) => " to receive",
        (WaitKind::RwMutex, Some(Direction::Send)) => " to write",
        (WaitKind::RwMutex, Some(Direction::Receive)) => " to read",
        _ => "",
    }
}

fn relation(meeting: &Meeting, user: &User) -> &'static str {
    match (meeting.kind, user.direction) {
        (WaitKind::Channel, Some(Direction::Send)) => "wakes",
        (WaitKind::Channel, _) => "consumes",
        _ => "holds",
    }
}

/// How it is known that tasks use a meeting point, in words.
pub fn evidence(kind: WaitKind, user: &User) -> String {
    let (seen, of) = user.seen;
    let does = match (kind, user.direction) {
        (WaitKind::Channel, Some(Direction::Receive)) => "receives from channels",
        (WaitKind::Channel, Some(Direction::Send)) => "sends to channels",
        (WaitKind::Channel, None) => "sends or receives on channels",
        _ => "locks mutexes: it may hold it, Go does not record who does",
    };
    match user.evidence {
        UserEvidence::SeenWaiting => format!(
            "seen waiting{} there in {seen} of {of} samples",
            purpose(kind, user.direction)
        ),
        UserEvidence::StackRefers => format!(
            "its frame holds the address in {seen} of {of} samples, and that function {does}"
        ),
        UserEvidence::ObjectRefers => format!(
            "its frame holds an object with the address in {seen} of {of} samples, and that function {does}"
        ),
    }
}

/// The side of a meeting point at which a deadlock can be: those who wait to receive may just be
/// without work.
fn stuck_side(meeting: &Meeting) -> Option<&Side> {
    let side = meeting.sides.first()?;
    let kind = match meeting.kind {
        WaitKind::Mutex | WaitKind::RwMutex => true,
        WaitKind::Channel => side.direction == Some(Direction::Send),
        _ => false,
    };
    let still = !side.stuck.is_empty() && side.last == side.max && meeting.sides.len() == 1;
    let looked = meeting.conclusive && meeting.samples >= DEADLOCK_SAMPLES;
    (kind && still && looked && !meeting.users_cut && !meeting.users.is_empty()).then_some(side)
}

/// Meeting points where all who could end the waits, as far as stacks tell, are stuck at such meeting
/// points themselves. Where nobody is known to use one, nothing is said.
fn deadlocks(meetings: &[Meeting], targets: &[Named]) -> Vec<String> {
    let mut left: HashMap<(usize, u64), (&Meeting, &Side)> = meetings
        .iter()
        .filter_map(|m| Some(((m.target, m.address), (m, stuck_side(m)?))))
        .collect();
    loop {
        let stuck: HashSet<(usize, u64)> = left
            .values()
            .flat_map(|(m, side)| side.stuck.iter().map(|id| (m.target, *id)))
            .collect();
        let before = left.len();
        left.retain(|_, (m, _)| {
            let is_stuck = |id: &u64| stuck.contains(&(m.target, *id));
            m.users
                .iter()
                .all(|user| user.count as usize == user.ids.len() && user.ids.iter().all(is_stuck))
                && m.doubts.iter().all(is_stuck)
        });
        if left.len() == before {
            break;
        }
    }
    let mut order: Vec<_> = left.keys().copied().collect();
    order.sort_unstable();
    let mut told: HashSet<(usize, u64)> = HashSet::new();
    let mut out = Vec::new();
    for key in order {
        if let Some((cycle, keys)) = follow(key, &left, targets)
            && keys.iter().all(|key| told.insert(*key))
        {
            out.push(cycle);
        }
    }
    out
}

/// Follows from a meeting point to one who could end the wait, to where that one is stuck, until the
/// way comes back; what lies before the cycle is left out.
fn follow(
    start: (usize, u64),
    left: &HashMap<(usize, u64), (&Meeting, &Side)>,
    targets: &[Named],
) -> Option<(String, Vec<(usize, u64)>)> {
    let mut path: Vec<((usize, u64), u64)> = Vec::new();
    let mut key = start;
    while !path.iter().any(|(known, _)| *known == key) {
        let (meeting, _) = left.get(&key)?;
        let id = *meeting.users.first()?.ids.first()?;
        path.push((key, id));
        key = left
            .iter()
            .filter(|(k, (_, side))| k.0 == key.0 && side.stuck.contains(&id))
            .map(|(k, _)| *k)
            .min()?;
    }
    let from = path.iter().position(|(known, _)| *known == key)?;
    let cycle = path.get(from..)?;
    let noun = targets.get(key.0).map_or("task", |t| t.noun);
    let (first, _) = left.get(&cycle.first()?.0)?;
    let steps = cycle
        .iter()
        .enumerate()
        .filter_map(|(at, ((_, address), id))| {
            let (meeting, _) = left.get(&(key.0, *address))?;
            let waiter = if at == 0 {
                cycle.last()?.1
            } else {
                cycle.get(at - 1)?.1
            };
            let verb = match meeting.kind {
                WaitKind::Channel => "receives from",
                _ => "may hold",
            };
            Some(format!(
                "{noun} {waiter} waits{} {} {address:#x}, which {noun} {id} {verb}",
                match meeting.kind {
                    WaitKind::Channel => " to send on",
                    _ => " for",
                },
                meeting.kind.as_str(),
            ))
        });
    let text = format!(
        "{}; neither moved in {} samples, and no other stack refers to these",
        steps.collect::<Vec<_>>().join("; "),
        first.samples
    );
    Some((text, cycle.iter().map(|(key, _)| *key).collect()))
}

#[cfg(test)]
#[path = "wait_graph_tests.rs"]
mod tests;
