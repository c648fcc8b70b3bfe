//! Names for what the censuses of one target hold.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::model::names::{CensusNames, started_as};
use crate::model::{Frame, FrameKind, Known, Pid, Reason, Resource};
use crate::resolve::classify;
use crate::resolve::resources::FdTable;
use crate::resolve::symbols::{Addresses, SymbolizerHandle};
use crate::runtimes::TaskCensus;

/// Names for one target. Each stack is looked up once.
#[derive(Debug)]
pub struct TargetNames<'a> {
    pid: Pid,
    /// The targets, in their order.
    targets: &'a [Pid],
    symbolizer: &'a SymbolizerHandle,
    fds: RefCell<&'a mut FdTable>,
    census: Option<&'a RefCell<Box<dyn TaskCensus>>>,
    stacks: RefCell<HashMap<Vec<u64>, Vec<Frame>>>,
}

impl<'a> TargetNames<'a> {
    /// Names for `pid`, one of `targets`; `census` took its samples.
    pub fn new(
        pid: Pid,
        targets: &'a [Pid],
        symbolizer: &'a SymbolizerHandle,
        fds: &'a mut FdTable,
        census: Option<&'a RefCell<Box<dyn TaskCensus>>>,
    ) -> Self {
        Self {
            pid,
            targets,
            symbolizer,
            fds: RefCell::new(fds),
            census,
            stacks: RefCell::new(HashMap::new()),
        }
    }
}

impl TargetNames<'_> {
    /// What a word stands for that the runtime's reader made up.
    fn own(&self, word: u64) -> Option<Frame> {
        let mut frame = self.census?.borrow_mut().frame(word)?;
        if let (FrameKind::User, Some(function)) = (frame.kind, &frame.function) {
            frame.kind = classify::kind(function, frame.file.as_deref(), "");
        }
        Some(frame)
    }
}

impl CensusNames for TargetNames<'_> {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        if let Some(known) = self.stacks.borrow().get(stack) {
            return known.clone();
        }
        let own: Option<Vec<Frame>> = stack.iter().map(|word| self.own(*word)).collect();
        let frames =
            own.unwrap_or_else(|| self.symbolizer.process(self.pid, stack, Addresses::Exact));
        self.stacks
            .borrow_mut()
            .insert(stack.to_vec(), frames.clone());
        frames
    }

    fn site(&self, stack: &[u64]) -> Known<Frame> {
        let frames = self.frames(stack);
        match classify::site(&frames) {
            Known::Known(frame) => Known::Known(frame.clone()),
            // The runtime's own task, or a library's: the outermost function says whose it is.
            Known::Unknown(reason) => frames
                .iter()
                .rev()
                .find(|f| f.function.is_some())
                .map_or(Known::Unknown(reason), |f| Known::Known(f.clone())),
        }
    }

    fn function(&self, address: u64) -> Known<Frame> {
        let outermost = self.frames(&[address]).pop();
        match outermost {
            Some(frame) if frame.function.is_some() => Known::Known(frame),
            Some(frame) => Known::Unknown(
                frame
                    .unknown_reason
                    .unwrap_or(Reason::new("no symbol for the address")),
            ),
            None => Known::unknown("no symbol for the address"),
        }
    }

    fn start(&self, entry: u64) -> Option<String> {
        if let Some(name) = self.own(entry).and_then(|frame| frame.function) {
            return Some(format!("of type {name}"));
        }
        started_as(&self.function(entry))
    }

    fn descriptor(&self, fd: i32) -> Resource {
        self.fds.borrow_mut().latest(self.pid, fd)
    }

    fn peer_target(&self, resource: &Resource) -> Option<usize> {
        let (local, peer) = resource.local.as_deref().zip(resource.peer.as_deref())?;
        let holder = self
            .fds
            .borrow_mut()
            .host_peer(self.pid, local, peer, self.targets)?;
        self.targets.iter().position(|pid| *pid == holder)
    }
}
