//! The task of a thread of a live process, and the self-check of a reader against all of them.

use crate::model::Reason;
use crate::model::memory::{Memory, ReadError};
use crate::runtimes::{TokioIdForm, TokioReader};

use super::locals::locals_of;
use super::threads::ThreadBase;

/// Ids count up from 1 in one atomic per tokio copy (tokio `runtime/task/id.rs`); no process lives
/// to see this many.
const MAX_ID: u64 = 1 << 48;
/// `EnterRuntime::NotEntered`: the niche above the bool of `Entered` (tokio `context/runtime.rs`).
const NOT_ENTERED: u8 = 2;

/// What a thread's `CONTEXT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskNow {
    /// The task that the thread polls; `None` when it polls none (or the root of a `block_on`).
    pub id: Option<u64>,
    /// EnterRuntime: 2 = not entered, 1 = entered, may block in place; 0 = entered, may not.
    pub entered: Option<u8>,
    /// Whether the thread is inside a budgeted poll.
    pub in_poll: Option<bool>,
}

/// Reads the task of the thread whose TLS base is `base`.
///
/// # Errors
/// When the memory can not be read, or holds what no tokio leaves there.
pub fn read_task(reader: &TokioReader, base: u64, memory: &dyn Memory) -> Result<TaskNow, Reason> {
    let unreadable =
        |e: ReadError| Reason::with(format!("tokio's thread-local could not be read: {e}"));
    let Some(base) = locals_of(reader.locals, base, memory).map_err(unreadable)? else {
        return Ok(TaskNow::default());
    };
    let at = |offset: i64| base.wrapping_add_signed(offset);
    let word = memory.read_u64(at(reader.id_offset)).map_err(unreadable)?;
    let id = match reader.id_form {
        TokioIdForm::NonZero => (word != 0).then_some(word),
        TokioIdForm::Tagged => {
            // The tag is one word; only its low half is sure to be written.
            match word as u32 {
                0 => None,
                1 => Some(
                    memory
                        .read_u64(at(reader.id_offset + 8))
                        .map_err(unreadable)?,
                ),
                tag => return Err(implausible("tag", u64::from(tag))),
            }
        }
    };
    if let Some(id) = id
        && !(1..MAX_ID).contains(&id)
    {
        return Err(implausible("task id", id));
    }
    let small = |offset: Option<i64>, what, max: u8| {
        let Some(offset) = offset else {
            return Ok(None);
        };
        let mut byte = [0];
        memory.read(at(offset), &mut byte).map_err(unreadable)?;
        if byte[0] > max {
            return Err(implausible(what, u64::from(byte[0])));
        }
        Ok(Some(byte[0]))
    };
    let entered = small(reader.entered_offset, "EnterRuntime byte", NOT_ENTERED)?;
    let in_poll = small(reader.budget_offset, "budget tag", 1)?.map(|tag| tag != 0);
    Ok(TaskNow {
        id,
        entered,
        in_poll,
    })
}

fn implausible(what: &str, value: u64) -> Reason {
    Reason::with(format!(
        "self-check failed: {what} {value:#x} is not one that tokio writes"
    ))
}

/// Reads every thread; how many have a task now. One implausible thread refuses the reader.
pub(super) fn check(
    reader: &TokioReader,
    bases: &[ThreadBase],
    memory: &dyn Memory,
) -> Result<usize, Reason> {
    let mut tasks = 0;
    for thread in bases {
        tasks += usize::from(read_task(reader, thread.base, memory)?.id.is_some());
    }
    Ok(tasks)
}
