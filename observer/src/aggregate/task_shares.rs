//! Tasks of one entry of the roll-up: their parts, and what they are.

use std::collections::HashMap;

use crate::model::Pid;
use crate::model::event::Tally;
use crate::model::names::Names;
use crate::model::stacks::StackId;
use crate::model::task::TaskRef;
use crate::model::view::TaskShare;

/// One task's part of an entry.
#[derive(Debug)]
pub(super) struct TaskPart {
    tally: Tally,
    pid: Pid,
    /// The stack of the most of it, and how much that is.
    stack: Option<(StackId, u64)>,
}

impl TaskPart {
    /// A part of a task of `pid`, empty.
    pub(super) fn of(pid: Pid) -> Self {
        Self {
            tally: Tally::default(),
            pid,
            stack: None,
        }
    }

    /// Adds waits with one stack.
    pub(super) fn add(&mut self, tally: &Tally, stack: Option<StackId>) {
        self.tally.merge(tally);
        let more = self.stack.is_none_or(|(_, ns)| tally.total_ns > ns);
        if let (Some(stack), true) = (stack, more) {
            self.stack = Some((stack, tally.total_ns));
        }
    }
}

/// The tasks with the most time, at most `limit`, most first.
pub(super) fn largest(
    tasks: HashMap<TaskRef, TaskPart>,
    limit: usize,
    names: &dyn Names,
) -> Vec<TaskShare> {
    let mut tasks: Vec<(TaskRef, TaskPart)> = tasks.into_iter().collect();
    tasks.sort_by(|(a, x), (b, y)| y.tally.total_ns.cmp(&x.tally.total_ns).then(a.cmp(b)));
    tasks
        .iter()
        .take(limit)
        .map(|(task, part)| share_of(*task, part, names))
        .collect()
}

fn share_of(task: TaskRef, part: &TaskPart, names: &dyn Names) -> TaskShare {
    let facts = names.task_facts(part.pid, task, part.stack.map(|(stack, _)| stack));
    let mut share = TaskShare {
        task,
        name: names.task_name(part.pid, task),
        name_unknown: None,
        scheduler: None,
        created_by: names.task_creator(part.pid, task),
        count: part.tally.count,
        total_ns: part.tally.total_ns,
        max_ns: part.tally.max_ns,
    };
    if let Some(facts) = facts {
        share.name_unknown = facts.name.reason().cloned();
        share.name = facts.name.known().cloned().or(facts.label);
        share.scheduler = facts.scheduler;
        share.created_by = facts.spawned_at.or(share.created_by);
    }
    share
}
