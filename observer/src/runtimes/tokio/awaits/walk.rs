//! From a task's memory to the places at which its futures are suspended.
//!
//! The task runs while it is read: whatever is found may be torn, so every step is bounded, and a
//! state that no future has ends the walk.

use crate::model::Reason;
use crate::model::census::{Direction, WaitKind, WaitsOn};
use crate::model::memory::Memory;
use crate::model::time::Mono;

use super::Suspended;
use super::kept::Keeper;
use super::layout::{Choice, Find, Layouts, Path, Plan, Root, Shape, State, Type, TypeId};
use super::window::{Refused, Windows};

/// Futures inside each other: `async` recursion goes through boxes and has no bound of its own.
const MAX_DEPTH: usize = 256;
/// Wrappers between two futures.
const MAX_WRAPPERS: u32 = 48;
/// Types looked at per task.
const MAX_TYPES: u32 = 8192;
/// Futures that are polled together; more are counted, not followed.
pub(super) const MAX_BRANCHES: usize = 8;
const UNKNOWN_BOX: &str = "debug information does not tell the type of a boxed future";
/// Things that one task waits for.
const MAX_WAITS: usize = 16;

/// A future in a wrapper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) of: TypeId,
    pub(super) at: u64,
    pub(super) kind: HeadKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadKind {
    Suspended,
    NotStarted,
    Leaf,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) windows: Windows,
    /// Where something may be kept that others wait for.
    pub(super) keepers: Vec<Keeper>,
    pub(super) heads: Vec<Head>,
}

/// One task's walk.
pub(super) struct Walk<'w> {
    pub(super) layouts: &'w Layouts,
    /// Concrete types by their vtables' addresses, sorted.
    pub(super) tables: &'w [(u64, TypeId)],
    /// Points that stand for 2, 3, ... futures polled together.
    pub(super) several: &'w [u32],
    pub(super) bias: u64,
    pub(super) memory: &'w dyn Memory,
    pub(super) scratch: &'w mut Scratch,
    pub(super) out: &'w mut Suspended,
    pub(super) budget: u32,
    pub(super) depth: usize,
    /// Functions of the program's own so far.
    pub(super) functions: u32,
    /// Set while wrappers are looked through: what is inside is polled together.
    is_several: bool,
    /// There is a boxed future in them of a type that is not known.
    is_unknown: bool,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

/// What an async function above said about its innermost future.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    kind: WaitKind,
    direction: Option<Direction>,
    address: Option<u64>,
    descriptor: Option<i32>,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        layouts: &'w Layouts,
        tables: &'w [(u64, TypeId)],
        several: &'w [u32],
        (bias, memory): (u64, &'w dyn Memory),
        scratch: &'w mut Scratch,
        out: &'w mut Suspended,
    ) -> Self {
        scratch.windows.clear();
        scratch.heads.clear();
        scratch.keepers.clear();
        Self {
            layouts,
            tables,
            several,
            bias,
            memory,
            scratch,
            out,
            budget: MAX_TYPES,
            depth: 0,
            functions: 0,
            is_several: false,
            is_unknown: false,
        }
    }

    /// The whole backtrace of the task whose `Header` is at `header`.
    pub(super) fn task(&mut self, header: u64, root: &Root) -> Result<(), Reason> {
        let stage = header.wrapping_add(root.stage);
        self.load(stage, root.size)?;
        let running = self.state(&root.choice, stage)?;
        let future = running.member.ok_or(Reason::new("the task has ended"))?;
        self.future(future.of, stage.wrapping_add(future.offset), None)?;
        self.out.points.reverse();
        Ok(())
    }

    /// A future and all that it awaits.
    pub(super) fn future(
        &mut self,
        mut of: TypeId,
        mut at: u64,
        mut hint: Option<Hint>,
    ) -> Result<(), Reason> {
        loop {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                self.cut("its futures are nested too deep");
                return Ok(());
            }
            let layouts = self.layouts;
            let Some(decoded) = layouts.get(of) else {
                return Ok(());
            };
            if let Shape::Coroutine(choice) = &decoded.shape {
                let state = self.state(choice, at)?;
                for variable in layouts.variables(&state.variables) {
                    let at = at.wrapping_add(variable.offset);
                    self.may_keep(variable.of, at, state.point);
                }
                match state.state {
                    State::Over => {
                        return Err(Reason::new("a future that it awaits has ended already"));
                    }
                    State::Unresumed => {
                        self.out.points.push(state.point);
                        return Ok(());
                    }
                    State::Live => self.out.points.push(state.point),
                }
                self.functions += u32::from(!decoded.is_tokio);
                // The outermost function of tokio says what is waited for, as its caller sees it.
                hint = match (state.plan, hint) {
                    (Some(plan), None) => Some(self.hint(plan, at)),
                    (_, hint) if decoded.is_tokio => hint,
                    _ => None,
                };
                let Some(awaited) = state.member else {
                    self.cut("debug information does not tell what is awaited");
                    return Ok(());
                };
                (of, at) = (awaited.of, at.wrapping_add(awaited.offset));
                continue;
            }
            if decoded.keeps {
                let point = self.out.points.last().copied();
                self.may_keep(of, at, point.unwrap_or(decoded.point));
            }
            let start = self.scratch.heads.len();
            (self.is_several, self.is_unknown) = (false, false);
            self.heads((of, true), at, 0)?;
            let is_several = self.is_several;
            let chosen = self.choose(start, is_several);
            let end = self.scratch.heads.len();
            let heads = end - start;
            if heads > 1 {
                return self.branches(start, hint);
            }
            let head = self.scratch.heads.get(start).copied().filter(|_| chosen);
            self.scratch.heads.truncate(start);
            match head {
                Some(head) if head.kind == HeadKind::Leaf => {
                    self.leaf(head.of, head.at, hint);
                    return Ok(());
                }
                Some(head) => (of, at) = (head.of, head.at),
                None => {
                    if self.is_unknown {
                        self.cut(UNKNOWN_BOX);
                    }
                    self.leaf(of, at, hint);
                    return Ok(());
                }
            }
        }
    }

    /// The futures in something that is none itself, or is not known as one.
    fn heads(&mut self, (of, is_open): (TypeId, bool), at: u64, depth: u32) -> Result<(), Reason> {
        let layouts = self.layouts;
        let Some(decoded) = layouts.get(of).filter(|decoded| decoded.holds) else {
            return Ok(());
        };
        self.budget = self.budget.saturating_sub(1);
        if depth > MAX_WRAPPERS || self.budget == 0 {
            self.cut("its futures are nested too deep");
            return Ok(());
        }
        self.is_several |= decoded.is_several;
        if let Some(limit) = decoded.limit {
            self.limit(limit.of, at.wrapping_add(limit.offset), depth + 1)?;
        }
        if decoded.plan.is_some() {
            self.known(of, at, is_open);
            return Ok(());
        }
        match &decoded.shape {
            Shape::Opaque => {}
            Shape::Coroutine(choice) => match self.state(choice, at)?.state {
                State::Over => {}
                State::Unresumed => self.head(of, at, HeadKind::NotStarted),
                State::Live => self.head(of, at, HeadKind::Suspended),
            },
            Shape::Struct(range) => {
                let first = self.scratch.heads.len();
                for member in layouts.members(range) {
                    let inside = (member.of, is_open && member.is_open);
                    let (before, at) = (self.scratch.heads.len(), at.wrapping_add(member.offset));
                    self.heads(inside, at, depth + 1)?;
                    let is_new = self.scratch.heads.len() > before;
                    if decoded.is_tuple && !is_new && !layouts.may_be_over(member.of) {
                        self.head(member.of, at, HeadKind::Leaf);
                    }
                }
                let is_polled = self.scratch.heads.len() > first;
                if !is_polled && self.rests(decoded, at).is_some() {
                    self.head(of, at, HeadKind::Leaf);
                }
            }
            Shape::Enum(choice) => {
                if let Some(member) = self.state(choice, at)?.member {
                    let inside = (member.of, is_open && member.is_open);
                    self.heads(inside, at.wrapping_add(member.offset), depth + 1)?;
                }
            }
            Shape::Pointer(to) => {
                let target = self.number(at, 8)?;
                let size = layouts.get(*to).map_or(0, |to| to.size);
                if target != 0 {
                    self.load(target, size)?;
                    self.heads((*to, is_open), target, depth + 1)?;
                }
            }
            Shape::Dyn(boxed) => {
                let target = self.number(at.wrapping_add(boxed.data), 8)?;
                let table = self.number(at.wrapping_add(boxed.table), 8)?;
                let Some(inside) = self.concrete(table) else {
                    self.is_unknown |= table != 0;
                    self.known(of, at, is_open);
                    return Ok(());
                };
                if target == 0 {
                    return Ok(());
                }
                let Some(inner) = layouts.get(inside) else {
                    return Ok(());
                };
                self.load(target, inner.size)?;
                let before = self.scratch.heads.len();
                self.heads((inside, is_open), target, depth + 1)?;
                // Written by hand, with no future inside.
                if self.scratch.heads.len() == before && !matches!(inner.shape, Shape::Coroutine(_))
                {
                    self.known(inside, target, is_open);
                }
            }
        }
        Ok(())
    }

    /// What it waits for when nothing in it is polled, unless one of the options has a value.
    fn rests(&mut self, decoded: &Type, at: u64) -> Option<Plan> {
        let rest = decoded.rest.as_ref()?;
        for test in &rest.tests {
            let place = self.end(&test.path, at)?;
            let number = self.number(place, test.size).ok()?;
            if number != test.none {
                return None;
            }
        }
        Some(rest.plan)
    }

    /// The type in a box, by the address of its vtable.
    pub(super) fn concrete(&self, table: u64) -> Option<TypeId> {
        let at = table.wrapping_sub(self.bias);
        let place = self.tables.binary_search_by_key(&at, |known| known.0);
        Some(self.tables.get(place.ok()?)?.1)
    }

    /// Notes a time limit: the timer in it, if it is set.
    fn limit(&mut self, of: TypeId, at: u64, depth: u32) -> Result<(), Reason> {
        let before = self.scratch.heads.len();
        self.heads((of, true), at, depth)?;
        for place in before..self.scratch.heads.len() {
            let head = self.scratch.heads.get(place).copied();
            let plan = head.and_then(|head| self.layouts.get(head.of)?.plan);
            if let (Some(head), Some(Find::Deadline(seconds, nanoseconds))) =
                (head, plan.map(|plan| plan.find))
            {
                let (seconds, nanoseconds) = (
                    head.at.wrapping_add(seconds),
                    head.at.wrapping_add(nanoseconds),
                );
                if let Some(time) = self.time(seconds, nanoseconds) {
                    let earlier = self.out.limit.map_or(time, |limit| limit.min(time));
                    self.out.limit = Some(earlier);
                }
            }
        }
        self.scratch.heads.truncate(before);
        Ok(())
    }

    /// A future that is no async function.
    fn known(&mut self, of: TypeId, at: u64, is_open: bool) {
        if is_open {
            self.head(of, at, HeadKind::Leaf);
        }
    }

    fn head(&mut self, of: TypeId, at: u64, kind: HeadKind) {
        // Some more than are followed, so that "more" can be told.
        if self.scratch.heads.len() < 64 * MAX_BRANCHES {
            self.scratch.heads.push(Head { of, at, kind });
        }
    }

    /// The innermost future.
    pub(super) fn leaf(&mut self, of: TypeId, at: u64, hint: Option<Hint>) {
        let Some(decoded) = self.layouts.get(of) else {
            return;
        };
        if matches!(decoded.shape, Shape::Dyn(..)) {
            self.cut(UNKNOWN_BOX);
        }
        self.out.points.push(decoded.point);
        let plan = decoded.plan.or_else(|| self.rests(decoded, at));
        match (plan, hint) {
            (Some(plan), hint) => self.wait(plan, at, hint),
            (None, Some(hint)) => self.push(hinted(hint, WaitsOn::new(hint.kind))),
            (None, None) => {}
        }
    }

    fn wait(&mut self, plan: Plan, at: u64, hint: Option<Hint>) {
        let mut waits = WaitsOn::new(plan.kind);
        waits.direction = plan.direction;
        match plan.find {
            Find::Nothing => {}
            Find::Address(path) => waits.address = self.address(&path, at),
            find @ (Find::Descriptor(_) | Find::Owned(..)) => waits.fd = self.owned_fd(find, at),
            Find::Deadline(seconds, nanoseconds) => {
                waits.until = self.time(at.wrapping_add(seconds), at.wrapping_add(nanoseconds));
            }
        }
        // A timer is a timer, whoever sleeps.
        if let Some(hint) = hint.filter(|_| plan.kind != WaitKind::Timer) {
            waits = hinted(hint, waits);
        }
        self.push(waits);
    }

    fn push(&mut self, waits: WaitsOn) {
        if self.out.waits.len() < MAX_WAITS {
            self.out.waits.push(waits);
        }
    }

    fn hint(&mut self, plan: Plan, at: u64) -> Hint {
        let mut hint = Hint {
            kind: plan.kind,
            direction: plan.direction,
            address: None,
            descriptor: None,
        };
        match plan.find {
            Find::Address(path) => hint.address = self.address(&path, at),
            Find::Descriptor(path) => hint.descriptor = self.descriptor(&path, at),
            Find::Nothing | Find::Owned(..) | Find::Deadline(..) => {}
        }
        hint
    }

    /// Where a path ends.
    pub(super) fn end(&mut self, path: &Path, at: u64) -> Option<u64> {
        let (last, before) = path.steps().split_last()?;
        let mut at = at;
        for step in before {
            at = self.number(at.wrapping_add(*step), 8).ok()?;
            if at == 0 {
                return None;
            }
        }
        Some(at.wrapping_add(*last))
    }

    pub(super) fn address(&mut self, path: &Path, at: u64) -> Option<u64> {
        let end = self.end(path, at)?;
        self.number(end, 8).ok().filter(|address| *address != 0)
    }

    pub(super) fn descriptor(&mut self, path: &Path, at: u64) -> Option<i32> {
        let end = self.end(path, at)?;
        let number = self.number(end, 4).ok()?;
        i32::try_from(number).ok()
    }

    fn time(&mut self, seconds: u64, nanoseconds: u64) -> Option<Mono> {
        let seconds = self.number(seconds, 8).ok()?;
        let nanoseconds = self.number(nanoseconds, 4).ok()?;
        if nanoseconds >= 1_000_000_000 {
            return None;
        }
        let whole = seconds.checked_mul(1_000_000_000)?;
        Some(Mono(whole.checked_add(nanoseconds)?))
    }

    /// The variant that is active.
    pub(super) fn state(
        &mut self,
        choice: &Choice,
        at: u64,
    ) -> Result<&'w super::layout::Variant, Reason> {
        let number = match choice.tag {
            Some((offset, size)) => Some(self.number(at.wrapping_add(offset), size)?),
            None => None,
        };
        self.layouts.active(choice, number).ok_or(Reason::new(
            "a future is in a state that there is not: the task ran meanwhile",
        ))
    }

    pub(super) fn number(&mut self, at: u64, size: u8) -> Result<u64, Reason> {
        self.scratch
            .windows
            .number(at, size, self.memory)
            .map_err(refused)
    }

    pub(super) fn load(&mut self, at: u64, size: u64) -> Result<(), Reason> {
        self.scratch
            .windows
            .load(at, size, self.memory)
            .map_err(refused)
    }

    pub(super) fn cut(&mut self, why: &'static str) {
        self.out.cut.get_or_insert(Reason::new(why));
    }
}

fn hinted(hint: Hint, mut waits: WaitsOn) -> WaitsOn {
    waits.kind = hint.kind;
    waits.direction = hint.direction.or(waits.direction);
    waits.address = hint.address.or(waits.address);
    waits.fd = hint.descriptor.or(waits.fd);
    waits
}

fn refused(refused: Refused) -> Reason {
    match refused {
        Refused::Memory(error) => Reason::with(format!("a future could not be read: {error}")),
        Refused::TooMany => Reason::new("its futures lie in too many places"),
    }
}
