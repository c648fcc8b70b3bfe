//! What a parked task waits for, in the terms of a census.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::super::TokioImage;
use super::super::awaits::{FutureTypes, Keeps, PointKind, Suspended};
use super::streams::Streams;
use super::walk::Listed;
use crate::model::census::{
    Census, CensusTask, Direction, Holder, Mention, Reference, Uses, WaitKind, fingerprint,
};
use crate::model::memory::Memory;
use crate::model::stack::FrameKind;
use crate::model::{Cause, Frame, Reason};
use crate::sys::elf::ElfImage;

/// In a stack of a census: the rest is the number of a place at which a task is suspended, no address.
const POINT: u64 = 1 << 63;

/// The same with this: the number of a reason why nothing farther in is known.
const CUT: u64 = 1 << 62;
/// Different such reasons that are kept.
const MAX_CUTS: usize = 64;

/// What a parked task is said to do.
fn reason_of(suspended: &Suspended) -> (Option<&'static str>, Option<Cause>) {
    // Which of them ends the wait nobody knows, and of some it is not known what they wait for.
    if suspended.followed.is_some() || suspended.waits.len() > 1 {
        return (Some("several futures"), Some(Cause::Select));
    }
    let Some(wait) = suspended.waits.first() else {
        return (None, None);
    };
    let (reason, cause) = match (wait.kind, wait.direction) {
        (WaitKind::Channel, Some(Direction::Send)) => ("channel send", Cause::Channel),
        (WaitKind::Channel, _) => ("channel receive", Cause::Channel),
        (WaitKind::Oneshot, _) => ("oneshot receive", Cause::Channel),
        (WaitKind::Mutex, _) => ("mutex", Cause::Mutex),
        (WaitKind::RwMutex, Some(Direction::Send)) => ("rwlock write", Cause::Mutex),
        (WaitKind::RwMutex, _) => ("rwlock read", Cause::Mutex),
        (WaitKind::Semaphore, _) => ("semaphore", Cause::Other),
        (WaitKind::Condition, _) => ("notify", Cause::Condition),
        (WaitKind::WaitGroup, _) => ("barrier", Cause::WaitGroup),
        (WaitKind::Descriptor, Some(Direction::Send)) => ("socket write", Cause::NetWait),
        (WaitKind::Descriptor, Some(Direction::Receive)) => ("socket read", Cause::NetWait),
        (WaitKind::Descriptor, None) => ("socket", Cause::NetWait),
        (WaitKind::Timer, _) => ("sleep", Cause::Sleep),
        (WaitKind::Task, _) => ("join", Cause::Other),
    };
    (Some(reason), Some(cause))
}

/// The place of a reason among those that are kept.
fn number_of(reason: Reason, kept: &mut Vec<Reason>) -> Option<u64> {
    let place = kept.iter().position(|known| *known == reason);
    if place.is_none() {
        if kept.len() >= MAX_CUTS {
            return None;
        }
        kept.push(reason);
    }
    Some(place.unwrap_or(kept.len() - 1) as u64)
}

/// Whether a word of a census's stack is a place of this module's, and no address.
pub fn is_place(word: u64) -> bool {
    word & POINT != 0
}

/// Where the parked tasks of one program are suspended.
#[derive(Debug)]
pub struct Parked {
    futures: Result<FutureTypes, Reason>,
    /// The program's file name.
    module: Arc<str>,
    bias: u64,
    suspended: Suspended,
    /// The connections that carry streams in this sample.
    pub streams: Streams,
    /// Why stacks end early.
    cuts: Vec<Reason>,
    /// Task types that were seen and whose futures are not known, and why.
    unknown: BTreeMap<usize, Reason>,
}

impl Parked {
    /// Reads the program's debug information: some tenths of a second when there is much of it.
    pub fn read(image: &TokioImage, elf: &Arc<ElfImage>, bias: u64, module: &Arc<str>) -> Self {
        Self {
            futures: FutureTypes::read(elf, image.debug.as_ref(), image.vtables()),
            module: Arc::clone(module),
            bias,
            suspended: Suspended::default(),
            streams: Streams::default(),
            cuts: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    /// Where a parked task is suspended, what it waits for, and what it keeps meanwhile that others wait for:
    /// of connections those of the descriptors in `watched`. `None`: not known, or not to its end.
    pub fn wait(
        &mut self,
        listed: &Listed,
        watched: &HashSet<i32>,
        memory: &dyn Memory,
        task: &mut CensusTask,
        census: &mut Census,
    ) -> Option<()> {
        let futures = self.futures.as_mut().ok()?;
        let vtable = listed.header.vtable;
        if let Err(reason) = futures.knows(vtable) {
            self.unknown.entry(vtable).or_insert(reason);
            return None;
        }
        let suspended = &mut self.suspended;
        futures
            .suspended(vtable, listed.at, self.bias, memory, suspended)
            .ok()?;
        let cut = suspended.cut.take();
        let cut = cut.and_then(|reason| number_of(reason, &mut self.cuts));
        let points = suspended.points.iter().map(|point| u64::from(*point));
        let frames: Vec<u64> = cut
            .map(|number| CUT | number)
            .into_iter()
            .chain(points)
            .map(|word| POINT | word)
            .collect();
        task.stack = Some(census.stacks.intern(&frames));
        let first = census.waits.len() as u32;
        (task.wait_reason, task.cause) = reason_of(suspended);
        census.waits.append(&mut suspended.waits);
        task.waits = first..census.waits.len() as u32;
        self.note_kept(task.id, watched, census);
        let waits = census.waits.get(first as usize..).unwrap_or_default();
        let addresses = waits.iter().filter_map(|wait| wait.address);
        task.occasion = fingerprint(frames.into_iter().chain(addresses));
        (cut.is_none() && !self.suspended.kept_more).then_some(())
    }

    /// A task that is polled, or about to be, still has what it kept when it was last suspended.
    pub fn keeps(
        &mut self,
        listed: &Listed,
        watched: &HashSet<i32>,
        memory: &dyn Memory,
        census: &mut Census,
    ) {
        let (vtable, at) = (listed.header.vtable, listed.at);
        if let Ok(futures) = &mut self.futures {
            let suspended = &mut self.suspended;
            // What it awaited may have ended.
            futures
                .suspended(vtable, at, self.bias, memory, suspended)
                .ok();
            self.note_kept(listed.id, watched, census);
        }
    }

    fn note_kept(&mut self, task: u64, watched: &HashSet<i32>, census: &mut Census) {
        for kept in &self.suspended.kept {
            let mut mention = Mention {
                task,
                address: kept.number,
                pc: POINT | u64::from(kept.point),
                uses: Uses::default(),
                how: Reference::Owned,
            };
            match kept.what {
                Keeps::Guard(_) => (mention.uses.locks, mention.how) = (true, Reference::Guard),
                Keeps::End(Direction::Send) => mention.uses.sends = true,
                Keeps::End(Direction::Receive) => mention.uses.receives = true,
                // Until it is known of which connection.
                Keeps::Stream => {}
                Keeps::Streams => {
                    if let Some(fd) = kept.fd {
                        self.streams.note(task, kept.number, fd);
                    }
                    continue;
                }
                Keeps::Connection => {
                    let fd = i32::try_from(kept.number).ok();
                    let holder = fd.filter(|fd| watched.contains(fd)).map(|fd| Holder {
                        task,
                        fd,
                        pc: mention.pc,
                        how: mention.how,
                    });
                    census.holders.extend(holder);
                    continue;
                }
            }
            census.mentions.push(mention);
        }
    }

    /// What could not be told, one clause each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        match &self.futures {
            Err(reason) => remarks.push(format!("where its tasks wait is not known: {reason}")),
            Ok(futures) if futures.is_incomplete() => remarks.push(
                "where some of its tasks wait is not known: there is too much debug information"
                    .to_owned(),
            ),
            Ok(_) => {}
        }
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for reason in self.unknown.values() {
            *reasons.entry(reason.to_string()).or_default() += 1;
        }
        for (reason, types) in reasons {
            remarks.push(format!(
                "where tasks of {types} of its types wait is not known: {reason}"
            ));
        }
        remarks
    }

    /// What a word stands for that is a place.
    pub fn frame(&self, word: u64) -> Option<Frame> {
        if word & CUT != 0 {
            let reason = self.cuts.get((word & !POINT & !CUT) as usize)?;
            return Some(Frame::missing(reason.clone()));
        }
        let futures = self.futures.as_ref().ok()?;
        let point = futures.point((word & !POINT) as u32)?;
        let is_place = matches!(point.kind, PointKind::Await | PointKind::NotStarted);
        Some(Frame {
            address: 0,
            function: Some(point.function.as_str().into()),
            file: point.file.as_deref().map(Into::into),
            line: point.line,
            module: Some(Arc::clone(&self.module)),
            module_offset: None,
            // What is polled there has no place in the source.
            kind: if is_place {
                FrameKind::User
            } else {
                FrameKind::Runtime
            },
            unknown_reason: None,
        })
    }
}
