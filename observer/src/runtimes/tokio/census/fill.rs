//! From the list of tasks to a census: what each one waits for, and who has to do with that.

use std::collections::HashSet;

use super::walk::Listed;
use super::{MAX_SEEN, TokioCensus, state_of};
use crate::model::census::{Census, Mention, Reference, TaskState, Uses, WaitKind};
use crate::model::memory::{Memory, ReadError, ReadRequest};

/// Tasks that are read before it is looked whether they were polled meanwhile.
const CHUNK: usize = 32;

impl TokioCensus {
    /// Adds the tasks that were listed.
    pub(super) fn fill(
        &mut self,
        memory: &dyn Memory,
        census: &mut Census,
    ) -> Result<(), ReadError> {
        let mut listed = std::mem::take(&mut self.walk.tasks);
        listed.sort_unstable_by_key(|task| task.id);
        census.tasks.reserve(listed.len());
        census.searched = true;
        for chunk in listed.chunks(CHUNK) {
            let first = census.tasks.len();
            for listed in chunk {
                if self.seen.len() < MAX_SEEN {
                    self.seen.insert(listed.id, listed.header.vtable);
                }
                let mut task = self.task(listed);
                let watched = &self.watched;
                let is_known = self.parked.as_mut().is_some_and(|parked| {
                    if task.state == TaskState::Waiting {
                        let known = parked.wait(listed, watched, memory, &mut task, census);
                        return known.is_some();
                    }
                    parked.keeps(listed, watched, memory, census);
                    false
                });
                census.searched &= is_known;
                census.tasks.push(task);
            }
            look_again(chunk, first, memory, census)?;
        }
        keep_mentioned_ends(census);
        self.mention_joined(&listed, census);
        self.walk.tasks = listed;
        Ok(())
    }

    /// Tasks whose end others wait for are named by the address of their header.
    fn mention_joined(&self, listed: &[Listed], census: &mut Census) {
        let joined: HashSet<u64> = census
            .waits
            .iter()
            .filter(|wait| wait.kind == WaitKind::Task)
            .filter_map(|wait| wait.address)
            .collect();
        if joined.is_empty() {
            return;
        }
        let mention = |task: &Listed| {
            let vtable = self.image.vtables().get(task.header.vtable)?;
            Some(Mention {
                task: task.id,
                address: task.at,
                pc: vtable.address.wrapping_add(self.bias),
                uses: Uses::default(),
                how: Reference::Itself,
            })
        };
        let tasks = listed.iter().filter(|task| joined.contains(&task.at));
        census.mentions.extend(tasks.filter_map(mention));
    }
}

/// Leaves out ends of channels for which nobody waits.
fn keep_mentioned_ends(census: &mut Census) {
    let waited: HashSet<u64> = census
        .waits
        .iter()
        .filter(|wait| matches!(wait.kind, WaitKind::Channel | WaitKind::Oneshot))
        .filter_map(|wait| wait.address)
        .collect();
    census
        .mentions
        .retain(|mention| mention.how != Reference::Owned || waited.contains(&mention.address));
}

/// Of tasks that were polled while they were read nothing counts but what they do now. `first` is the
/// place of the first of them in the census.
fn look_again(
    listed: &[Listed],
    first: usize,
    memory: &dyn Memory,
    census: &mut Census,
) -> Result<(), ReadError> {
    let mut states = [[0; 8]; CHUNK];
    let mut requests: Vec<ReadRequest<'_>> = listed
        .iter()
        .zip(&mut states)
        .map(|(task, buf)| ReadRequest {
            addr: task.at,
            buf,
            ok: false,
        })
        .collect();
    memory.read_batch(&mut requests)?;
    let read: Vec<bool> = requests.iter().map(|request| request.ok).collect();
    census.figures.bytes_read += 8 * listed.len() as u64;
    let tasks = census.tasks.get_mut(first..).unwrap_or_default();
    for (((task, listed), now), read) in tasks.iter_mut().zip(listed).zip(&states).zip(read) {
        let now = u64::from_le_bytes(*now);
        // Without its stack a task is nothing but its state, which was read at once.
        if task.stack.is_none() || (read && now == listed.header.state) {
            continue;
        }
        census.figures.torn += 1;
        census.searched = false;
        let id = task.id;
        census.mentions.retain(|mention| mention.task != id);
        census.holders.retain(|holder| holder.task != id);
        (task.stack, task.waits) = (None, 0..0);
        (task.wait_reason, task.cause) = (None, None);
        task.state = state_of(now);
        task.blocked = task.state == TaskState::Waiting;
    }
    Ok(())
}
