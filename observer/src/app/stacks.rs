//! Stacks of a session: fetched from the kernel's map or unwound, kept once, named at the end.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::target::{BlockedStack, Target};
use super::two_stacks::{self, Joined};
use crate::model::event::{CpuSampleEvent, UserStackEvent, WaitClass};
use crate::model::memory::Memory as _;
use crate::model::stacks::{RawStack, StackId, StackTable};
use crate::model::syscall::Subject;
use crate::model::{Frame, Known, Pid, Reason};
use crate::probes::maps::Maps;
use crate::resolve::classify;
use crate::resolve::symbols::{Addresses, SymbolizerHandle};
use crate::resolve::unwind::{Regs, TableCache, Unwinder, Unwound};
use crate::runtimes::TaskStacks;
use crate::sys::memory::ProcessMemory;

/// Frames that are unwound at most.
const MAX_FRAMES: usize = 127;

/// How soon the mappings of a process are read again for an address that is not in them.
const REFRESH: Duration = Duration::from_millis(50);

/// An unwinder, and when it read the mappings.
#[derive(Debug)]
struct Slot {
    unwinder: Unwinder,
    fresh: Instant,
}

/// All stacks of a session.
#[derive(Debug)]
pub struct Stacks {
    table: StackTable,
    kernel_side: HashMap<(Option<Pid>, u32), StackId>,
    /// Stacks of running threads that the kernel keeps: their first address is no return address.
    running: HashMap<(Pid, u32), StackId>,
    symbolizer: SymbolizerHandle,
    unwinders: HashMap<Pid, Slot>,
    tables: TableCache,
    /// What walks stacks that tasks left for another, per target.
    tasks: HashMap<Pid, Box<dyn TaskStacks>>,
    named: HashMap<StackId, Vec<Frame>>,
    adopted: u32,
}

impl Stacks {
    /// No stacks yet.
    pub fn new(symbolizer: SymbolizerHandle) -> Self {
        Self {
            table: StackTable::default(),
            kernel_side: HashMap::new(),
            running: HashMap::new(),
            symbolizer,
            unwinders: HashMap::new(),
            tables: TableCache::default(),
            tasks: HashMap::new(),
            named: HashMap::new(),
            adopted: 0,
        }
    }

    /// Gets ready for the stacks of a process (at attach and after exec), so that they can be named
    /// when it has ended.
    pub fn prepare(&mut self, pid: Pid) {
        if let Err(reason) = self.symbolizer.prepare(pid) {
            tracing::debug!(pid = pid.0, %reason, "symbolizer not prepared");
        }
        self.unwinders.remove(&pid);
    }

    /// Sets what walks stacks that the tasks of a process left for another, if they do.
    pub fn set_tasks(&mut self, pid: Pid, tasks: Option<Box<dyn TaskStacks>>) {
        match tasks {
            Some(tasks) => drop(self.tasks.insert(pid, tasks)),
            None => drop(self.tasks.remove(&pid)),
        }
    }

    /// Whether code is the language's whose tasks leave their stacks: walks by frame pointers are right.
    pub fn is_runtime_code(&self, pid: Pid, address: u64) -> bool {
        let tasks = self.tasks.get(&pid);
        tasks.is_some_and(|tasks| tasks.is_runtime_code(address))
    }

    /// Who names addresses.
    pub fn symbolizer(&self) -> &SymbolizerHandle {
        &self.symbolizer
    }

    /// Keeps a stack.
    pub fn intern(&mut self, pid: Option<Pid>, addresses: &[u64], cut: Option<Reason>) -> StackId {
        self.table.intern(RawStack {
            pid,
            addresses: Rc::from(addresses),
            cut,
            gap: None,
        })
    }

    fn intern_joined(&mut self, pid: Pid, joined: Joined) -> StackId {
        self.table.intern(RawStack {
            pid: Some(pid),
            addresses: Rc::from(joined.addresses),
            cut: joined.cut,
            gap: joined.gap,
        })
    }

    /// Copies a stack out of the kernel's map, if that was not done before.
    pub fn fetch(&mut self, pid: Option<Pid>, id: u32, maps: &Maps) {
        if self.kernel_side.contains_key(&(pid, id)) {
            return;
        }
        if let Some(addresses) = maps.stack(id) {
            let tasks = pid.and_then(|pid| Some((pid, self.tasks.get(&pid)?)));
            let stack = match tasks {
                Some((pid, tasks))
                    if addresses
                        .first()
                        .is_some_and(|ip| !tasks.is_runtime_code(*ip)) =>
                {
                    let joined = two_stacks::walked(&addresses, tasks.as_ref());
                    self.intern_joined(pid, joined)
                }
                _ => self.intern(pid, &addresses, None),
            };
            self.kernel_side.insert((pid, id), stack);
        }
    }

    /// Gives a stack that was read from outside an id like those of the kernel's map, but beyond
    /// their range.
    pub fn adopt(&mut self, stack: StackId) -> u32 {
        const BEYOND: u32 = 1 << 31;
        let pid = self.table.get(stack).and_then(|s| s.pid);
        let id = BEYOND + self.adopted;
        self.adopted += 1;
        self.kernel_side.insert((pid, id), stack);
        id
    }

    /// The stack that the kernel keeps under an id.
    pub fn kernel_side(&self, pid: Option<Pid>, id: u32) -> Option<StackId> {
        self.kernel_side.get(&(pid, id)).copied()
    }

    /// The unwinder of a process, with the code that holds `ip`, if that can be had.
    fn unwinder(&mut self, pid: Pid, ip: u64) -> Option<&mut Unwinder> {
        let slot = match self.unwinders.entry(pid) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => slot.insert(Slot {
                unwinder: Unwinder::new(pid, &mut self.tables).ok()?,
                fresh: Instant::now(),
            }),
        };
        // Libraries are mapped after the program has started, and at any time by dlopen.
        if !slot.unwinder.knows(ip) && slot.fresh.elapsed() > REFRESH {
            slot.fresh = Instant::now();
            if let Err(reason) = slot.unwinder.refresh(&mut self.tables) {
                tracing::debug!(pid = pid.0, %reason, "mappings not read again");
            }
        }
        Some(&mut slot.unwinder)
    }

    /// The addresses of a stack, nearest first.
    pub fn addresses(&self, id: StackId) -> &[u64] {
        self.table.get(id).map_or(&[], |stack| &stack.addresses)
    }

    /// Unwinds a copied stack.
    pub fn unwind(&mut self, event: &UserStackEvent<'_>) -> Option<(StackId, Option<Unwound>)> {
        let caller = called_vfork(event.pid, event.ip, (event.class, event.subject));
        let regs = Regs {
            ip: caller.unwrap_or(event.ip),
            sp: event.sp,
            bp: Some(event.bp),
        };
        let mut unwound = self
            .unwinder(event.pid, regs.ip)?
            .unwind(regs, event.bytes, MAX_FRAMES);
        if caller.is_some() {
            put_first(&mut unwound, event.ip, event.sp);
        }
        let Some(tasks) = self.tasks.get_mut(&event.pid) else {
            let cut = unwound.truncated.clone();
            let id = self.intern(Some(event.pid), &unwound.frames, cut);
            return Some((id, Some(unwound)));
        };
        let task = event.task.map(|left| tasks.walk(left));
        let joined = two_stacks::join(unwound, task, tasks.as_ref());
        Some((self.intern_joined(event.pid, joined), None))
    }

    /// The stack of a running thread, unwound from its copy; the instruction alone without one.
    pub fn of_running(&mut self, event: &CpuSampleEvent<'_>) -> (StackId, Option<Unwound>) {
        let regs = Regs {
            ip: event.ip,
            sp: event.sp,
            bp: Some(event.bp),
        };
        let unwound = (!event.bytes.is_empty())
            .then(|| {
                let unwinder = self.unwinder(event.pid, event.ip)?;
                Some(unwinder.unwind(regs, event.bytes, MAX_FRAMES))
            })
            .flatten();
        let (mut addresses, cut) = match &unwound {
            Some(unwound) => (unwound.frames.clone(), unwound.truncated.clone()),
            None => (
                vec![event.ip],
                Some(Reason::new("no copy of this stack was taken")),
            ),
        };
        after_call(&mut addresses, event.in_kernel);
        (self.intern(Some(event.pid), &addresses, cut), unwound)
    }

    /// Copies the stack of a running thread out of the kernel's map, if that was not done before.
    pub fn fetch_running(&mut self, pid: Pid, id: u32, maps: &Maps) -> Option<StackId> {
        if let Some(stack) = self.running.get(&(pid, id)) {
            return Some(*stack);
        }
        let mut addresses = maps.stack(id)?;
        after_call(&mut addresses, false);
        let stack = self.intern(Some(pid), &addresses, None);
        self.running.insert((pid, id), stack);
        Some(stack)
    }

    /// See [`Stacks::fetch_running`].
    pub fn running(&self, pid: Pid, id: u32) -> Option<StackId> {
        self.running.get(&(pid, id)).copied()
    }

    /// Reads the stack of a thread that is blocked now, and that of its task when it is another:
    /// otherwise what was read is given too.
    pub fn read_blocked(
        &mut self,
        target: &Target,
        (ip, sp, bp): (u64, u64, u64),
        wait: (WaitClass, u64),
        task_at: Option<u64>,
    ) -> (StackId, Option<BlockedStack>) {
        let pid = target.process.id.pid;
        let caller = called_vfork(pid, ip, wait);
        let regs = (caller.unwrap_or(ip), sp, bp);
        let unwinder = self.unwinder(pid, regs.0);
        let mut stack = target.blocked_stack(unwinder, regs);
        if caller.is_some() {
            put_first(&mut stack.unwound, ip, sp);
        }
        let Some(tasks) = self
            .tasks
            .get_mut(&pid)
            .filter(|tasks| !tasks.is_runtime_code(regs.0))
        else {
            let cut = stack.unwound.truncated.clone();
            let id = self.intern(Some(pid), &stack.unwound.frames, cut);
            return (id, Some(stack));
        };
        let task = task_at.and_then(|at| tasks.read(&target.memory(), at));
        let joined = two_stacks::join(stack.unwound, task, tasks.as_ref());
        (self.intern_joined(pid, joined), None)
    }

    /// Lets go of unwinding tables and the files behind them: nothing is unwound any more.
    pub fn forget_unwinders(&mut self) {
        self.unwinders.clear();
        self.tables = TableCache::default();
    }

    /// Names all stacks of a process now, because its files are about to change.
    pub fn name_all_of(&mut self, pid: Pid) {
        let ids: Vec<StackId> = self
            .table
            .ids()
            .filter(|id| {
                self.table
                    .get(*id)
                    .is_some_and(|stack| stack.pid == Some(pid))
            })
            .collect();
        self.name_all(&ids);
    }

    /// Symbolizes stacks, once each. What they have in common is looked up once, before.
    pub fn name_all(&mut self, ids: &[StackId]) {
        let mut addresses: HashMap<Pid, HashSet<u64>> = HashMap::new();
        for id in ids.iter().filter(|id| !self.named.contains_key(id)) {
            if let Some(stack) = self.table.get(*id)
                && let Some(pid) = stack.pid
            {
                addresses.entry(pid).or_default().extend(&*stack.addresses);
            }
        }
        for (pid, addresses) in addresses {
            self.symbolizer.learn(pid, addresses.into_iter().collect());
        }
        for id in ids {
            self.name(*id);
        }
    }

    /// Symbolizes a stack, once.
    fn name(&mut self, id: StackId) {
        if self.named.contains_key(&id) {
            return;
        }
        let Some(stack) = self.table.get(id) else {
            return;
        };
        let mut frames = match stack.pid {
            Some(pid) => {
                let gap = stack.gap.as_ref();
                let at = gap
                    .map_or(0, |(at, _)| *at as usize)
                    .min(stack.addresses.len());
                let (before, after) = stack.addresses.split_at(at);
                let name = |part| self.symbolizer.process(pid, part, Addresses::AfterCall);
                let mut frames = if before.is_empty() {
                    Vec::new()
                } else {
                    name(before)
                };
                frames.extend(gap.map(|(_, reason)| Frame::missing(reason.clone())));
                frames.extend(name(after));
                frames
            }
            None => without_scheduler(self.symbolizer.kernel(&stack.addresses)),
        };
        if let Some(cut) = &stack.cut {
            say_cut(&mut frames, cut);
        }
        self.named.insert(id, frames);
    }

    /// Whether frames are missing inside of a stack.
    pub fn has_gap(&self, id: StackId) -> bool {
        self.table.get(id).is_some_and(|stack| stack.gap.is_some())
    }

    /// The frames of a named stack, nearest first.
    pub fn frames(&self, id: StackId) -> &[Frame] {
        self.named.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The frame to name a wait by.
    pub fn site(&self, id: StackId) -> Known<Frame> {
        let frames = self.frames(id);
        match (
            classify::site(frames),
            self.table.get(id).and_then(|s| s.cut.clone()),
        ) {
            (Known::Known(frame), _) => Known::Known(frame.clone()),
            (Known::Unknown(_), Some(cut)) => Known::Unknown(cut),
            (Known::Unknown(reason), None) => Known::Unknown(reason),
        }
    }
}

/// Says at a stack's end why it ends there, unless its last frame does, or is where threads begin. A single
/// address is no stack that was cut.
fn say_cut(frames: &mut Vec<Frame>, why: &Reason) {
    let whole = classify::is_whole(frames);
    match &mut frames[..] {
        [.., last] if last.function.is_none() => {
            last.unknown_reason.get_or_insert_with(|| why.clone());
        }
        [first, .., last] if !whole && first.address != last.address => {
            frames.push(Frame::missing(why.clone()));
        }
        _ => {}
    }
}

/// Where a thread that waits at `ip` called `vfork`, whose return address is on no stack meanwhile. Only
/// glibc's is known: the instructions before say so.
fn called_vfork(pid: Pid, ip: u64, (class, subject): (WaitClass, u64)) -> Option<u64> {
    /// `pop %rdi; mov $58, %eax; syscall` (glibc 2.36 `sysdeps/unix/sysv/linux/x86_64/vfork.S`).
    const GLIBC: [u8; 8] = [0x5f, 0xb8, 58, 0, 0, 0, 0x0f, 0x05];
    if class.subject() != Subject::Caller {
        return None;
    }
    let mut code = [0; GLIBC.len()];
    let before = ip.checked_sub(GLIBC.len() as u64)?;
    ProcessMemory::new(pid).read(before, &mut code).ok()?;
    (code == GLIBC).then_some(subject)
}

/// Adds the innermost frame.
fn put_first(unwound: &mut Unwound, ip: u64, sp: u64) {
    unwound.frames.insert(0, ip);
    if !unwound.stack_pointers.is_empty() {
        unwound.stack_pointers.insert(0, sp);
    }
}

/// Stacks are named as lists of return addresses, one byte before each: the instruction at which a
/// thread was interrupted is made to look like one.
fn after_call(addresses: &mut [u64], in_kernel: bool) {
    if let Some(first) = addresses.first_mut()
        && !in_kernel
    {
        *first = first.saturating_add(1);
    }
}

/// Kernel stacks are taken inside the scheduler: its frames and those of our own program, nearest
/// first, are the same in every stack and tell nothing. What follows the last of them is kept.
fn without_scheduler(mut frames: Vec<Frame>) -> Vec<Frame> {
    const INNER: usize = 12;
    let is_scheduler = |frame: &Frame| {
        frame.function.as_deref().is_some_and(|name| {
            matches!(
                name,
                "schedule" | "__schedule" | "preempt_schedule_irq" | "schedule_idle"
            ) || name.starts_with("bpf_")
                || name.starts_with("__traceiter_")
                || name.starts_with("__bpf_trace_")
        })
    };
    if let Some(last) = frames.iter().take(INNER).rposition(is_scheduler) {
        frames.drain(..=last);
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FrameKind;

    #[test]
    fn a_stack_that_was_cut_says_so_at_its_end() {
        const WHY: Reason = Reason::new("the stack is deeper than the piece that was copied");
        let frame = |address, function: Option<&str>| Frame {
            address,
            function: function.map(Into::into),
            file: None,
            line: None,
            module: Some("app".into()),
            module_offset: None,
            kind: FrameKind::User,
            unknown_reason: None,
        };
        let said = |frames: &[Frame]| {
            let mut frames = frames.to_vec();
            say_cut(&mut frames, &WHY);
            let last = frames.last().cloned();
            (frames.len(), last.and_then(|last| last.unknown_reason))
        };
        let (read, save) = (frame(1, Some("read")), frame(2, Some("save")));
        assert_eq!(said(&[read.clone(), save.clone()]), (3, Some(WHY)));
        let nameless = frame(3, None);
        assert_eq!(said(&[read.clone(), save, nameless]), (3, Some(WHY)));
        let root = frame(4, Some("start_thread"));
        assert_eq!(said(&[read.clone(), root]), (2, None));
        // One address, with what was inlined there, is not a stack that was cut.
        assert_eq!(said(&[read.clone(), frame(1, Some("main"))]), (2, None));
        assert_eq!(said(&[]), (0, None));
    }
}
