//! From entries of debug information to [`Layouts`]: every type that futures of tasks can be in.

use std::collections::{HashMap, VecDeque};

use super::PointKind;
use super::dies::{Die, Dies, Node};
use super::keepers::Keepers;
use super::layout::{
    Boxed, Choice, Find, Keeps, Layouts, Member, Plan, Rest, Root, Shape, State, Type, TypeId,
    Variant,
};
use super::leaves;
use super::paths::{self, Names};
use super::tables;
use crate::model::census::WaitKind;

/// Types that are decoded at most: a service has some thousand.
const MAX_TYPES: usize = 200_000;
/// Members and variants of all types.
const MAX_MEMBERS: usize = 2_000_000;
const MAX_VARIANTS: usize = 500_000;

/// Crates, and single types, whose futures wait for the known future that they own.
const OPEN: [&str; 9] = [
    "core::",
    "alloc::",
    "std::",
    "tokio::",
    "futures_util::",
    "tracing::",
    // hyper 1 (`proto/h2/client.rs`, `client/dispatch.rs`): a request of HTTP/2 that was sent.
    "hyper::proto::h2::client::Send",
    "hyper::client::dispatch::SendWhen",
    "hyper::proto::h2::client::ResponseFutMap",
];

/// How members are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum References {
    /// What it owns.
    Ignored,
    /// It is awaited, or it is the closure of a `poll_fn`: what it borrows exclusively is polled too.
    Followed,
    /// It is a variant of something that is awaited: so are its fields.
    Within,
}

#[derive(Debug)]
pub(super) struct Decoder<'d, 'a> {
    pub(super) dies: &'d mut Dies<'a>,
    names: Names,
    pub(super) layouts: Layouts,
    pub(super) keepers: Keepers,
    known: HashMap<(Die, References), TypeId>,
    queue: VecDeque<(Die, References, TypeId)>,
    /// Types were left out.
    pub(super) is_full: bool,
}

impl<'d, 'a> Decoder<'d, 'a> {
    pub(super) fn new(dies: &'d mut Dies<'a>, names: Names) -> Self {
        let mut layouts = Layouts::default();
        // The first type and the first point stand for what was left out.
        let point = layouts.intern_name("a future".to_owned(), PointKind::Leaf);
        layouts.types.push(opaque(point));
        Self {
            dies,
            names,
            layouts,
            keepers: Keepers::default(),
            known: HashMap::new(),
            queue: VecDeque::new(),
            is_full: false,
        }
    }

    /// The type of an entry; it is decoded by the next [`Decoder::run`].
    pub(super) fn type_of(&mut self, die: Die, references: References) -> TypeId {
        if let Some(id) = self.known.get(&(die, references)) {
            return *id;
        }
        if self.layouts.types.len() >= MAX_TYPES {
            self.is_full = true;
            return TypeId(0);
        }
        let id = TypeId(self.layouts.types.len() as u32);
        self.layouts.types.push(opaque(0));
        self.known.insert((die, references), id);
        self.queue.push_back((die, references, id));
        id
    }

    /// Decodes what was asked for, and what that leads to.
    pub(super) fn run(&mut self) {
        while let Some((die, references, id)) = self.queue.pop_front() {
            let decoded = self.decode(die, references);
            if let (Some(decoded), Some(slot)) =
                (decoded, self.layouts.types.get_mut(id.0 as usize))
            {
                *slot = decoded;
            }
        }
    }

    fn decode(&mut self, die: Die, references: References) -> Option<Type> {
        let node = self.dies.node(die)?;
        match node.tag {
            gimli::DW_TAG_pointer_type => {
                let owned = node.name.starts_with(b"alloc::boxed::Box<");
                let followed =
                    references == References::Followed && node.name.starts_with(b"&mut ");
                let mut pointer = opaque(0);
                if owned || followed {
                    let to = self.type_of(node.of?, references);
                    pointer.shape = Shape::Pointer(to);
                    pointer.wraps = Some(to);
                    pointer.size = 8;
                }
                Some(pointer)
            }
            gimli::DW_TAG_structure_type => self.structure(&node, references),
            _ => None,
        }
    }

    fn structure(&mut self, node: &Node<'a>, references: References) -> Option<Type> {
        let mut decoded = opaque(0);
        decoded.size = node.size.unwrap_or(0);
        let children = self.dies.children(node.die);
        if let Some(boxed) = self.trait_object(node, &children, references) {
            decoded.point = self.name_as_it_is(node);
            decoded.shape = Shape::Dyn(boxed);
            return Some(decoded);
        }
        let parts = self.dies.path(node.die);
        if let Some(part) = children
            .iter()
            .find(|child| child.tag == gimli::DW_TAG_variant_part)
        {
            let tag = part.discriminant.and_then(|die| self.dies.node(die));
            let is_coroutine = tag.as_ref().is_some_and(|tag| tag.name == b"__state");
            if is_coroutine {
                let module = paths::plain(&parts);
                let rule = leaves::function(&module);
                let function = self.names.of_coroutine(self.dies, &parts, node.name);
                let choice = self.choice(part, tag.as_ref(), |decoder, variant, of| {
                    decoder.suspension(variant, of, &function, rule)
                })?;
                decoded.shape = Shape::Coroutine(choice);
                decoded.is_tokio = module.starts_with("tokio::");
            } else {
                let path = paths::plain_type(&parts, node.name);
                let is_open = OPEN.iter().any(|open| path.starts_with(open));
                let within = match references {
                    References::Followed if is_open => References::Within,
                    _ => References::Ignored,
                };
                // What a branch of `join!` gave is kept until the others have ended, too: it is not polled.
                let is_branch = path.ends_with("MaybeDone");
                let choice = self.choice(part, tag.as_ref(), |decoder, variant, of| {
                    let is_output = is_branch && variant.name == b"Done";
                    let references = if is_output {
                        References::Ignored
                    } else {
                        within
                    };
                    let member = Member {
                        offset: variant.offset.unwrap_or(0),
                        of: decoder.type_of(of, references),
                        is_open: !is_output,
                    };
                    Some(Variant::new(State::Live, Some(member)))
                })?;
                decoded.shape = Shape::Enum(choice);
                decoded.point = self.named(&parts, node, references);
            }
            return Some(decoded);
        }
        let path = paths::plain_type(&parts, node.name);
        // std has one, tokio before 1.46 and futures have their own.
        let is_poll_fn = path.ends_with("::poll_fn::PollFn");
        let is_captured =
            references == References::Followed && node.name.starts_with(b"{closure_env#");
        let is_pin = path == "core::pin::Pin";
        // `select!` and `join!` poll what is in a tuple.
        let is_tuple = references == References::Followed && node.name.starts_with(b"(");
        let together = ["select", "join", "try_join"].iter().any(|name| {
            path.strip_prefix("futures_util::future::")
                .is_some_and(|p| p.starts_with(name))
        });
        let is_within = references == References::Within;
        let inside = if is_poll_fn || is_captured || is_pin || is_tuple || together || is_within {
            References::Followed
        } else {
            References::Ignored
        };
        decoded.is_several = is_tuple || together;
        decoded.is_tuple = is_tuple;
        // A wrapper around any future has its type as a parameter.
        let parameters: Vec<Option<Die>> = children
            .iter()
            .filter(|child| child.tag == gimli::DW_TAG_template_type_parameter)
            .map(|child| child.of)
            .collect();
        let is_open = is_tuple || is_captured || OPEN.iter().any(|open| path.starts_with(open));
        decoded.plan = leaves::future(&path).and_then(|rule| self.dies.plan(rule, &children));
        decoded.rest = self.rest(&path, &children);
        decoded.kept = self.dies.kept(&path, node.die, &children);
        let is_future =
            decoded.plan.is_some() || decoded.rest.is_some() || references == References::Followed;
        if is_future {
            decoded.point = self.named(&parts, node, References::Followed);
        }
        let is_timeout = path == "tokio::time::timeout::Timeout";
        if is_timeout
            && let Some(delay) = children.iter().find(|child| child.name == b"delay")
            && let (Some(offset), Some(sleep)) = (delay.offset, delay.of)
        {
            let of = self.type_of(sleep, References::Ignored);
            decoded.limit = Some(Member {
                offset,
                of,
                is_open: true,
            });
        }
        let is_looked_into = decoded.kept.is_none_or(|kept| kept.what == Keeps::Streams);
        if decoded.plan.is_none() && is_looked_into {
            let members: Vec<Member> = children
                .iter()
                .filter(|child| child.tag == gimli::DW_TAG_member)
                .filter(|child| !is_timeout || child.name != b"delay")
                .filter_map(|child| {
                    Some(Member {
                        offset: child.offset?,
                        of: self.type_of(child.of?, inside),
                        is_open: is_open || parameters.contains(&child.of),
                    })
                })
                .collect();
            // `Map<Fut, F>` and the like are named after what they wrap.
            let first = parameters.first().copied().flatten();
            if let Some(wrapped) =
                first.filter(|_| !together && path.starts_with("futures_util::future::"))
            {
                decoded.wraps = Some(self.type_of(wrapped, References::Followed));
            }
            if is_pin {
                decoded.wraps = members.first().map(|member| member.of);
            }
            let start = self.layouts.members.len() as u32;
            if self.layouts.members.len() < MAX_MEMBERS {
                self.layouts.members.extend(members);
            } else {
                self.is_full = true;
            }
            decoded.shape = Shape::Struct(start..self.layouts.members.len() as u32);
        }
        Some(decoded)
    }

    /// The variants of a `DW_TAG_variant_part`; `read` says what one means.
    fn choice(
        &mut self,
        part: &Node<'a>,
        tag: Option<&Node<'a>>,
        mut read: impl FnMut(&mut Self, &Node<'a>, Die) -> Option<Variant>,
    ) -> Option<Choice> {
        let tag = match tag {
            Some(tag) => {
                let size = self.dies.node(tag.of?)?.size?;
                let size = u8::try_from(size)
                    .ok()
                    .filter(|size| [1, 2, 4, 8].contains(size))?;
                Some((tag.offset?, size))
            }
            None => None,
        };
        let mut variants = Vec::new();
        for variant in self.dies.children(part.die) {
            if variant.tag != gimli::DW_TAG_variant {
                continue;
            }
            // Ranges of numbers are not written by rustc (1.95).
            if variant.has_list {
                return None;
            }
            let member = self
                .dies
                .children(variant.die)
                .into_iter()
                .find(|c| c.tag == gimli::DW_TAG_member);
            let Some(read) = member.and_then(|member| read(self, &member, member.of?)) else {
                continue;
            };
            let value = tag.and_then(|(_, size)| Some(narrow(variant.value?, size)));
            variants.push(Variant { value, ..read });
        }
        let start = self.layouts.variants.len() as u32;
        if self.layouts.variants.len() < MAX_VARIANTS {
            self.layouts.variants.extend(variants);
        } else {
            self.is_full = true;
        }
        Some(Choice {
            tag,
            variants: start..self.layouts.variants.len() as u32,
        })
    }

    /// Where the future is in tasks of `Core<T, S>` (`repr(C)` since tokio 1.23); `scheduler` and
    /// `id` are where the vtable says that two of its members lie.
    pub(super) fn root(&mut self, core: Die, scheduler: u64, id: u64) -> Option<Root> {
        let members = self.dies.children(core);
        let member = |name: &[u8]| members.iter().find(|m| m.name == name);
        let start = scheduler.checked_sub(member(b"scheduler")?.offset?)?;
        if start.checked_add(member(b"task_id")?.offset?)? != id {
            return None;
        }
        let stage = member(b"stage")?;
        let (mut offset, mut at) = (start.checked_add(stage.offset?)?, stage.of?);
        // `CoreStage` and `UnsafeCell` around `Stage`.
        for _ in 0..8 {
            let children = self.dies.children(at);
            if let Some(part) = children
                .iter()
                .find(|c| c.tag == gimli::DW_TAG_variant_part)
            {
                let tag = part.discriminant.and_then(|die| self.dies.node(die));
                let choice = self.choice(part, tag.as_ref(), |decoder, variant, of| {
                    if variant.name != b"Running" {
                        return Some(Variant::new(State::Over, None));
                    }
                    let inside = decoder.dies.children(of);
                    let future = inside.iter().find(|m| m.tag == gimli::DW_TAG_member)?;
                    let member = Member {
                        offset: variant.offset?.checked_add(future.offset?)?,
                        of: decoder.type_of(future.of?, References::Followed),
                        is_open: true,
                    };
                    Some(Variant::new(State::Live, Some(member)))
                })?;
                return Some(Root {
                    stage: offset,
                    size: self.dies.node(at)?.size?,
                    choice,
                });
            }
            let only = children.iter().find(|c| c.tag == gimli::DW_TAG_member)?;
            offset = offset.checked_add(only.offset?)?;
            at = only.of?;
        }
        None
    }

    /// The type that a vtable is of; `table` is the entry of the vtable's own type.
    pub(super) fn concrete_type(&self, table: Die) -> Option<Die> {
        self.dies.node(table)?.containing
    }

    /// A box of a trait in which there may be something, or a followed `&mut dyn Future`.
    fn trait_object(
        &self,
        node: &Node<'_>,
        children: &[Node<'_>],
        references: References,
    ) -> Option<Boxed> {
        let offset = |names: &[&[u8]]| children.iter().find(|m| names.contains(&m.name))?.offset;
        let (of_trait, is_owned) = match tables::trait_of_box(node.name) {
            Some(of_trait) => (of_trait, true),
            None => (tables::trait_of_reference(node.name)?, false),
        };
        let is_polled = tables::is_polled(of_trait);
        let is_followed = references == References::Followed && is_polled;
        let may_keep = is_owned && (is_polled || self.keepers.does_box_keep(of_trait));
        (is_followed || may_keep).then_some(Boxed {
            data: offset(&[b"pointer", b"data_ptr"])?,
            table: offset(&[b"vtable"])?,
            is_polled,
        })
    }

    /// What a future that is written by hand waits for while nothing in it is polled.
    fn rest(&mut self, path: &str, members: &[Node<'a>]) -> Option<Rest> {
        let found = self.dies.resting(path, members)?;
        let find = match found.descriptor {
            Some(path) => Find::Descriptor(path),
            // In a box, or in one variant of several.
            None => Find::Owned(
                found.offset,
                self.type_of(found.socket, References::Ignored),
            ),
        };
        let plan = Plan {
            kind: WaitKind::Descriptor,
            // To read, as a rule; what is left of an answer is written.
            direction: None,
            find,
        };
        Some(Rest {
            plan,
            tests: found.tests,
        })
    }

    /// The name of a type that may be the innermost future.
    fn named(&mut self, parts: &[&[u8]], node: &Node<'_>, references: References) -> u32 {
        if references == References::Ignored {
            return 0;
        }
        let name = self.names.of_type(self.dies, parts, node.name);
        self.layouts.intern_name(name, PointKind::Leaf)
    }

    fn name_as_it_is(&mut self, node: &Node<'_>) -> u32 {
        let name = paths::text(node.name);
        self.layouts.intern_name(name, PointKind::Leaf)
    }
}

fn opaque(point: u32) -> Type {
    Type {
        shape: Shape::Opaque,
        size: 0,
        point,
        holds: false,
        wraps: None,
        is_tokio: false,
        is_several: false,
        is_tuple: false,
        plan: None,
        limit: None,
        rest: None,
        kept: None,
        keeps: false,
    }
}

/// A number as a member of `size` bytes holds it.
pub(super) fn narrow(value: u64, size: u8) -> u64 {
    match size {
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}
