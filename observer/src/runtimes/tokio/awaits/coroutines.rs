//! Async functions and blocks: what each of their states means.

use std::ops::Range;

use super::decode::{Decoder, References};
use super::dies::{Die, Node};
use super::layout::{Member, State, Variant};
use super::leaves::Rule;
use super::{AwaitPoint, PointKind};

/// Variables in all.
const MAX_VARIABLES: usize = 500_000;

impl<'a> Decoder<'_, 'a> {
    /// What one state of an async function or block means. `of` holds its variables.
    pub(super) fn suspension(
        &mut self,
        variant: &Node<'a>,
        of: Die,
        function: &str,
        rule: Option<Rule>,
    ) -> Option<Variant> {
        let name = self.dies.node(of)?.name;
        let (state, kind) = match name {
            b"Unresumed" => (State::Unresumed, PointKind::NotStarted),
            _ if name.starts_with(b"Suspend") => (State::Live, PointKind::Await),
            _ => (State::Over, PointKind::Leaf),
        };
        if state == State::Over {
            return Some(Variant::new(state, None));
        }
        let point = self.layouts.intern(AwaitPoint {
            function: function.to_owned(),
            file: self.dies.file(variant),
            line: variant.line.and_then(|line| u32::try_from(line).ok()),
            kind,
        });
        let base = variant.offset.unwrap_or(0);
        let locals = self.dies.children(of);
        let variables = self.variables(&locals, base);
        if state != State::Live {
            return Some(Variant {
                point,
                variables,
                ..Variant::new(state, None)
            });
        }
        let awaited = locals.iter().find(|local| local.name == b"__awaitee");
        let member = awaited.and_then(|awaited| {
            Some(Member {
                offset: awaited.offset?.checked_add(base)?,
                of: self.type_of(awaited.of?, References::Followed),
                is_open: true,
            })
        });
        let plan = rule
            .and_then(|rule| self.dies.plan(rule, &locals))
            .map(|plan| plan.moved(base));
        Some(Variant {
            point,
            plan,
            variables,
            ..Variant::new(state, member)
        })
    }

    /// Those of the variables of a state, which lies `base` into its function, in which there may be
    /// something that others wait for.
    fn variables(&mut self, locals: &[Node<'a>], base: u64) -> Range<u32> {
        let first = self.layouts.variables.len();
        for local in locals.iter().filter(|local| local.name != b"__awaitee") {
            let (Some(of), Some(offset)) = (local.of, local.offset) else {
                continue;
            };
            // An argument is listed as such and as a variable.
            let at = offset.wrapping_add(base);
            let known = self.layouts.variables.get(first..).unwrap_or_default();
            if known.iter().any(|known| known.offset == at) || !self.keepers.keeps(self.dies, of) {
                continue;
            }
            if self.layouts.variables.len() >= MAX_VARIABLES {
                self.is_full = true;
                break;
            }
            let variable = Member {
                offset: at,
                of: self.type_of(of, References::Ignored),
                is_open: false,
            };
            self.layouts.variables.push(variable);
        }
        self.is_full |= self.keepers.is_cut;
        first as u32..self.layouts.variables.len() as u32
    }
}
