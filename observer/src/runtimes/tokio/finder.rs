//! From a stack on which a task is polled to what the task is. The pointer to the task's `Header`
//! lies in the frames around the poll (the poll needs it when the future returns): a word of the
//! stack counts as such when it points to a task with a known vtable *and* the id that the thread's
//! `CONTEXT` shows. Without such a word, the function that polls tells which types are possible.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::memory::Memory;
use crate::model::task::{TaskFacts, TaskKind, TaskRef};
use crate::model::{Known, Reason};
use crate::runtimes::{PolledStack, TaskFinder};
use crate::sys::elf::ElfImage;

use super::names::TaskType;
use super::polled::PolledCode;
use super::task::SpawnLocation;
use super::{TokioImage, pointers::le64};

/// Tasks remembered; further ones stay without a name, and that is the reason they are given.
const MAX_TASKS: usize = 65_536;
/// Words of a stack that are looked at for the pointer, on either side of the poll's frame.
const MAX_WORDS: usize = 256;
/// Stacks of one task that are searched without success before it is given up.
const MAX_LOOKS: u8 = 8;
/// Types that are listed when several are possible.
const MAX_LISTED: usize = 3;

/// One copy of tokio in a process.
#[derive(Debug)]
pub(super) struct FinderCopy {
    image: TokioImage,
    elf: Arc<ElfImage>,
    bias: u64,
    code: PolledCode,
    /// Named when first asked for.
    types: Option<Vec<TaskType>>,
}

impl FinderCopy {
    pub(super) fn new(image: TokioImage, elf: Arc<ElfImage>, bias: u64) -> Self {
        let code = elf
            .parse()
            .map(|elf| PolledCode::read(&elf, image.vtables()))
            .unwrap_or_default();
        Self {
            image,
            elf,
            bias,
            code,
            types: None,
        }
    }

    /// The vtables of the task that is polled innermost, and the frame that polls it.
    fn polled(&self, frames: &[u64]) -> Option<(usize, &[usize])> {
        frames.iter().enumerate().find_map(|(i, frame)| {
            // All but the first are return addresses: the call is before them.
            let address = frame.wrapping_sub(u64::from(i > 0)).wrapping_sub(self.bias);
            let places = self.code.at(address);
            (!places.is_empty()).then_some((i, places))
        })
    }

    fn types(&mut self) -> &[TaskType] {
        let (image, elf) = (&self.image, &self.elf);
        self.types.get_or_insert_with(|| {
            let types = image.task_types(elf);
            elf.release_pages();
            types
        })
    }
}

/// What was found out about one task.
#[derive(Debug, Clone)]
struct Found {
    copy: u8,
    /// Places of the vtables that it may have; one when it is certain.
    places: Vec<usize>,
    /// The task itself was seen, with its id.
    certain: bool,
    spawned_at: Option<SpawnLocation>,
    looks: u8,
}

/// The tasks of one process, as far as stacks have shown them.
#[derive(Debug)]
pub(super) struct TokioFinder {
    copies: Vec<Option<FinderCopy>>,
    tasks: HashMap<TaskRef, Found>,
    full: bool,
}

impl TokioFinder {
    /// `copies` are in the order of the readers.
    pub(super) fn new(copies: Vec<Option<FinderCopy>>) -> Self {
        Self {
            copies,
            tasks: HashMap::new(),
            full: false,
        }
    }

    fn copy_of(&self, task: TaskRef) -> Option<(u8, &FinderCopy)> {
        let number = task.kind.tokio_copy()?;
        let copy = self.copies.get(usize::from(number))?.as_ref()?;
        Some((number, copy))
    }
}

impl TaskFinder for TokioFinder {
    fn knows(&self, task: TaskRef) -> bool {
        match self.tasks.get(&task) {
            Some(found) => found.certain || found.looks >= MAX_LOOKS,
            None => self.full || self.copy_of(task).is_none(),
        }
    }

    fn look(&mut self, task: TaskRef, stack: &PolledStack<'_>, memory: &dyn Memory) {
        if self.knows(task) {
            return;
        }
        let Some((number, copy)) = self.copy_of(task) else {
            return;
        };
        let polled = copy.polled(stack.frames);
        let seen = find_header(copy, task.id, stack, polled.map(|p| p.0), memory);
        let mut found = match seen {
            Some((place, spawned_at)) => Found {
                copy: number,
                places: vec![place],
                certain: true,
                spawned_at,
                looks: 0,
            },
            None => Found {
                copy: number,
                places: polled.map(|p| p.1.to_vec()).unwrap_or_default(),
                certain: false,
                spawned_at: None,
                looks: 0,
            },
        };
        if let Some(before) = self.tasks.get(&task) {
            found.looks = before.looks.saturating_add(1);
            if !found.certain && !before.places.is_empty() {
                // What all stacks allow. Nothing in common: a stack from outside of the poll itself.
                found.places.retain(|place| before.places.contains(place));
            }
        } else if self.tasks.len() >= MAX_TASKS {
            self.full = true;
            return;
        }
        self.tasks.insert(task, found);
    }

    fn listed(&mut self, id: u64, entry: u64) {
        let place = |(number, copy): (u8, &Option<FinderCopy>)| {
            let copy = copy.as_ref()?;
            let address = entry.wrapping_sub(copy.bias);
            let vtables = copy.image.vtables();
            let place = vtables.iter().position(|v| v.address == address)?;
            Some((number, place))
        };
        let Some((number, place)) = (0..).zip(&self.copies).find_map(place) else {
            return;
        };
        let task = TaskRef {
            kind: TaskKind::tokio(number),
            id,
        };
        let spawned_at = match self.tasks.get(&task) {
            Some(found) if found.certain => return,
            Some(found) => found.spawned_at.clone(),
            None if self.tasks.len() >= MAX_TASKS => {
                self.full = true;
                return;
            }
            None => None,
        };
        self.tasks.insert(
            task,
            Found {
                copy: number,
                places: vec![place],
                certain: true,
                spawned_at,
                looks: 0,
            },
        );
    }

    fn describe(&mut self, task: TaskRef, frames: &[u64]) -> TaskFacts {
        let (number, places, spawned_at) = match self.tasks.get(&task) {
            Some(found) => (
                found.copy,
                found.places.clone(),
                found.spawned_at.as_ref().map(ToString::to_string),
            ),
            None => match self.copy_of(task) {
                Some((number, copy)) => {
                    let places = copy.polled(frames).map(|p| p.1.to_vec());
                    (number, places.unwrap_or_default(), None)
                }
                None => {
                    return TaskFacts::unknown("its copy of tokio was not found in the process");
                }
            },
        };
        let full = self.full;
        let any_stack = self.tasks.contains_key(&task) || !frames.is_empty();
        let Some(Some(copy)) = self.copies.get_mut(usize::from(number)) else {
            return TaskFacts::unknown("its copy of tokio was not found in the process");
        };
        let types = copy.types();
        let types: Vec<&TaskType> = places
            .iter()
            .filter_map(|place| types.get(*place))
            .collect();
        TaskFacts {
            spawned_at,
            ..facts(&types, any_stack, full)
        }
    }
}

/// What one type says.
pub(super) fn facts_of(of: &TaskType) -> TaskFacts {
    facts(&[of], true, false)
}

/// What the possible types say.
fn facts(types: &[&TaskType], any_stack: bool, full: bool) -> TaskFacts {
    let scheduler = types
        .first()
        .and_then(|first| first.scheduler)
        .filter(|scheduler| types.iter().all(|t| t.scheduler == Some(*scheduler)))
        .map(super::SchedulerKind::as_str);
    let (name, label) = match types {
        [] if full => (
            Known::unknown("more tasks were seen than are remembered"),
            None,
        ),
        [] if !any_stack => (Known::unknown("no stack of it was taken"), None),
        [] => (
            Known::unknown("its stacks do not reach down to its poll"),
            None,
        ),
        [only] => match &only.name {
            Known::Known(name) => (Known::Known(name.clone()), None),
            Known::Unknown(reason) => (Known::Unknown(reason.clone()), Some(only.label())),
        },
        several => {
            let listed: Vec<String> = several.iter().take(MAX_LISTED).map(|t| t.label()).collect();
            let more = match several.len().saturating_sub(MAX_LISTED) {
                0 => String::new(),
                more => format!(" or {more} more"),
            };
            let reason = Reason::with(format!(
                "the compiler merged the code of several types: {}{more}",
                listed.join(" or ")
            ));
            (Known::Unknown(reason), None)
        }
    };
    TaskFacts {
        name,
        label,
        scheduler,
        spawned_at: None,
    }
}

/// Looks for the pointer to the task on its stack: first in the frame that polls it, upwards, then
/// in the frames that it called, where registers were saved, downwards.
fn find_header(
    copy: &FinderCopy,
    id: u64,
    stack: &PolledStack<'_>,
    frame: Option<usize>,
    memory: &dyn Memory,
) -> Option<(usize, Option<SpawnLocation>)> {
    let pivot = frame
        .and_then(|frame| stack.stack_pointers.get(frame))
        .and_then(|sp| sp.checked_sub(stack.start))
        .and_then(|offset| usize::try_from(offset).ok())
        .unwrap_or(0)
        .min(stack.bytes.len())
        & !7;
    let (below, above) = stack.bytes.split_at(pivot);
    let above = above.chunks_exact(8).take(MAX_WORDS);
    let below = below.rchunks_exact(8).take(MAX_WORDS);
    let own = stack.start..stack.start.saturating_add(stack.bytes.len() as u64);
    let mut seen = Vec::with_capacity(32);
    above.chain(below).map(le64).find_map(|word| {
        // Tasks are on the heap, aligned at least as malloc does.
        let plausible = word % 16 == 0 && (0x1_0000..1 << 47).contains(&word);
        if !plausible || own.contains(&word) || seen.contains(&word) {
            return None;
        }
        seen.push(word);
        let task = copy.image.task_at(word, copy.bias, memory).ok()?;
        (task.id == id).then(|| (task.vtable, task.spawned_at.known().cloned()))
    })
}
