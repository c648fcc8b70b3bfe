//! Bounds what probes in a target's own code may cost it: above a budget of hits they are taken out.

use std::time::Duration;

/// Hits per second above which probes are taken out, unless the user says otherwise: at about 1 µs
/// each, 2 % of one core.
pub const DEFAULT_BUDGET: u64 = 20_000;

/// The time over which a rate is judged: long enough that a burst at a time does not end exactness.
const WINDOW: Duration = Duration::from_millis(500);
/// Bursts of this many times the budget end it at once.
const BURST: u64 = 10;

/// Watches the number of hits of one target's probes.
#[derive(Debug, Clone)]
pub struct RateGuard {
    budget: u64,
    from: (Duration, u64),
    last: (Duration, u64),
}

/// Probes hit more often than they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Hits per second that were seen.
    pub rate: u64,
    /// Hits per second that are allowed.
    pub budget: u64,
}

impl RateGuard {
    /// A guard that starts now; `now` counts from any origin.
    pub fn new(budget: u64, now: Duration) -> Self {
        Self {
            budget,
            from: (now, 0),
            last: (now, 0),
        }
    }

    /// Begins anew, after some probes were taken out; `hits` as they are counted now.
    pub fn restart(&mut self, now: Duration, hits: u64) {
        self.from = (now, hits);
        self.last = (now, hits);
    }

    /// Looks at the count of hits since the start.
    ///
    /// # Errors
    /// When the rate is above the budget: the probes are to be taken out.
    pub fn check(&mut self, now: Duration, hits: u64) -> Result<(), Exceeded> {
        let rate = |since: (Duration, u64)| {
            let time = now.saturating_sub(since.0).as_secs_f64();
            if time <= 0.0 {
                return 0;
            }
            (hits.saturating_sub(since.1) as f64 / time) as u64
        };
        let burst = rate(self.last);
        let steady = rate(self.from);
        self.last = (now, hits);
        let exceeded = |rate| Exceeded {
            rate,
            budget: self.budget,
        };
        if burst > self.budget.saturating_mul(BURST) {
            return Err(exceeded(burst));
        }
        if now.saturating_sub(self.from.0) >= WINDOW {
            if steady > self.budget {
                return Err(exceeded(steady));
            }
            self.from = (now, hits);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(budget: u64, hits: impl Fn(u64) -> u64) -> Option<(u64, Exceeded)> {
        let mut guard = RateGuard::new(budget, Duration::ZERO);
        (1..=50).find_map(|slice: u64| {
            guard
                .check(Duration::from_millis(slice * 100), hits(slice))
                .err()
                .map(|e| (slice, e))
        })
    }

    #[test]
    fn a_steady_rate_at_the_budget_stays_and_above_it_ends_after_the_window() {
        assert_eq!(run(20_000, |slice| slice * 2000), None);
        let (slice, exceeded) = run(20_000, |slice| slice * 3000).unwrap();
        assert_eq!((slice, exceeded.rate), (5, 30_000));
    }

    #[test]
    fn what_was_hit_before_does_not_count_after_a_restart() {
        let mut guard = RateGuard::new(20_000, Duration::ZERO);
        let at = Duration::from_millis;
        assert!(guard.check(at(100), 100_000).is_err());
        guard.restart(at(150), 120_000);
        assert_eq!(guard.check(at(250), 121_500), Ok(()));
        assert_eq!(guard.check(at(700), 128_000), Ok(()));
        assert_eq!(
            guard.check(at(1300), 150_000).map_err(|e| e.rate),
            Err(36_666)
        );
    }

    #[test]
    fn a_short_burst_stays_and_a_flood_ends_at_once() {
        // 6 000 hits in the first slice, then nothing.
        assert_eq!(run(20_000, |_| 6000), None);
        let (slice, _) = run(20_000, |slice| slice * 100_000).unwrap();
        assert_eq!(slice, 1);
    }
}
