//! Who was on a CPU, and how long polls kept their worker.

use super::frame::{Frame, Site};
use super::{schema, share};
use crate::model::cpu;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds of polls that kept their worker: the same task was inside a poll at every look at its
/// thread (ticks of the sampling clock, switches). A task that yields between two looks, and is
/// polled again at once, looks the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LongPoll {
    /// How long they lasted at least, in all; time in which they were blocked included.
    pub at_least_ns: u64,
    /// How long they lasted at most within the window, in all.
    pub at_most_ns: u64,
    /// The longest, at least.
    pub longest_at_least_ns: u64,
    /// The longest, at most. Absent: an end of it was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_at_most_ns: Option<u64>,
    /// Of `at_least_ns`, blocked (those waits have entries of their own).
    pub blocked_ns: u64,
    /// Of `at_least_ns`, ready to run without a CPU.
    pub run_queue_ns: u64,
    /// Ticks of the sampling clock that saw them.
    pub samples: u64,
    /// These as a share of one CPU, that is of one worker, over the window.
    pub worker_share: f64,
}

impl From<&cpu::LongPoll> for LongPoll {
    fn from(poll: &cpu::LongPoll) -> Self {
        Self {
            at_least_ns: poll.at_least_ns,
            at_most_ns: poll.at_most_ns,
            longest_at_least_ns: poll.longest_at_least_ns,
            longest_at_most_ns: poll.longest_at_most_ns,
            blocked_ns: poll.blocked_ns,
            run_queue_ns: poll.run_queue_ns,
            samples: poll.samples,
            worker_share: share(poll.cores),
        }
    }
}

/// Who was on a CPU, by ticks of a sampling clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// Ticks per second and CPU.
    pub hz: u32,
    /// Ticks that hit a target.
    pub samples: u64,
    /// Of these, ticks for whose place there was no room.
    pub unplaced: u64,
    /// Places, most samples first; bounded, see `sites_total`.
    pub sites: Vec<CpuSite>,
    /// How many places there were in all.
    pub sites_total: u64,
}

/// A place at which tasks compute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuSite {
    /// Index into `targets`.
    pub target: usize,
    /// Nearest frame of the application's own code.
    pub site: Site,
    /// The stack that was seen most, nearest frame first. Whole for the eight places with the most
    /// samples; of the others the nearest frames, the site and the application's outermost ones, with
    /// frames without a function between them that say how many are left out.
    pub stack: Vec<Frame>,
    /// Frames left out of `stack`, in all.
    #[serde(default)]
    pub frames_left_out: u64,
    /// Which tasks, most samples first; bounded, see `tasks_total`. Ticks that hit a runtime's thread
    /// between two tasks are of none.
    pub tasks: Vec<TaskSamples>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
    /// Ticks that hit it.
    pub samples: u64,
    /// Of these, inside a call into the kernel.
    pub in_kernel: u64,
    /// Of these, inside an async poll.
    pub in_poll: u64,
    /// As a share of one CPU over the window; more than 1 on several CPUs.
    pub cores: f64,
}

/// One task's part of a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskSamples {
    /// What it is.
    #[schemars(schema_with = "schema::task_kind")]
    pub kind: String,
    /// goid, tokio task id or tid.
    pub id: u64,
    /// A thread's comm, a tokio task's future type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ticks that hit it.
    pub samples: u64,
}

impl From<&cpu::CpuUse> for Cpu {
    fn from(cpu: &cpu::CpuUse) -> Self {
        Self {
            hz: cpu.hz,
            samples: cpu.samples,
            unplaced: cpu.unplaced,
            sites: cpu.sites.iter().map(CpuSite::from).collect(),
            sites_total: cpu.sites_total,
        }
    }
}

impl From<&cpu::CpuSite> for CpuSite {
    fn from(site: &cpu::CpuSite) -> Self {
        Self {
            target: site.target,
            site: (&site.site).into(),
            stack: site.stack.iter().map(Frame::from).collect(),
            frames_left_out: site.frames_left_out,
            tasks: site
                .tasks
                .iter()
                .map(|task| TaskSamples {
                    kind: task.task.kind.as_str().to_owned(),
                    id: task.task.id,
                    name: task.name.clone(),
                    samples: task.samples,
                })
                .collect(),
            tasks_total: site.tasks_total,
            samples: site.samples,
            in_kernel: site.in_kernel,
            in_poll: site.in_poll,
            cores: share(site.cores),
        }
    }
}
