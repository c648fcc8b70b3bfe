//! Run time of the kernel programs. The kernel counts it only on demand, and each run then costs some
//! ten nanoseconds more: so it is counted for a while and the rest of a session is taken to be like
//! the end of that while.

use std::os::fd::OwnedFd;
use std::time::Duration;

/// The first part, which is unlike the others: more stacks are taken in it.
pub const FIRST: Duration = Duration::from_secs(1);
/// When counting ends: what came after [`FIRST`] stands for the rest.
const END: Duration = Duration::from_secs(2);

/// Time in programs, in nanoseconds, and their runs.
pub type Runs = (u64, u64);

/// Counts from the start of a session on.
#[derive(Debug)]
pub struct RunCost {
    /// While it is held the kernel counts.
    counting: Option<OwnedFd>,
    first: Option<(Duration, Runs)>,
    last: Option<(Duration, Runs)>,
}

impl RunCost {
    /// `counting`: what keeps the kernel counting; `None` when it may not be asked to.
    pub fn new(counting: Option<OwnedFd>) -> Self {
        Self {
            counting,
            first: None,
            last: None,
        }
    }

    /// Asks for what was counted up to now, when it is time to. True when the counting has ended.
    pub fn look(&mut self, since_start: Duration, runs: impl FnOnce() -> Runs) -> bool {
        if self.counting.is_none() || since_start < FIRST {
            return false;
        }
        if self.first.is_none() {
            self.first = Some((since_start, runs()));
            return false;
        }
        if since_start >= END {
            self.end(since_start, runs);
        }
        self.counting.is_none()
    }

    /// Ends the counting, if it is still going on.
    pub fn end(&mut self, since_start: Duration, runs: impl FnOnce() -> Runs) {
        if self.counting.is_some() {
            self.last = Some((since_start, runs()));
            self.counting = None;
        }
    }

    /// For a session of this length; `None` when nothing was counted.
    pub fn over(&self, whole: Duration) -> Option<Runs> {
        let (end, counted) = self.last?;
        let (from, before) = match self.first {
            Some(first) if first.0 < end => first,
            _ => (Duration::ZERO, (0, 0)),
        };
        let factor = whole.saturating_sub(end).as_secs_f64()
            / end.saturating_sub(from).as_secs_f64().max(1e-3);
        let rest = |counted: u64, before: u64| {
            counted + (counted.saturating_sub(before) as f64 * factor) as u64
        };
        Some((rest(counted.0, before.0), rest(counted.1, before.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(looks: &[(u64, Runs)], ended: (u64, Runs)) -> RunCost {
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut cost = RunCost::new(Some(file.into()));
        for (ms, runs) in looks {
            cost.look(Duration::from_millis(*ms), || *runs);
        }
        cost.end(Duration::from_millis(ended.0), || ended.1);
        cost
    }

    #[test]
    fn the_rest_of_a_session_is_like_the_end_of_what_was_counted() {
        let looks = [(500, (99, 99)), (1000, (1000, 10)), (2000, (1300, 14))];
        let cost = counted(&looks, (9000, (99_999, 999)));
        assert_eq!(cost.over(Duration::from_secs(2)), Some((1300, 14)));
        assert_eq!(cost.over(Duration::from_secs(10)), Some((3700, 46)));
    }

    #[test]
    fn a_short_session_is_counted_whole() {
        let short = counted(&[(100, (50, 1))], (700, (350, 7)));
        assert_eq!(short.over(Duration::from_millis(700)), Some((350, 7)));
        let middle = counted(&[(1000, (50, 1))], (1500, (350, 7)));
        assert_eq!(middle.over(Duration::from_millis(1500)), Some((350, 7)));
        assert_eq!(RunCost::new(None).over(FIRST), None);
    }
}
