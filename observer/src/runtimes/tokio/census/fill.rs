//! From the list of tasks to a census: what each one waits for, and who has to do with that.

use std::collections::HashSet;

use super::walk::Listed;
use super::{MAX_SEEN, RUNNING, TokioCensus, state_of};
use crate::model::census::{Census, Mention, Reference, TaskState, Uses, WaitKind};
use crate::model::memory::{Memory, ReadError, ReadRequest};

/// What all tasks of a sample keep: of more it is not known that nobody else keeps something.
const MAX_MENTIONS: usize = 1 << 20;
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
        if let Some(parked) = &mut self.parked {
            parked.streams.clear();
        }
        for chunk in listed.chunks(CHUNK) {
            let first = First {
                task: census.tasks.len(),
                mention: census.mentions.len(),
                holder: census.holders.len(),
            };
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
                let is_cut = census.mentions.len() > MAX_MENTIONS;
                self.kept_cut |= is_cut;
                census.searched &= is_known && !is_cut;
                census.mentions.truncate(MAX_MENTIONS);
                census.tasks.push(task);
            }
            let changed = look_again(chunk, first, memory, census)?;
            if let Some(parked) = &mut self.parked {
                parked.streams.forget(&changed);
            }
        }
        if let Some(parked) = &self.parked {
            let watched = &self.watched;
            parked.streams.resolve(|fd| watched.contains(&fd), census);
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

/// Where what was found out about some tasks begins in a census.
#[derive(Debug, Clone, Copy)]
struct First {
    task: usize,
    mention: usize,
    holder: usize,
}

/// Of tasks that were polled while they were read nothing counts but what they do now. Gives their ids.
fn look_again(
    listed: &[Listed],
    first: First,
    memory: &dyn Memory,
    census: &mut Census,
) -> Result<Vec<u64>, ReadError> {
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
    let tasks = census.tasks.get_mut(first.task..).unwrap_or_default();
    let mut changed: Vec<u64> = Vec::new();
    for (((task, listed), now), read) in tasks.iter_mut().zip(listed).zip(&states).zip(read) {
        let now = u64::from_le_bytes(*now);
        let before = listed.header.state;
        // Of one that is being polled the number of references changes.
        let is_polled = task.stack.is_none() && now & before & RUNNING != 0;
        if read && (now == before || is_polled) {
            continue;
        }
        changed.push(task.id);
        // Without its stack a task is nothing but its state, which was read at once, and what it keeps.
        if task.stack.is_none() {
            continue;
        }
        census.figures.torn += 1;
        census.searched = false;
        (task.stack, task.waits) = (None, 0..0);
        (task.wait_reason, task.cause) = (None, None);
        task.state = state_of(now);
        task.blocked = task.state == TaskState::Waiting;
    }
    let is_whole = |task: &u64| !changed.contains(task);
    let mentions = census
        .mentions
        .split_off(first.mention.min(census.mentions.len()));
    let holders = census
        .holders
        .split_off(first.holder.min(census.holders.len()));
    let whole = mentions
        .into_iter()
        .filter(|mention| is_whole(&mention.task));
    census.mentions.extend(whole);
    let whole = holders.into_iter().filter(|holder| is_whole(&holder.task));
    census.holders.extend(whole);
    Ok(changed)
}
