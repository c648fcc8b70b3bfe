//! Names for tests: stacks with the frames and the sites that a test gives them.

use std::collections::{HashMap, HashSet};

use super::cpu::CpuStack;
use super::cpu_rollup::CpuNames;
use crate::model::event::WaitClass;
use crate::model::names::Names;
use crate::model::stacks::{RawStack, StackId, StackTable};
use crate::model::task::{TaskFacts, TaskRef};
use crate::model::{Frame, FrameKind, Known, Pid, Resource};

/// One process, whose tasks have neither names nor creators.
#[derive(Default)]
pub struct FakeNames {
    table: StackTable,
    frames: HashMap<StackId, Vec<Frame>>,
    sites: HashMap<StackId, Known<Frame>>,
    gaps: HashSet<StackId>,
    kernel_side: HashMap<u32, StackId>,
}

impl FakeNames {
    /// A stack of its own.
    pub fn add(&mut self, frames: Vec<Frame>, site: Known<Frame>) -> StackId {
        let id = self.table.intern(RawStack {
            pid: Some(Pid(1)),
            addresses: [self.frames.len() as u64].into(),
            cut: None,
            gap: None,
        });
        self.frames.insert(id, frames);
        self.sites.insert(id, site);
        id
    }

    /// Frames are missing inside of a stack.
    pub fn has_gap_in(&mut self, stack: StackId) {
        self.gaps.insert(stack);
    }

    /// The kernel walked a stack.
    pub fn walked(&mut self, id: u32, stack: StackId) {
        self.kernel_side.insert(id, stack);
    }
}

/// A frame of the program.
pub fn frame(function: Option<&str>, address: u64, line: Option<u32>) -> Frame {
    Frame {
        address,
        function: function.map(Into::into),
        file: line.map(|_| "work.rs".into()),
        line,
        module: None,
        module_offset: None,
        kind: FrameKind::User,
        unknown_reason: None,
    }
}

impl Names for FakeNames {
    fn target(&self, _: Pid) -> Option<usize> {
        Some(0)
    }
    fn kernel_side_stack(&self, _: Option<Pid>, id: u32) -> Option<StackId> {
        self.kernel_side.get(&id).copied()
    }
    fn frames(&self, stack: StackId) -> &[Frame] {
        self.frames.get(&stack).map_or(&[], Vec::as_slice)
    }
    fn has_gap(&self, stack: StackId) -> bool {
        self.gaps.contains(&stack)
    }
    fn site(&self, stack: StackId) -> Known<Frame> {
        self.sites[&stack].clone()
    }
    fn resource(&self, _: Pid, _: WaitClass, _: u64) -> Option<Resource> {
        None
    }
    fn task_name(&self, _: Pid, _: TaskRef) -> Option<String> {
        None
    }
    fn task_creator(&self, _: Pid, _: TaskRef) -> Option<String> {
        None
    }
    fn task_facts(&self, _: Pid, _: TaskRef, _: Option<StackId>) -> Option<TaskFacts> {
        None
    }
    fn syscall_name(&self, nr: u32) -> String {
        format!("syscall {nr}")
    }
    fn process_name(&self, _: Pid) -> Option<String> {
        None
    }
}

impl CpuNames for FakeNames {
    fn running_stack(&self, _: Pid, stack: CpuStack) -> Option<StackId> {
        match stack {
            CpuStack::Own(id) => Some(id),
            CpuStack::Kernel(_) => None,
        }
    }
}
