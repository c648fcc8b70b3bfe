//! Which variables of an async function may have something in them that others wait for: the types of
//! those that have not are never decoded.

use std::collections::{HashMap, HashSet};

use super::dies::{Die, Dies};
use super::leaves;
use super::paths;
use super::tables;

/// Types inside of each other.
const MAX_DEPTH: u32 = 48;
/// Types that are known at once.
const MAX_TYPES: usize = 500_000;

/// What was found out about types.
#[derive(Debug, Default)]
pub(super) struct Keepers {
    known: HashMap<Die, bool>,
    /// Traits that are implemented by types that keep something: what is in a box of one may be such a type.
    boxes: HashSet<Vec<u8>>,
    /// Types were not looked at: there are too many, or too deep in each other.
    pub(super) is_cut: bool,
}

impl Keepers {
    /// Whether a value of the type can own a guard, an end of a channel, or a connection. Futures in it
    /// do not count: they are looked at where they are polled.
    pub(super) fn keeps(&mut self, dies: &mut Dies<'_>, of: Die) -> bool {
        self.look(dies, of, MAX_DEPTH)
    }

    /// Boxes of the trait may keep something.
    pub(super) fn boxes_keep(&mut self, of_trait: &[u8]) {
        self.boxes.insert(of_trait.to_vec());
    }

    /// Whether what is in a box of the trait may keep something.
    pub(super) fn does_box_keep(&self, of_trait: &[u8]) -> bool {
        self.boxes.contains(of_trait)
    }

    /// What was found out so far may not hold any more, now that more boxes keep something. What was not looked
    /// at may be none of a task's.
    pub(super) fn look_again(&mut self) {
        self.known.clear();
        self.is_cut = false;
    }

    fn look(&mut self, dies: &mut Dies<'_>, of: Die, depth: u32) -> bool {
        if let Some(known) = self.known.get(&of) {
            return *known;
        }
        if depth == 0 || self.known.len() >= MAX_TYPES {
            self.is_cut = true;
            return false;
        }
        // A type that owns itself, in a box, gains nothing by that. What is decided of others on the way back
        // to it stays, too: there an owner may be missed.
        self.known.insert(of, false);
        let found = self.is_or_owns(dies, of, depth - 1);
        self.known.insert(of, found);
        found
    }

    fn is_or_owns(&mut self, dies: &mut Dies<'_>, of: Die, depth: u32) -> bool {
        let Some(node) = dies.node(of) else {
            return false;
        };
        match node.tag {
            gimli::DW_TAG_pointer_type if node.name.starts_with(b"alloc::boxed::Box<") => {
                node.of.is_some_and(|of| self.look(dies, of, depth))
            }
            gimli::DW_TAG_structure_type => {
                if let Some(of_trait) = tables::trait_of_box(node.name) {
                    return self.does_box_keep(of_trait);
                }
                if leaves::may_be_kept(node.name) {
                    let path = paths::plain_type(&dies.path(of), node.name);
                    if leaves::kept(&path).is_some() {
                        return true;
                    }
                }
                let children = dies.children(of);
                let part = children
                    .iter()
                    .find(|child| child.tag == gimli::DW_TAG_variant_part);
                let Some(part) = part else {
                    let members = children.iter().filter(|c| c.tag == gimli::DW_TAG_member);
                    return members
                        .filter_map(|member| member.of)
                        .any(|of| self.look(dies, of, depth));
                };
                let tag = part.discriminant.and_then(|die| dies.node(die));
                if tag.is_some_and(|tag| tag.name == b"__state") {
                    return false;
                }
                let variants = dies.children(part.die);
                variants.iter().any(|variant| {
                    let fields = dies.children(variant.die);
                    let mut fields = fields.iter().filter(|f| f.tag == gimli::DW_TAG_member);
                    fields.any(|f| f.of.is_some_and(|of| self.look(dies, of, depth)))
                })
            }
            _ => false,
        }
    }
}
