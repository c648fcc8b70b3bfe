//! Answers the roll-up's questions from what a session has collected.

use std::cell::RefCell;
use std::collections::HashMap;

use super::paths::Paths;
use super::stacks::Stacks;
use super::target::Target;
use super::task_types::Finders;
use crate::aggregate::cpu::CpuStack;
use crate::aggregate::cpu_rollup::CpuNames;
use crate::model::event::WaitClass;
use crate::model::names::Names;
use crate::model::stacks::StackId;
use crate::model::syscall::{self, Subject};
use crate::model::task::{TaskFacts, TaskKind, TaskRef};
use crate::model::{Frame, Known, Pid, Resource, Tid};
use crate::resolve::resources::FdTable;

/// Names for one session.
#[derive(Debug)]
pub struct SessionNames<'a> {
    targets: &'a [Target],
    stacks: &'a Stacks,
    paths: &'a Paths,
    fds: RefCell<&'a mut FdTable>,
    finders: RefCell<&'a mut Finders>,
    sites: RefCell<HashMap<StackId, Known<Frame>>>,
    processes: RefCell<HashMap<Pid, Option<String>>>,
}

impl<'a> SessionNames<'a> {
    /// Names for the end of a session; stacks must be named already.
    pub fn new(
        targets: &'a [Target],
        (stacks, paths): (&'a Stacks, &'a Paths),
        fds: &'a mut FdTable,
        finders: &'a mut Finders,
    ) -> Self {
        Self {
            targets,
            stacks,
            paths,
            fds: RefCell::new(fds),
            finders: RefCell::new(finders),
            sites: RefCell::new(HashMap::new()),
            processes: RefCell::new(HashMap::new()),
        }
    }

    fn find(&self, pid: Pid) -> Option<&Target> {
        self.targets.iter().find(|t| t.process.id.pid == pid)
    }
}

impl CpuNames for SessionNames<'_> {
    fn running_stack(&self, pid: Pid, stack: CpuStack) -> Option<StackId> {
        match stack {
            CpuStack::Kernel(id) => self.stacks.running(pid, id),
            CpuStack::Own(id) => Some(id),
        }
    }
}

impl Names for SessionNames<'_> {
    fn target(&self, pid: Pid) -> Option<usize> {
        self.targets.iter().position(|t| t.process.id.pid == pid)
    }

    fn kernel_side_stack(&self, pid: Option<Pid>, id: u32) -> Option<StackId> {
        self.stacks.kernel_side(pid, id)
    }

    fn frames(&self, stack: StackId) -> &[Frame] {
        self.stacks.frames(stack)
    }

    fn has_gap(&self, stack: StackId) -> bool {
        self.stacks.has_gap(stack)
    }

    fn site(&self, stack: StackId) -> Known<Frame> {
        self.sites
            .borrow_mut()
            .entry(stack)
            .or_insert_with(|| self.stacks.site(stack))
            .clone()
    }

    fn resource(&self, pid: Pid, class: WaitClass, subject: u64) -> Option<Resource> {
        let WaitClass::Syscall(nr) = class else {
            return None;
        };
        let call = syscall::by_number(nr)?;
        match call.subject {
            Subject::Fd(_) => {
                let seen = self.fds.borrow_mut().resolve(pid, subject as i32);
                Some(seen.as_used_by(call.cause))
            }
            Subject::Futex(_) => Some(Resource {
                kind: "futex",
                address: Some(subject),
                ..Resource::default()
            }),
            Subject::Path(_) => Some(self.paths.resource(subject)),
            Subject::Caller | Subject::None => None,
        }
    }

    fn task_name(&self, pid: Pid, task: TaskRef) -> Option<String> {
        match task.kind {
            TaskKind::Thread => self
                .find(pid)?
                .thread_names
                .get(&Tid(task.id as u32))
                .cloned(),
            TaskKind::Goroutine | TaskKind::TokioTask | TaskKind::TokioTaskOf(_) => None,
        }
    }

    fn task_creator(&self, _pid: Pid, _task: TaskRef) -> Option<String> {
        None
    }

    fn task_facts(&self, pid: Pid, task: TaskRef, stack: Option<StackId>) -> Option<TaskFacts> {
        task.kind.tokio_copy()?;
        let addresses = stack.map_or(&[][..], |stack| self.stacks.addresses(stack));
        self.finders.borrow_mut().describe(pid, task, addresses)
    }

    fn syscall_name(&self, nr: u32) -> String {
        crate::sys::names::syscall(nr)
    }

    fn process_name(&self, pid: Pid) -> Option<String> {
        if let Some(target) = self.find(pid) {
            return Some(format!("{} (pid {pid})", target.process.comm));
        }
        self.processes
            .borrow_mut()
            .entry(pid)
            .or_insert_with(|| {
                let name = crate::sys::usage::process_name(pid)?;
                Some(format!("{name} (pid {pid})"))
            })
            .clone()
    }
}
