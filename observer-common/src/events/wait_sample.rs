//! Which waits of a thread have been sampled lately: others like them wait for their turn.

use crate::pod;

/// Shapes of waits that are remembered of each thread.
pub const SHAPES: usize = 8;

/// Waits of one thread that look alike: of the same task, on the same resource, from the same instruction
/// at the same depth of the stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Hash of what they have in common.
    pub hash: u32,
    /// When one of them was sampled last, in units of 2^[`UNIT_SHIFT`] ns, from which the high bits are
    /// missing.
    pub at: u16,
    /// Those since then.
    pub waits: u16,
}

/// See [`Shape::at`]: 134 ms.
pub const UNIT_SHIFT: u32 = 27;

const _: () = assert!(size_of::<Shape>() == 8);
pod!(Shape);

impl Shape {
    /// A wait with this hash begins at `now` (in units). When it is to be sampled: for how many waits it
    /// stands, all since the last that was; else 0. The first one of a shape always is, later ones once in
    /// each period of 2^`again` units.
    #[inline(always)]
    pub fn turn(&mut self, hash: u32, now: u16, again: u64) -> u32 {
        if self.hash != hash {
            *self = Self {
                hash,
                at: now,
                waits: 0,
            };
            return 1;
        }
        self.waits = self.waits.saturating_add(1);
        // Periods begin at another time for each, so that their turns do not come all at once.
        let period = |at: u16| at.wrapping_add(hash as u16) >> (again & 15);
        if period(now) == period(self.at) {
            return 0;
        }
        let weight = self.waits;
        self.at = now;
        self.waits = 0;
        weight as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: u64 = 4;

    #[test]
    fn the_first_wait_of_a_shape_is_sampled_and_the_next_in_another_period() {
        let mut shape = Shape::default();
        // Periods of hash 3 begin at 13, 29...
        assert_eq!(shape.turn(3, 14, AGAIN), 1);
        for now in [14, 14, 20, 28] {
            assert_eq!(shape.turn(3, now, AGAIN), 0);
        }
        assert_eq!(shape.turn(3, 29, AGAIN), 5);
        assert_eq!(shape.turn(3, 29, AGAIN), 0);
        // Another shape takes the place, and gives it back.
        assert_eq!(shape.turn(8, 29, AGAIN), 1);
        assert_eq!(shape.turn(3, 29, AGAIN), 1);
    }

    #[test]
    fn shorter_periods_have_more_turns() {
        let turns = |again| {
            let mut shape = Shape::default();
            (0..64)
                .filter(|now| shape.turn(7, *now, again) != 0)
                .count()
        };
        assert_eq!((turns(0), turns(4)), (64, 5));
    }

    #[test]
    fn each_wait_is_stood_for_once() {
        let mut shape = Shape::default();
        let mut stood_for = 0;
        let mut waits = 0;
        // Past the point at which the clock begins anew.
        for now in (0..200_u16).map(|n| n.wrapping_sub(100)) {
            for _ in 0..7 {
                waits += 1;
                stood_for += shape.turn(0xdead_beef, now, AGAIN);
            }
        }
        assert_eq!(stood_for + u32::from(shape.waits), waits);
    }
}
