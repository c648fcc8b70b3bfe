//! The report as JSON: schema `observer.report/v1`.
//!
//! Compatibility within v1: fields are only added, never renamed, removed or given another
//! meaning; new values may be added to enumerations. The schema therefore leaves additional
//! properties open, and a reader must ignore fields that it does not know.
//!
//! Times are nanoseconds (`_ns`) unless the name says otherwise. What is not known is absent, and
//! a field beside it says why; it is never 0 or an empty string.

mod account;
mod blocking;
mod census;
mod cpu;
mod finding;
mod frame;
mod id;
mod meeting;
mod polls;
mod schema;
mod syscalls;
mod target;
mod transitions;
mod workers;

pub use account::{CensusCost, Completeness, Overhead};
pub use blocking::{Blocking, CCall, CauseShare, Holder, TaskShare, Unfinished, Waker};
pub use census::{Census, CensusGroup, GraphEdge, GraphNode, WaitGraph};
pub use cpu::{Cpu, CpuSite, LongPoll, TaskSamples};
pub use finding::{Evidence, Finding};
pub use frame::{Frame, Resource, Site};
pub use meeting::{Connection, MeetingDoing, MeetingPoint, MeetingSide, MeetingSite, MeetingUser};
pub use polls::{LongTask, PollType, PolledTask, Polls, Spread, Victim, Waiting};
pub use schema::{SCHEMA_ID, json_schema};
pub use syscalls::{NetWait, SyscallCost, SyscallRow, Syscalls};
pub use target::{
    Host, Netpoll, Observer, RunDelay, Runtime, Scheduler, Slots, Target, TaskCounts, Window,
};
pub use transitions::{Birth, Delay, DelayAfter, Detached, StateTime, Transitions};
pub use workers::{Worker, Workers};

use super::report::verdict;
use super::timestamp::rfc3339;
use crate::model::view::View;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one observation found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Always `observer.report/v1`.
    #[schemars(schema_with = "schema::schema_id")]
    pub schema: String,
    /// When the report was made (RFC 3339, UTC).
    pub generated_at: String,
    /// The observed stretch of time.
    pub window: Window,
    /// The machine.
    pub host: Host,
    /// The program that made the report.
    pub observer: Observer,
    /// The verdict that the text form opens with, as one line. For people: do not parse it.
    pub verdict: String,
    /// The observed processes.
    pub targets: Vec<Target>,
    /// What tasks were blocked on, most total time first. Idle runtime threads are not here.
    pub blocking: Vec<Blocking>,
    /// Who was on a CPU. Absent when nothing was sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The workers of tokio runtimes.
    pub workers: Vec<Workers>,
    /// Polls that were seen one by one. Empty without the tier `runtime`.
    pub polls: Vec<Polls>,
    /// Tasks that waited a millisecond or more from their wake-up to their poll, most time first;
    /// bounded, see `victims_total`. Empty without the tier `runtime`.
    pub victims: Vec<Victim>,
    /// How many there were; one that waited behind several tasks counts for each.
    pub victims_total: u64,
    /// Groups of tasks as the runtime itself lists them. Empty when there was no census.
    pub census: Vec<Census>,
    /// Channels, locks... at which tasks wait, most waiting tasks first. Empty without a census.
    pub meeting_points: Vec<MeetingPoint>,
    /// Connections between targets on which tasks wait. Empty with one target.
    #[serde(default)]
    pub connections: Vec<Connection>,
    /// Blocked time by cause, most first.
    pub causes: Vec<CauseShare>,
    /// Who waits for whom.
    pub wait_graph: WaitGraph,
    /// System calls one by one, when the tier `syscalls` ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Syscalls>,
    /// Tasks followed exactly by probes in their runtime's own code (tier `runtime`): one entry for
    /// each stretch of time in which the probes of a target were in. Empty without that tier.
    #[serde(default)]
    pub transitions: Vec<Transitions>,
    /// Root causes that rules found, highest score first.
    pub findings: Vec<Finding>,
    /// What was seen and what was not.
    pub completeness: Completeness,
    /// What observing cost.
    pub overhead: Overhead,
    /// Everything that was degraded, one clause each.
    pub notes: Vec<String>,
}

impl From<&View> for Report {
    fn from(view: &View) -> Self {
        let (blocking, position) = blocking::ordered(view);
        let mut report = Self {
            schema: SCHEMA_ID.to_owned(),
            generated_at: rfc3339(view.generated_at),
            window: (&view.window).into(),
            host: (&view.host).into(),
            observer: (&view.observer).into(),
            verdict: String::new(),
            targets: view.targets.iter().map(Target::from).collect(),
            blocking,
            workers: view.workers.iter().map(Workers::from).collect(),
            polls: view.followed.iter().map(Polls::from).collect(),
            victims: view.victims.iter().map(Victim::from).collect(),
            victims_total: view.victims_total,
            cpu: view.cpu.as_ref().map(Cpu::from),
            census: census::by_target(&view.census),
            meeting_points: view.meetings.iter().map(MeetingPoint::from).collect(),
            connections: view.connections.iter().map(Connection::from).collect(),
            causes: blocking::causes(view, &position),
            wait_graph: (&view.wait_graph).into(),
            syscalls: view.syscalls.as_ref().map(Syscalls::from),
            transitions: view.transitions.iter().map(Transitions::from).collect(),
            findings: Vec::new(),
            completeness: (&view.completeness).into(),
            overhead: (&view.overhead).into(),
            notes: view.notes.clone(),
        };
        report.verdict = verdict::one_line(&report);
        report
    }
}

/// A share as a number that JSON can hold, to a millionth. A share of nothing is no share.
fn share(value: f64) -> f64 {
    if value.is_finite() {
        (value * 1e6).round() / 1e6
    } else {
        0.0
    }
}
