//! What a task's futures keep while they wait, and others may wait for: guards, ends of channels,
//! connections. In the variables of its async functions, and in what these own.

use crate::model::Reason;

use super::layout::{Find, Keeps, Kept, Shape, TypeId};
use super::walk::Walk;
use super::{KeptThing, Suspended};

/// Places of one task that are looked at.
const MAX_KEEPERS: usize = 256;
/// Types looked at per task.
const MAX_TYPES: u32 = 1024;
/// Types in each other.
const MAX_DEPTH: u32 = 48;
/// Reads per task: one for each box on the way, some for what is found.
const MAX_READS: u32 = 48;
/// Things that one task keeps.
const MAX_KEPT: usize = 32;

/// A place where something may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keeper {
    of: TypeId,
    at: u64,
    /// The function around it.
    point: u32,
}

/// What is done with something that was found.
type Found<'f, 'w> = &'f mut dyn FnMut(&mut Walk<'w>, &Kept, &Keeper);

impl<'w> Walk<'w> {
    /// Notes a place that is looked at by [`Walk::kept`].
    pub(super) fn may_keep(&mut self, of: TypeId, at: u64, point: u32) {
        let keepers = &mut self.scratch.keepers;
        if keepers.len() < MAX_KEEPERS {
            keepers.push(Keeper { of, at, point });
        } else {
            self.out.kept_more = true;
        }
    }

    /// What is kept in the places that the walk came by. A variable that was borrowed and then moved out
    /// of leaves its bytes, so what can not be read is none of the task's any more.
    pub(super) fn kept(&mut self) {
        self.budget = MAX_TYPES;
        self.scratch.windows.allow(MAX_READS);
        let keepers = std::mem::take(&mut self.scratch.keepers);
        for keeper in &keepers {
            self.kept_in(keeper, 0, &mut Self::keep).ok();
        }
        self.scratch.keepers = keepers;
        self.out.kept_more |= self.scratch.windows.is_spent();
    }

    /// The descriptor of the connection that is owned there, if it is one.
    pub(super) fn connection(&mut self, of: TypeId, at: u64) -> Option<i32> {
        let (mut first, mut is_one) = (None, true);
        let mut note = |walk: &mut Self, kept: &Kept, keeper: &Keeper| {
            if kept.what != Keeps::Connection {
                return;
            }
            let found = walk.descriptor(&kept.path, keeper.at);
            is_one &= found.is_some() && (first.is_none() || first == found);
            first = first.or(found);
        };
        let keeper = Keeper { of, at, point: 0 };
        self.kept_in(&keeper, 0, &mut note).ok()?;
        let is_whole = self.budget != 0 && !self.scratch.windows.is_spent();
        first.filter(|_| is_one && is_whole)
    }

    /// The descriptor that a plan leads to.
    pub(super) fn owned_fd(&mut self, find: Find, at: u64) -> Option<i32> {
        match find {
            Find::Descriptor(path) => self.descriptor(&path, at),
            Find::Owned(offset, of) => self.connection(of, at.wrapping_add(offset)),
            Find::Nothing | Find::Address(_) | Find::Deadline(..) => None,
        }
    }

    /// Shows each thing that is kept in a place to `found`.
    fn kept_in(&mut self, keeper: &Keeper, depth: u32, found: Found<'_, 'w>) -> Result<(), Reason> {
        let layouts = self.layouts;
        let Some(decoded) = layouts.get(keeper.of).filter(|decoded| decoded.keeps) else {
            return Ok(());
        };
        self.budget = self.budget.saturating_sub(1);
        if depth > MAX_DEPTH || self.budget == 0 {
            self.out.kept_more = true;
            return Ok(());
        }
        if let Some(kept) = &decoded.kept {
            found(self, kept, keeper);
            if kept.what != Keeps::Streams {
                return Ok(());
            }
        }
        let inside = |of: TypeId, at: u64| Keeper { of, at, ..*keeper };
        match &decoded.shape {
            // A future is looked at when the walk comes to it.
            Shape::Opaque | Shape::Coroutine(_) => Ok(()),
            Shape::Struct(range) => {
                for member in layouts.members(range) {
                    let at = keeper.at.wrapping_add(member.offset);
                    // One that can not be read says nothing of the others.
                    self.kept_in(&inside(member.of, at), depth + 1, found).ok();
                }
                Ok(())
            }
            Shape::Enum(choice) => match self.state(choice, keeper.at)?.member {
                Some(member) => {
                    let at = keeper.at.wrapping_add(member.offset);
                    self.kept_in(&inside(member.of, at), depth + 1, found)
                }
                None => Ok(()),
            },
            Shape::Pointer(to) => {
                let target = self.number(keeper.at, 8)?;
                self.kept_behind(inside(*to, target), depth, found)
            }
            Shape::Dyn(boxed) => {
                let target = self.number(keeper.at.wrapping_add(boxed.data), 8)?;
                let table = self.number(keeper.at.wrapping_add(boxed.table), 8)?;
                match self.concrete(table) {
                    Some(of) => {
                        let mut inside = inside(of, target);
                        // A boxed future says more than its box.
                        if let Some(within) =
                            layouts.get(of).filter(|_| inside.point == decoded.point)
                        {
                            inside.point = within.point;
                        }
                        self.kept_behind(inside, depth, found)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn kept_behind(
        &mut self,
        keeper: Keeper,
        depth: u32,
        found: Found<'_, 'w>,
    ) -> Result<(), Reason> {
        let Some(decoded) = self.layouts.get(keeper.of).filter(|of| of.keeps) else {
            return Ok(());
        };
        if keeper.at == 0 {
            return Ok(());
        }
        self.load(keeper.at, decoded.size)?;
        self.kept_in(&keeper, depth + 1, found)
    }

    /// The descriptor of the connection that a future written by hand drives.
    fn driven(&mut self, keeper: &Keeper) -> Option<i32> {
        let rest = self.layouts.get(keeper.of)?.rest.as_ref()?;
        self.owned_fd(rest.plan.find, keeper.at)
    }

    fn keep(&mut self, kept: &Kept, keeper: &Keeper) {
        let number = match kept.what {
            Keeps::Guard(_) => self.end(&kept.path, keeper.at),
            Keeps::End(_) | Keeps::Stream | Keeps::Streams => self.address(&kept.path, keeper.at),
            Keeps::Connection => {
                let fd = self.descriptor(&kept.path, keeper.at);
                fd.and_then(|fd| u64::try_from(fd).ok())
            }
        };
        let Some(number) = number else { return };
        let fd = match kept.what {
            Keeps::Streams => self.driven(keeper),
            _ => None,
        };
        let Suspended {
            kept: known,
            kept_more,
            ..
        } = self.out;
        if known.len() >= MAX_KEPT {
            *kept_more = true;
            return;
        }
        let is_known = |one: &KeptThing| (one.what, one.number) == (kept.what, number);
        if !known.iter().any(is_known) {
            known.push(KeptThing {
                what: kept.what,
                number,
                fd,
                point: keeper.point,
            });
        }
    }
}
