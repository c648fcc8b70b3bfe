//! From what is known about a future by its path ([`super::leaves`]) to offsets in its memory.

use std::cell::Cell;

use super::decode::narrow;
use super::dies::{Die, Dies, Node};
use super::layout::{Find, Keeps, Kept, Path, Plan, Test};
use super::leaves::{self, How, Rule};

/// Structures that are looked through for one descriptor.
const MAX_OWNERS: u32 = 512;
/// A descriptor is owned within this many structures: `TcpStream` has it eight deep.
const MAX_OWNED_DEPTH: usize = 16;

/// A connection that a future written by hand drives.
#[derive(Debug)]
pub(super) struct Resting {
    /// Where what owns the socket lies in the future.
    pub(super) offset: u64,
    /// Its type.
    pub(super) socket: Die,
    /// Where the descriptor lies, when that is the same place always.
    pub(super) descriptor: Option<Path>,
    /// What says that nothing else is polled.
    pub(super) tests: Vec<Test>,
}

impl<'a> Dies<'a> {
    /// How a rule is followed from these members. A place that is not there leaves the kind.
    pub(super) fn plan(&self, rule: Rule, members: &[Node<'a>]) -> Option<Plan> {
        let find = match rule.how {
            How::Nothing => None,
            How::Address(names) => self.steps(names, members).map(Find::Address),
            How::Deadline(name, others) => self.deadline(name, members).or_else(|| {
                let mut inside = members
                    .iter()
                    .filter(|m| others.iter().any(|other| m.name == other.as_bytes()));
                inside.find_map(|m| {
                    let (offset, members) = self.only_variant(m.of?)?;
                    let found = self.deadline(name, &members)?;
                    Some(found.moved(offset.checked_add(m.offset?)?))
                })
            }),
            How::Descriptor(names) => {
                let held = members
                    .iter()
                    .find(|m| names.iter().any(|n| m.name == n.as_bytes()));
                let found = held.and_then(|held| self.descriptor(held));
                // What is read from or written to may be no descriptor at all.
                Some(Find::Descriptor(found?))
            }
        };
        Some(Plan {
            kind: rule.kind,
            direction: rule.direction,
            find: find.unwrap_or(Find::Nothing),
        })
    }

    /// The members of a structure, or of what an enum with one variant holds (`runtime::Timer` of
    /// tokio 1.49, without unstable features), and where they begin.
    fn only_variant(&self, die: Die) -> Option<(u64, Vec<Node<'a>>)> {
        let children = self.children(die);
        let is_part = |child: &&Node<'_>| child.tag == gimli::DW_TAG_variant_part;
        let Some(part) = children.iter().find(is_part) else {
            return Some((0, children));
        };
        let variants = self.children(part.die);
        let mut variants = variants
            .iter()
            .filter(|child| child.tag == gimli::DW_TAG_variant);
        let (Some(only), None) = (variants.next(), variants.next()) else {
            return None;
        };
        let (mut offset, mut at) = (0_u64, only.die);
        // The variant, its one member, the one field in that.
        for _ in 0..2 {
            let inside = self.children(at);
            let member = inside.iter().find(|m| m.tag == gimli::DW_TAG_member)?;
            offset = offset.checked_add(member.offset?)?;
            at = member.of?;
        }
        Some((offset, self.children(at)))
    }

    /// What a structure of this path is to those who wait for something that a task keeps.
    pub(super) fn kept(&self, path: &str, of: Die, members: &[Node<'a>]) -> Option<Kept> {
        let (what, names) = leaves::kept(path)?;
        let (mut steps, at) = self.way(names, members)?;
        if what == Keeps::Connection {
            let left = Cell::new(MAX_OWNERS);
            let inside = self.owned_descriptor(at.unwrap_or(of), MAX_OWNED_DEPTH, &left)?;
            let last = steps.last_mut()?;
            *last = last.checked_add(inside)?;
        }
        let path = Path::new(&steps)?;
        Some(Kept { what, path })
    }

    /// Where a future that is written by hand has its socket, and what tells that it waits for that one.
    pub(super) fn resting(&self, path: &str, members: &[Node<'a>]) -> Option<Resting> {
        let driver = leaves::driver(path)?;
        let (steps, socket) = self.way(driver.socket, members)?;
        let ([offset], Some(socket)) = (steps.as_slice(), socket) else {
            return None;
        };
        let left = Cell::new(MAX_OWNERS);
        let inside = self.owned_descriptor(socket, MAX_OWNED_DEPTH, &left);
        let descriptor = match inside {
            Some(inside) => Some(Path::new(&[offset.checked_add(inside)?])?),
            None => None,
        };
        let mut tests = Vec::new();
        for names in driver.none {
            if self.way(names, members).is_some() {
                tests.push(self.test(names, members)?);
            }
        }
        // Of a version in which all of them have other names nothing is known.
        (driver.none.is_empty() || !tests.is_empty()).then_some(Resting {
            offset: *offset,
            socket,
            descriptor,
            tests,
        })
    }

    /// Where it is told whether an `Option` has a value, which may lie in a box, and that in a pin.
    fn test(&self, names: &[&str], members: &[Node<'a>]) -> Option<Test> {
        let (mut steps, at) = self.way(names, members)?;
        let mut at = at?;
        for _ in 0..8 {
            let node = self.node(at)?;
            let children = self.children(at);
            let part = children
                .iter()
                .find(|child| child.tag == gimli::DW_TAG_variant_part);
            if let Some(part) = part.filter(|_| node.name.starts_with(b"Option<")) {
                let tag = self.node(part.discriminant?)?;
                let size = self.node(tag.of?)?.size?;
                let variants = self.children(part.die);
                let none = variants.iter().find(|variant| {
                    let inside = self.children(variant.die);
                    inside.iter().any(|member| member.name == b"None")
                })?;
                let last = steps.last_mut()?;
                *last = last.checked_add(tag.offset?)?;
                return Some(Test {
                    path: Path::new(&steps)?,
                    size: u8::try_from(size).ok().filter(|size| *size <= 8)?,
                    none: narrow(none.value?, size as u8),
                });
            }
            if node.tag == gimli::DW_TAG_pointer_type {
                steps.push(0);
                at = node.of?;
                continue;
            }
            let mut inside = children.iter().filter(|c| c.tag == gimli::DW_TAG_member);
            let (Some(only), None) = (inside.next(), inside.next()) else {
                return None;
            };
            let last = steps.last_mut()?;
            *last = last.checked_add(only.offset?)?;
            at = only.of?;
        }
        None
    }

    fn steps(&self, names: &[&str], members: &[Node<'a>]) -> Option<Path> {
        let (steps, at) = self.way(names, members)?;
        // It must be nothing but a pointer (`Arc`, `NonNull`, a reference).
        let last = self.node(at?)?;
        let is_pointer = last.tag == gimli::DW_TAG_pointer_type || last.size == Some(8);
        Path::new(&steps).filter(|_| is_pointer)
    }

    /// Offsets with a pointer behind each but the last, and the type of what lies at their end.
    fn way(&self, names: &[&str], members: &[Node<'a>]) -> Option<(Vec<u64>, Option<Die>)> {
        let mut steps = Vec::new();
        let mut offset = 0_u64;
        let mut at: Option<Die> = None;
        for name in names {
            if *name == "*" {
                steps.push(std::mem::take(&mut offset));
                at = self.node(at?)?.of;
                continue;
            }
            let below;
            let members = match at {
                None => members,
                Some(die) => {
                    below = self.children(die);
                    &below
                }
            };
            let member = members.iter().find(|m| m.name == name.as_bytes())?;
            offset = offset.checked_add(member.offset?)?;
            at = member.of;
        }
        steps.push(offset);
        Some((steps, at))
    }

    /// tokio's and std's `Instant` are one `Timespec` on Linux (std `sys/pal/unix/time.rs`).
    fn deadline(&self, name: &str, members: &[Node<'a>]) -> Option<Find> {
        let member = members.iter().find(|m| m.name == name.as_bytes())?;
        let (mut offset, mut at) = (member.offset?, member.of?);
        for _ in 0..8 {
            let inner = self.children(at);
            let of = |name: &[u8]| {
                inner
                    .iter()
                    .find(|m| m.name == name)?
                    .offset?
                    .checked_add(offset)
            };
            if let (Some(seconds), Some(nanoseconds)) = (of(b"tv_sec"), of(b"tv_nsec")) {
                return Some(Find::Deadline(seconds, nanoseconds));
            }
            let only = inner.iter().find(|m| m.tag == gimli::DW_TAG_member)?;
            offset = offset.checked_add(only.offset?)?;
            at = only.of?;
        }
        None
    }

    /// The `OwnedFd` in what a member is, or points to.
    fn descriptor(&self, member: &Node<'a>) -> Option<Path> {
        let of = self.node(member.of?)?;
        let start = member.offset?;
        // A pinned reference is one.
        let of = match of.tag {
            gimli::DW_TAG_structure_type if of.name.starts_with(b"Pin<&") => {
                let inner = self.children(of.die);
                self.node(inner.iter().find(|m| m.tag == gimli::DW_TAG_member)?.of?)?
            }
            _ => of,
        };
        if of.tag == gimli::DW_TAG_pointer_type {
            let inside = self.owned_descriptor(of.of?, MAX_OWNED_DEPTH, &Cell::new(MAX_OWNERS))?;
            return Path::new(&[start, inside]);
        }
        let inside = self.owned_descriptor(of.die, MAX_OWNED_DEPTH, &Cell::new(MAX_OWNERS))?;
        Path::new(&[start.checked_add(inside)?])
    }

    fn owned_descriptor(&self, die: Die, depth: usize, left: &Cell<u32>) -> Option<u64> {
        left.set(left.get().checked_sub(1)?);
        let node = self
            .node(die)
            .filter(|node| node.tag == gimli::DW_TAG_structure_type)?;
        if node.name == b"OwnedFd" {
            return Some(0);
        }
        let depth = depth.checked_sub(1)?;
        let mut found = None;
        for child in self.children(die) {
            let inside = match child.tag {
                gimli::DW_TAG_member => child.of.and_then(|of| {
                    self.owned_descriptor(of, depth, left)?
                        .checked_add(child.offset?)
                }),
                // `Option<TcpStream>`: one of its variants owns it. In another enum all must have it at one place:
                // which of them is there is not known.
                gimli::DW_TAG_variant_part => {
                    let variants = self.children(child.die);
                    let is_option = node.name.starts_with(b"Option<");
                    let fields = variants.iter().flat_map(|v| self.children(v.die));
                    let mut offsets = fields
                        .filter(|field| field.tag == gimli::DW_TAG_member)
                        .map(|field| {
                            self.owned_descriptor(field.of?, depth, left)?
                                .checked_add(field.offset?)
                        })
                        .filter(|at| at.is_some() || !is_option);
                    let first = offsets.next().flatten();
                    first.filter(|_| offsets.all(|at| at == first))
                }
                _ => None,
            };
            match (found, inside) {
                (None, inside) => found = inside,
                // Two of them: which one is waited for is not known.
                (Some(_), Some(_)) => return None,
                (Some(_), None) => {}
            }
        }
        found
    }
}
