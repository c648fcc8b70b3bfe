//! What tasks are, told from their stacks while they are observed.

use std::collections::HashMap;

use super::target::Target;
use crate::model::Pid;
use crate::model::event::Identity;
use crate::model::task::{TaskFacts, TaskRef};
use crate::runtimes::{PolledStack, TaskFinder};
use crate::sys::memory::ProcessMemory;

/// The finders of all targets; after exec a target has one more, for its new program.
#[derive(Debug, Default)]
pub struct Finders {
    by_pid: HashMap<Pid, Vec<Box<dyn TaskFinder>>>,
}

impl Finders {
    /// Gets ready for the tasks of a target's program (at attach and after exec).
    pub fn start(&mut self, target: &Target) {
        if let Some(finder) = target.task_finder() {
            let all = self.by_pid.entry(target.process.id.pid).or_default();
            all.push(finder);
        }
    }

    /// Looks at a stack of a task, unless the task is known.
    pub fn look(&mut self, pid: Pid, identity: Identity, stack: &PolledStack<'_>) {
        let Identity::Task(task) = identity else {
            return;
        };
        let finder = self.by_pid.get_mut(&pid).and_then(|all| all.last_mut());
        if let Some(finder) = finder
            && !finder.knows(task)
        {
            finder.look(task, stack, &ProcessMemory::new(pid));
        }
    }

    /// What the runtime's own list says of tasks, by id and entry. Of a process that came to run another program
    /// nothing is taken: which of the two had the task is not known.
    pub fn listed(&mut self, pid: Pid, entries: &[(u64, u64)]) {
        if let Some([finder]) = self.by_pid.get_mut(&pid).map(Vec::as_mut_slice) {
            for &(id, entry) in entries {
                finder.listed(id, entry);
            }
        }
    }

    /// What a task is, when its runtime's tasks have types.
    pub fn describe(&mut self, pid: Pid, task: TaskRef, frames: &[u64]) -> Option<TaskFacts> {
        let all = self.by_pid.get_mut(&pid)?;
        let mut knowing = all.iter_mut().filter(|finder| finder.knows(task));
        match (knowing.next(), knowing.next()) {
            (Some(_), Some(_)) => Some(TaskFacts::unknown(
                "tasks of two programs had this id: before and after exec",
            )),
            (Some(finder), None) => Some(finder.describe(task, frames)),
            (None, _) => all.last_mut().map(|finder| finder.describe(task, frames)),
        }
    }
}
