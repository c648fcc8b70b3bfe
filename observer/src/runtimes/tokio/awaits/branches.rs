//! Several futures that are polled together: `select!`, `join!`, and wrappers with more than one.

use crate::model::Reason;
use crate::model::time::Mono;

use super::walk::{HeadKind, Hint, MAX_BRANCHES, Walk};

/// One of several futures that are polled together.
#[derive(Debug)]
struct Branch {
    functions: u32,
    points: usize,
    waits: std::ops::Range<usize>,
    limit: Option<Mono>,
    cut: Option<Reason>,
}

impl Walk<'_> {
    /// Leaves those of the futures from `start` on that are polled now.
    pub(super) fn choose(&mut self, start: usize, is_several: bool) -> bool {
        let heads = &mut self.scratch.heads;
        if is_several {
            return heads.len() > start;
        }
        // A wrapper's timers and sockets stand by while a future inside it runs; a future that was
        // not polled yet is for later.
        for kind in [HeadKind::Suspended, HeadKind::Leaf, HeadKind::NotStarted] {
            let found = heads.iter().skip(start).any(|head| head.kind == kind);
            if found {
                let mut place = 0;
                heads.retain(|head| {
                    place += 1;
                    place <= start || head.kind == kind
                });
                return true;
            }
        }
        false
    }

    /// Several futures polled together: what each waits for, and the backtrace of that with the most
    /// functions of the program's own (a signal to end is often polled beside the work itself).
    pub(super) fn branches(&mut self, start: usize, hint: Option<Hint>) -> Result<(), Reason> {
        let count = self.scratch.heads.len() - start;
        let last = self.several.len().saturating_sub(1);
        let point = self.several.get(count.saturating_sub(2).min(last)).copied();
        self.out.points.extend(point);
        let (points, waits) = (self.out.points.len(), self.out.waits.len());
        let (depth, functions) = (self.depth, self.functions);
        let (limit, cut) = (self.out.limit, self.out.cut.take());
        // The points of the best branch so far stand first, then those of the next one.
        let mut best: Option<Branch> = None;
        for place in start..start + count.min(MAX_BRANCHES) {
            let Some(head) = self.scratch.heads.get(place).copied() else {
                break;
            };
            let own = (self.out.points.len(), self.out.waits.len());
            self.functions = 0;
            self.out.limit = limit;
            if head.kind == HeadKind::Leaf {
                self.leaf(head.of, head.at, hint);
            } else {
                self.future(head.of, head.at, None)?;
            }
            self.depth = depth;
            let branch = Branch {
                functions: self.functions,
                points: self.out.points.len() - own.0,
                waits: own.1..self.out.waits.len(),
                limit: self.out.limit,
                cut: self.out.cut.take(),
            };
            if best
                .as_ref()
                .is_none_or(|best| branch.functions > best.functions)
            {
                self.out.points.drain(points..own.0);
                best = Some(branch);
            } else {
                self.out.points.truncate(own.0);
            }
        }
        if let Some(best) = best {
            self.out.points.truncate(points + best.points);
            if let Some(together) = self.out.waits.get_mut(waits..) {
                together.rotate_left(best.waits.start.saturating_sub(waits).min(together.len()));
            }
            self.functions = functions + best.functions;
            self.out.followed = Some(waits + best.waits.len());
            self.out.limit = best.limit;
            self.out.cut = cut.or(best.cut);
        }
        if count > MAX_BRANCHES {
            self.cut("more futures are polled together than are followed");
        }
        self.scratch.heads.truncate(start);
        Ok(())
    }
}
