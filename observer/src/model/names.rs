//! What the roll-up asks of whoever knows names: a seam, so that aggregation knows no symbolizer.

use super::cause::Cause;
use super::event::WaitClass;
use super::ids::Pid;
use super::known::Known;
use super::resource::Resource;
use super::stack::Frame;
use super::stacks::StackId;
use super::task::{TaskFacts, TaskRef};

/// Names for ids.
pub trait Names {
    /// Index of a process among the targets.
    fn target(&self, pid: Pid) -> Option<usize>;
    /// The interned form of a stack that the kernel keeps under `id`.
    fn kernel_side_stack(&self, pid: Option<Pid>, id: u32) -> Option<StackId>;
    /// The frames of a stack, nearest first.
    fn frames(&self, stack: StackId) -> &[Frame];
    /// Whether frames are missing inside of a stack.
    fn has_gap(&self, stack: StackId) -> bool;
    /// The frame to name a wait by, or why there is none.
    fn site(&self, stack: StackId) -> Known<Frame>;
    /// What a wait is for.
    fn resource(&self, pid: Pid, class: WaitClass, subject: u64) -> Option<Resource>;
    /// A task's name.
    fn task_name(&self, pid: Pid, task: TaskRef) -> Option<String>;
    /// Where a task was created.
    fn task_creator(&self, pid: Pid, task: TaskRef) -> Option<String>;
    /// What a task is, for runtimes whose tasks have types; `stack` is one of its stacks.
    fn task_facts(&self, pid: Pid, task: TaskRef, stack: Option<StackId>) -> Option<TaskFacts>;
    /// A system call by its number.
    fn syscall_name(&self, nr: u32) -> String;
    /// A process for display (`comm`).
    fn process_name(&self, pid: Pid) -> Option<String>;
}

/// Names for what a census of one process holds. Blocks: symbols and descriptors are looked up.
pub trait CensusNames {
    /// The frames of a stack, nearest first. Its addresses lie inside their instructions.
    fn frames(&self, stack: &[u64]) -> Vec<Frame>;
    /// The frame to name a wait by, or why there is none.
    fn site(&self, stack: &[u64]) -> Known<Frame>;
    /// The function whose machine code holds an address (not one that was inlined there).
    fn function(&self, address: u64) -> Known<Frame>;
    /// What tells a task that is at no known place: the function it was started as, from that
    /// function's address; its type, where tasks have types.
    fn start(&self, entry: u64) -> Option<String> {
        started_as(&self.function(entry))
    }
    /// What a descriptor is.
    fn descriptor(&self, fd: i32) -> Resource;
    /// The target (its index) that holds the other end of a socket, if one does.
    fn peer_target(&self, resource: &Resource) -> Option<usize>;
}

/// The same from the function.
pub fn started_as(function: &Known<Frame>) -> Option<String> {
    let name = function.known()?.function.as_deref()?;
    Some(format!("started as {name}"))
}

/// What a wait in a syscall means, given what it is for.
pub fn cause_of(class: WaitClass, resource: Option<&Resource>) -> Cause {
    let nr = match class {
        WaitClass::RunQueue => return Cause::RunQueue,
        WaitClass::PageFault => return Cause::PageFault,
        WaitClass::Kernel | WaitClass::Unknown => return Cause::Other,
        WaitClass::Syscall(nr) => nr,
    };
    let Some(row) = super::syscall::by_number(nr) else {
        return Cause::Other;
    };
    match (row.cause, resource.map(|r| r.kind)) {
        (Cause::FileIo, Some("socket")) => match row.name {
            "write" | "writev" | "sendfile" => Cause::Send,
            "read" | "readv" | "splice" => Cause::Recv,
            _ => Cause::FileIo,
        },
        (Cause::FileIo, Some("pipe")) => Cause::Pipe,
        (cause, _) => cause,
    }
}
