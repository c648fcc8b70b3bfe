//! What futures look like in memory, in a form that is walked without debug information.

use std::collections::HashMap;
use std::ops::Range;

use crate::model::census::{Direction, WaitKind};

use super::{AwaitPoint, PointKind};

/// Names of points in all (bytes): those of a large service are some megabytes.
const MAX_TEXT: usize = 64 << 20;

/// A type in [`Layouts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TypeId(pub(super) u32);

/// A type, as far as futures can be in it.
#[derive(Debug, Clone)]
pub(super) struct Type {
    pub(super) shape: Shape,
    pub(super) size: u64,
    /// How a backtrace names it when it is the innermost future.
    pub(super) point: u32,
    /// A future may be in it, or it is one that is known.
    pub(super) holds: bool,
    /// A pointer to the future, or a pin around one: it goes by the name of what is in it.
    pub(super) wraps: Option<TypeId>,
    /// An async function or block of tokio itself.
    pub(super) is_tokio: bool,
    /// It polls whatever its closure refers to: `select!`, `join!`.
    pub(super) is_several: bool,
    /// A tuple of futures, each of which is polled, also when nothing is known of it.
    pub(super) is_tuple: bool,
    /// It is a future that is known to wait for something.
    pub(super) plan: Option<Plan>,
    /// The time limit of the future in it (`Timeout`).
    pub(super) limit: Option<Member>,
    /// It waits for that when no future in it is known to be polled.
    pub(super) rest: Option<Rest>,
    /// It is something that others may wait for.
    pub(super) kept: Option<Kept>,
    /// Such a thing may be in it.
    pub(super) keeps: bool,
}

/// What is in a type.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// Nothing that is looked into.
    Opaque,
    /// Members, in [`Layouts::members`].
    Struct(Range<u32>),
    /// One of several, each a type.
    Enum(Choice),
    /// An async function or block.
    Coroutine(Choice),
    /// `Box<T>`, or the `&mut T` of something that is awaited.
    Pointer(TypeId),
    /// A box of a trait.
    Dyn(Boxed),
}

/// `Box<dyn Trait>`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boxed {
    /// Where the pointer to the value is.
    pub(super) data: u64,
    /// Where the pointer to the vtable is.
    pub(super) table: u64,
    /// It is a future, or something else that is polled.
    pub(super) is_polled: bool,
}

/// One of several variants, told by a number.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Offset and size of the number; none when there is but one variant.
    pub(super) tag: Option<(u64, u8)>,
    /// In [`Layouts::variants`].
    pub(super) variants: Range<u32>,
}

/// Something at an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) offset: u64,
    pub(super) of: TypeId,
    /// A known future there is what the whole waits for. Else it may be one of many things that it
    /// owns (a connection has timers), and only async functions in it count.
    pub(super) is_open: bool,
}

/// What a variant means for a future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Never polled.
    Unresumed,
    /// Returned or panicked: nothing is in it any more.
    Over,
    /// At an `.await`; or any variant of an enum.
    Live,
}

/// A variant.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    /// The number that means it; none: every other one.
    pub(super) value: Option<u64>,
    pub(super) state: State,
    /// What it holds: the awaited future, or the variant's own fields.
    pub(super) member: Option<Member>,
    /// Of a coroutine: the place in the source.
    pub(super) point: u32,
    /// Of a coroutine of tokio: what it is known to wait for.
    pub(super) plan: Option<Plan>,
    /// Of a coroutine: the variables that it keeps meanwhile in which there may be something that others
    /// wait for, in [`Layouts::variables`].
    pub(super) variables: Range<u32>,
}

impl Variant {
    pub(super) fn new(state: State, member: Option<Member>) -> Self {
        Self {
            value: None,
            state,
            member,
            point: 0,
            plan: None,
            variables: 0..0,
        }
    }
}

/// What something that a task keeps is to those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// A guard or permit: the task holds the lock.
    Guard(WaitKind),
    /// The end of a channel with which one sends, or receives.
    End(Direction),
    /// A connection.
    Connection,
    /// One of the streams that a connection carries.
    Stream,
    /// A connection that carries streams.
    Streams,
}

/// Something that a task keeps and others may wait for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) what: Keeps,
    /// Where it ends lies the lock that the guard is of, the address of the channel or of what all streams of a
    /// connection share, or the descriptor.
    pub(super) path: Path,
}

/// What a future waits for, and where that is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) kind: WaitKind,
    pub(super) direction: Option<Direction>,
    pub(super) find: Find,
}

/// What a future that is written by hand waits for when nothing in it is polled, and none of some options has
/// a value.
#[derive(Debug, Clone)]
pub(super) struct Rest {
    pub(super) plan: Plan,
    pub(super) tests: Vec<Test>,
}

/// Whether an `Option` has a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test {
    /// To the number that tells.
    pub(super) path: Path,
    /// Its bytes.
    pub(super) size: u8,
    /// What it is when there is no value.
    pub(super) none: u64,
}

/// Where the thing that is waited for is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    Nothing,
    /// A pointer to it.
    Address(Path),
    /// Its file descriptor.
    Descriptor(Path),
    /// The descriptor of the connection that a member of this type owns, at an offset.
    Owned(u64, TypeId),
    /// Seconds (i64) and nanoseconds (u32) of a `CLOCK_MONOTONIC` time, at offsets.
    Deadline(u64, u64),
}

impl Plan {
    /// The same for something that lies `by` farther in.
    pub(super) fn moved(mut self, by: u64) -> Self {
        self.find = self.find.moved(by);
        self
    }
}

impl Find {
    /// The same for something that lies `by` farther in.
    pub(super) fn moved(mut self, by: u64) -> Self {
        match &mut self {
            Self::Nothing => {}
            Self::Address(path) | Self::Descriptor(path) => {
                if let Some(first) = path.steps.first_mut() {
                    *first = first.wrapping_add(by);
                }
            }
            Self::Owned(offset, _) => *offset = offset.wrapping_add(by),
            Self::Deadline(seconds, nanoseconds) => {
                *seconds = seconds.wrapping_add(by);
                *nanoseconds = nanoseconds.wrapping_add(by);
            }
        }
        self
    }
}

/// Offsets with a pointer behind each but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) steps: [u64; MAX_STEPS],
    pub(super) length: u8,
}

/// A future's path to what it waits for goes through fewer pointers.
pub(super) const MAX_STEPS: usize = 4;

impl Path {
    /// None when it is too long.
    pub(super) fn new(steps: &[u64]) -> Option<Self> {
        let mut path = Self {
            steps: [0; MAX_STEPS],
            length: u8::try_from(steps.len()).ok()?,
        };
        path.steps.get_mut(..steps.len())?.copy_from_slice(steps);
        Some(path)
    }

    pub(super) fn steps(&self) -> &[u64] {
        self.steps
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// Where a task's future is.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// From the `Header` to the `Stage`.
    pub(super) stage: u64,
    /// Bytes of the stage.
    pub(super) size: u64,
    /// Its variants: the one with a member is `Running`.
    pub(super) choice: Choice,
}

/// Every type that was decoded.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    pub(super) types: Vec<Type>,
    pub(super) members: Vec<Member>,
    pub(super) variants: Vec<Variant>,
    /// Variables of coroutines.
    pub(super) variables: Vec<Member>,
    pub(super) points: Vec<AwaitPoint>,
    interned: HashMap<AwaitPoint, u32>,
    /// Bytes of the points' names.
    text: usize,
}

impl Layouts {
    pub(super) fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id.0 as usize)
    }

    pub(super) fn members(&self, range: &Range<u32>) -> &[Member] {
        self.members
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn variants(&self, choice: &Choice) -> &[Variant] {
        let range = &choice.variants;
        self.variants
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn variables(&self, range: &Range<u32>) -> &[Member] {
        self.variables
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    /// The variant that a number means.
    pub(super) fn active(&self, choice: &Choice, number: Option<u64>) -> Option<&Variant> {
        let variants = self.variants(choice);
        let exact = variants
            .iter()
            .find(|variant| variant.value.is_some() && variant.value == number);
        exact.or_else(|| variants.iter().find(|variant| variant.value.is_none()))
    }

    /// 0 when there are too many names.
    pub(super) fn intern(&mut self, point: AwaitPoint) -> u32 {
        if let Some(id) = self.interned.get(&point) {
            return *id;
        }
        self.text += point.function.len() + point.file.as_ref().map_or(0, String::len);
        if self.text > MAX_TEXT {
            return 0;
        }
        let id = self.points.len() as u32;
        self.points.push(point.clone());
        self.interned.insert(point, id);
        id
    }

    pub(super) fn intern_name(&mut self, function: String, kind: PointKind) -> u32 {
        self.intern(AwaitPoint {
            function,
            file: None,
            line: None,
            kind,
        })
    }

    /// What was only needed while types were added. `boxed`: types that lie in boxes of another type.
    pub(super) fn finish(&mut self, boxed: impl Iterator<Item = TypeId>) {
        self.interned = HashMap::new();
        self.name_wrappers();
        self.find_holders(boxed);
        self.forget_the_rest();
    }

    /// `Pin<Box<T>>` is named after `T`.
    fn name_wrappers(&mut self) {
        for place in 0..self.types.len() {
            let mut inner = self.types.get(place);
            // A pin around a box around a pin.
            for _ in 0..8 {
                match inner.and_then(|of| of.wraps) {
                    Some(wrapped) => inner = self.get(wrapped),
                    None => break,
                }
            }
            let point = inner.map_or(0, |inner| inner.point);
            if let Some(of) = self.types.get_mut(place) {
                of.point = point;
            }
        }
    }

    /// Whether a future of this type may be over, and nothing is left in it to see.
    pub(super) fn may_be_over(&self, of: TypeId) -> bool {
        let mut inner = self.get(of);
        for _ in 0..8 {
            match inner.and_then(|of| of.wraps) {
                Some(wrapped) => inner = self.get(wrapped),
                None => break,
            }
        }
        inner.is_none_or(|of| {
            matches!(
                of.shape,
                Shape::Coroutine(_) | Shape::Enum(_) | Shape::Dyn(..)
            )
        })
    }

    /// Which types a future can be in, or something that others wait for: those that own one in which it
    /// can be, from the inside out.
    fn find_holders(&mut self, boxed: impl Iterator<Item = TypeId>) {
        let mut owners: Vec<Vec<u32>> = vec![Vec::new(); self.types.len()];
        for (place, of) in self.types.iter().enumerate() {
            let mut owned = |id: TypeId| {
                if let Some(owners) = owners.get_mut(id.0 as usize) {
                    owners.push(place as u32);
                }
            };
            match &of.shape {
                Shape::Struct(range) => self.members(range).iter().for_each(|m| owned(m.of)),
                Shape::Enum(choice) => {
                    let members = self.variants(choice).iter().filter_map(|v| v.member);
                    members.for_each(|m| owned(m.of));
                }
                Shape::Pointer(to) => owned(*to),
                Shape::Opaque | Shape::Coroutine(_) | Shape::Dyn(..) => {}
            }
        }
        let is_future = |of: &Type| {
            let is_polled = match &of.shape {
                Shape::Coroutine(_) => true,
                Shape::Dyn(boxed) => boxed.is_polled,
                _ => false,
            };
            is_polled || of.plan.is_some() || of.rest.is_some()
        };
        let holds = spread(&owners, self.types.iter().map(is_future).collect());
        let is_kept: Vec<bool> = self.types.iter().map(|of| of.kept.is_some()).collect();
        let mut keeps = spread(&owners, is_kept);
        let keeping = |id: TypeId| keeps.get(id.0 as usize).is_some_and(|keeps| *keeps);
        if boxed.into_iter().any(keeping) {
            for (of, keeps) in self.types.iter().zip(&mut keeps) {
                *keeps |= matches!(of.shape, Shape::Dyn(..));
            }
            keeps = spread(&owners, keeps);
        }
        for ((of, holds), keeps) in self.types.iter_mut().zip(holds).zip(keeps) {
            (of.holds, of.keeps) = (holds, keeps);
        }
    }

    /// Members in which nothing of that can be are not looked at again.
    fn forget_the_rest(&mut self) {
        let mut kept = Vec::new();
        for place in 0..self.types.len() {
            let found = self
                .types
                .get(place)
                .map(|of| (of.shape.clone(), of.is_tuple));
            let Some((Shape::Struct(range), is_tuple)) = found else {
                continue;
            };
            let start = kept.len() as u32;
            let members = self.members(&range).iter();
            let matters = |m: &&Member| self.get(m.of).is_some_and(|of| of.holds || of.keeps);
            kept.extend(members.filter(|m| is_tuple || matters(m)));
            if let Some(of) = self.types.get_mut(place) {
                of.shape = Shape::Struct(start..kept.len() as u32);
            }
        }
        self.members = kept;
        self.members.shrink_to_fit();
        self.types.shrink_to_fit();
        self.variants.shrink_to_fit();
    }
}

/// Those that are set, and all that own one of them.
fn spread(owners: &[Vec<u32>], mut set: Vec<bool>) -> Vec<bool> {
    let places = set.iter().enumerate().filter(|(_, set)| **set);
    let mut new: Vec<usize> = places.map(|(place, _)| place).collect();
    while let Some(place) = new.pop() {
        for &owner in owners.get(place).into_iter().flatten() {
            let owner = owner as usize;
            if let Some(owner_set) = set.get_mut(owner).filter(|set| !**set) {
                *owner_set = true;
                new.push(owner);
            }
        }
    }
    set
}
