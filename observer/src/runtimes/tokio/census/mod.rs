//! The census of a tokio runtime's tasks: the list that each scheduler keeps of them, and each
//! `LocalSet`, read without stopping the process. Tasks of the blocking pool are in none.
//!
//! What is read may be torn. Where a task is parked is believed only when its state is the same after
//! that was read.

mod fill;
mod local_sets;
mod owned;
mod parked;
mod streams;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use self::local_sets::{LocalSet, local_sets};
use self::owned::{NOTIFIED, Owned, TaskForms};
use self::parked::Parked;
use self::walk::{Listed, MAX_TASKS, Walk};
use super::TokioImage;
use super::live::read_task;
use super::names::{SchedulerKind, TaskType};
use super::scheduler::possible_handles;
use super::threads::{MAX_THREADS, ThreadBase, thread_bases};
use super::vtables::{TaskOffsets, Vtable};
use crate::model::census::{Census, CensusTask, TaskState};
use crate::model::memory::{Memory, ReadError};
use crate::model::stack::FrameKind;
use crate::model::time::Mono;
use crate::model::{Frame, Known, Reason};
use crate::runtimes::reading::NOT_ENTERED;
use crate::runtimes::{TaskCensus, TokioReader};
use crate::sys::elf::ElfImage;
use crate::sys::process::Process;

/// After so many samples other runtimes are looked for: a program may start one at any time. Sooner at first,
/// since only threads that wait show what they drive.
const LOOK_AGAIN: u64 = 32;
/// Runtimes and `LocalSet`s whose tasks are listed.
const MAX_RUNTIMES: usize = 256;
/// Tasks whose types are remembered.
const MAX_SEEN: usize = 65_536;
/// Connections between targets whose users are told.
const MAX_CONNECTIONS: usize = 64;
/// `RUNNING`: a worker polls it (tokio `task/state.rs`).
const RUNNING: u64 = 0b1;
/// The vtables of one copy of tokio in one process.
#[derive(Debug)]
struct Forms(HashMap<u64, (usize, TaskOffsets)>);

impl Forms {
    fn new(vtables: &[Vtable], bias: u64) -> Self {
        let form = |(place, vtable): (usize, &Vtable)| {
            Some((vtable.address.wrapping_add(bias), (place, vtable.offsets?)))
        };
        Self(vtables.iter().enumerate().filter_map(form).collect())
    }
}

impl TaskForms for Forms {
    fn form(&self, vtable: u64) -> Option<(usize, TaskOffsets)> {
        self.0.get(&vtable).copied()
    }
}

/// Ids of the tasks in the lists of the scheduler whose handle is at `handle`, in order; none when no
/// list is there. `vtables` are those of the program, which lies `bias` higher than in its file.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn tasks_of(
    handle: u64,
    (vtables, bias): (&[Vtable], u64),
    memory: &dyn Memory,
) -> Result<Vec<u64>, ReadError> {
    let forms = Forms::new(vtables, bias);
    let mut walk = Walk::default();
    if let Some(owned) = owned::look(handle, &forms, memory)? {
        walk.run(owned, &forms, memory)?;
    }
    let mut ids: Vec<u64> = walk.tasks.iter().map(|task| task.id).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// One runtime, or a `LocalSet`.
#[derive(Debug, Clone, Copy)]
struct Scheduler {
    /// Address of its handle, or of what the `LocalSet` shares with its tasks.
    handle: u64,
    /// Its tasks, once the list was found.
    owned: Option<Owned>,
}

/// Takes censuses of the runtimes of one copy of tokio in one process.
#[derive(Debug)]
pub(super) struct TokioCensus {
    process: Process,
    image: TokioImage,
    elf: Arc<ElfImage>,
    /// The file's name.
    module: Arc<str>,
    bias: u64,
    reader: TokioReader,
    forms: Forms,
    schedulers: Vec<Scheduler>,
    /// Why none was found, when none was.
    not_found: Reason,
    /// Copies of tokio whose tasks are not listed.
    other_copies: usize,
    /// There were more tasks than are listed.
    too_long: bool,
    /// Looks at runtimes for which there was no room.
    left_out: usize,
    /// There were more threads than are looked at.
    many_threads: bool,
    /// Tasks kept more things that others may wait for than are looked at.
    kept_cut: bool,
    /// A `LocalSet` was found.
    local_sets: bool,
    /// Descriptors of connections whose owners are told.
    watched: HashSet<i32>,
    samples: u64,
    /// The vtables' places of the tasks that were listed, by id.
    seen: HashMap<u64, usize>,
    walk: Walk,
    /// Named when first asked for.
    types: Option<Vec<TaskType>>,
    /// Where tasks are suspended; read before the first sample.
    parked: Option<Parked>,
}

impl TokioCensus {
    /// Censuses of the tasks of `image`, which lies `bias` higher in the process than in its file: the
    /// executable's, or that of a library. Tasks of `other_copies` are not listed, which is said.
    ///
    /// # Errors
    /// When this tokio does not tell where a task's id is.
    pub(super) fn new(
        process: &Process,
        (image, elf): (&TokioImage, &Arc<ElfImage>),
        library: Option<&str>,
        (bias, reader): (u64, TokioReader),
        other_copies: usize,
    ) -> Result<Self, Reason> {
        let forms = Forms::new(image.vtables(), bias);
        if forms.0.is_empty() {
            return Err(Reason::new(
                "tokio before 1.23 does not tell where a task's id is",
            ));
        }
        Ok(Self {
            process: process.clone(),
            image: image.clone(),
            elf: Arc::clone(elf),
            module: library.map_or_else(
                || {
                    process
                        .exe
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into()
                },
                Into::into,
            ),
            bias,
            reader,
            forms,
            schedulers: Vec::new(),
            not_found: Reason::new("no thread was seen inside a runtime"),
            other_copies,
            too_long: false,
            left_out: 0,
            many_threads: false,
            kept_cut: false,
            local_sets: false,
            watched: HashSet::new(),
            samples: 0,
            seen: HashMap::new(),
            walk: Walk::default(),
            types: None,
            parked: None,
        })
    }

    /// The runtimes of the threads that are inside one now, and the `LocalSet`s of those that wait; those that
    /// were found before stay.
    fn look_for_schedulers(&mut self, memory: &dyn Memory) -> Result<(), ReadError> {
        let threads: Vec<ThreadBase> = thread_bases(&self.process, memory)
            .into_iter()
            .filter(|thread| self.is_inside(thread, memory))
            .collect();
        self.many_threads |= self.process.threads().is_ok_and(|t| t.len() > MAX_THREADS);
        if threads.is_empty() {
            return Ok(());
        }
        self.not_found =
            Reason::new("the scheduler's handle was not found in the thread-local context");
        let handles = possible_handles(&self.reader, &threads, memory);
        // Runtimes end too.
        self.schedulers
            .retain(|s| s.owned.is_some() || handles.contains(&s.handle));
        for handle in handles {
            self.add(handle, None);
        }
        for LocalSet { shared, owned } in local_sets(&self.process, &threads, &self.forms, memory)?
        {
            self.local_sets = true;
            self.add(shared, Some(owned));
        }
        Ok(())
    }

    fn add(&mut self, handle: u64, owned: Option<Owned>) {
        if let Some(known) = self.schedulers.iter_mut().find(|s| s.handle == handle) {
            known.owned = known.owned.or(owned);
        } else if self.schedulers.len() < MAX_RUNTIMES {
            self.schedulers.push(Scheduler { handle, owned });
        } else {
            self.left_out += 1;
        }
    }

    /// Whether a thread drives a runtime now, as far as its context tells: one that was never used may
    /// read as entered.
    fn is_inside(&self, thread: &ThreadBase, memory: &dyn Memory) -> bool {
        read_task(&self.reader, thread.base, memory).is_ok_and(|now| {
            now.id.is_some() || now.entered.is_some_and(|entered| entered != NOT_ENTERED)
        })
    }

    /// Whether the program has types of tasks that a `LocalSet` polls, as far as they are named.
    fn has_local_tasks(&self) -> bool {
        let is_local = |t: &TaskType| t.scheduler == Some(SchedulerKind::LocalSet);
        if let Some(types) = &self.types {
            return types.iter().any(is_local);
        }
        let has = self.image.task_types(&self.elf).iter().any(is_local);
        self.elf.release_pages();
        has
    }

    /// Walks the lists of all runtimes. `None`: none of their lists could be made out now.
    fn walk(&mut self, memory: &dyn Memory) -> Result<Option<()>, ReadError> {
        self.walk.clear();
        let mut understood = false;
        for scheduler in &mut self.schedulers {
            if scheduler.owned.is_none() {
                scheduler.owned = owned::look(scheduler.handle, &self.forms, memory)?;
            }
            let Some(owned) = scheduler.owned else {
                continue;
            };
            let strange = self.walk.strange;
            self.walk.run(owned, &self.forms, memory)?;
            if self.walk.strange > strange {
                // The runtime has ended, and something else lies there.
                scheduler.owned = None;
            } else {
                understood = true;
            }
        }
        Ok(understood.then_some(()))
    }

    fn task(&self, task: &Listed) -> CensusTask {
        let state = state_of(task.header.state);
        let vtable = self.image.vtables().get(task.header.vtable);
        CensusTask {
            id: task.id,
            state,
            wait_reason: None,
            cause: None,
            blocked: state == TaskState::Waiting,
            system: false,
            leaked: false,
            thread: None,
            locked_to_thread: false,
            parent: None,
            created_at: None,
            entry: vtable.map(|v| v.address.wrapping_add(self.bias)),
            stack: None,
            occasion: 0,
            ready_since: None,
            age: None,
            waits: 0..0,
        }
    }
}

fn is_time_to_look(samples: u64) -> bool {
    let next = samples + 1;
    next.is_power_of_two() || next.is_multiple_of(LOOK_AGAIN)
}

/// What a task does, by its header's state.
fn state_of(state: u64) -> TaskState {
    if state & RUNNING != 0 {
        TaskState::Running
    } else if state & NOTIFIED != 0 {
        TaskState::Runnable
    } else {
        TaskState::Waiting
    }
}

impl TaskCensus for TokioCensus {
    fn take(&mut self, memory: &dyn Memory, now: Mono) -> Result<Known<Census>, Reason> {
        let started = Instant::now();
        let unreadable = |e| Reason::with(format!("the tasks could not be read: {e}"));
        if self.schedulers.is_empty() || is_time_to_look(self.samples) {
            self.look_for_schedulers(memory).map_err(unreadable)?;
        }
        if self.schedulers.is_empty() {
            return if self.process.is_alive() {
                Ok(Known::Unknown(self.not_found.clone()))
            } else {
                Err(Reason::with(ReadError::Gone.to_string()))
            };
        }
        // It takes a while, in which tasks go on: before they are read.
        let (image, elf) = (&self.image, &self.elf);
        self.parked
            .get_or_insert_with(|| Parked::read(image, elf, self.bias, &self.module));
        if self.walk(memory).map_err(unreadable)?.is_none() {
            return Ok(Known::unknown(
                "no task was found in the lists of its schedulers",
            ));
        }
        self.samples += 1;
        let mut census = Census::new(now);
        // Nothing in a task tells whether it was polled since the last sample.
        census.tells_runs = false;
        let walk = &self.walk;
        census.figures.listed = walk.tasks.len() as u64 + walk.ended;
        census.figures.ended = walk.ended;
        census.figures.torn = walk.torn;
        self.too_long |= walk.full;
        census.figures.bytes_read = walk.bytes_read;
        self.fill(memory, &mut census).map_err(unreadable)?;
        census.figures.duration_ns =
            u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(Known::Known(census))
    }

    fn entries(&self) -> Vec<(u64, u64)> {
        let vtables = self.image.vtables();
        let entry = |(&id, &place): (&u64, &usize)| {
            let vtable = vtables.get(place)?;
            Some((id, vtable.address.wrapping_add(self.bias)))
        };
        self.seen.iter().filter_map(entry).collect()
    }

    fn connections_at_most(&self) -> usize {
        MAX_CONNECTIONS
    }

    fn watch_connections(&mut self, fds: &[i32]) {
        self.watched = fds.iter().take(MAX_CONNECTIONS).copied().collect();
    }

    fn remarks(&self) -> Vec<String> {
        let parked = self.parked.as_ref();
        let mut remarks = parked.map(Parked::remarks).unwrap_or_default();
        if self.other_copies > 0 {
            remarks.push(format!(
                "the tasks of {} more copies of tokio are not listed",
                self.other_copies
            ));
        }
        if self.too_long {
            remarks.push(format!(
                "of more than {MAX_TASKS} tasks the others are not listed"
            ));
        }
        if self.left_out > 0 {
            remarks.push(format!(
                "tasks of more than {MAX_RUNTIMES} runtimes and LocalSets at a time are not listed"
            ));
        }
        if self.many_threads {
            remarks.push(format!(
                "runtimes whose threads are all behind the first {MAX_THREADS} are not listed"
            ));
        }
        if self.kept_cut {
            remarks.push(
                "what some tasks keep that others may wait for is not known: it is too much"
                    .to_owned(),
            );
        }
        if !self.local_sets && self.has_local_tasks() {
            remarks.push(
                "tasks of LocalSets, if there are any now, are not listed: no thread that waited had \
                 one on its stack"
                    .to_owned(),
            );
        }
        remarks
    }

    fn frame(&mut self, word: u64) -> Option<Frame> {
        if parked::is_place(word) {
            return self.parked.as_ref()?.frame(word);
        }
        let (image, elf) = (&self.image, &self.elf);
        let types = self.types.get_or_insert_with(|| {
            let types = image.task_types(elf);
            elf.release_pages();
            types
        });
        let vtable = word.wrapping_sub(self.bias);
        let found = types.iter().find(|t| t.vtable == vtable)?;
        Some(Frame {
            address: word,
            function: Some(found.label().into()),
            file: None,
            line: None,
            module: None,
            module_offset: None,
            kind: FrameKind::User,
            unknown_reason: None,
        })
    }
}
