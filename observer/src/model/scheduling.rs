//! What a runtime's own scheduler looks like at one moment, and how long tasks wait for it.

use super::time::Mono;

/// Buckets of [`Delays`]: Go's `timeHistogram` (Go 1.20 to 1.27, `src/runtime/histogram.go`): four
/// to each power of two, the first four together below 256 ns.
pub const DELAY_BUCKETS: usize = 160;
const SUB_BUCKETS: usize = 4;
/// The exponent that bucket 4 begins at.
const FIRST_EXPONENT: usize = 8;

/// A runtime's scheduler at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerSample {
    /// How many tasks can run at once (Go: Ps).
    pub slots: u32,
    /// Of these, without anything to do.
    pub idle_slots: u32,
    /// Tasks in the queue that all slots share.
    pub shared_queue: u64,
    /// Tasks in the queues of the slots.
    pub slot_queues: u64,
    /// Threads of the runtime.
    pub threads: u32,
    /// Of these, parked without work.
    pub idle_threads: u32,
    /// Of these, looking for work.
    pub spinning_threads: u32,
    /// When the network was last looked at; `None`: a thread waits for it at this moment.
    pub polled: Option<Mono>,
}

/// How long tasks were ready before they ran, as the runtime itself counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// Counts by delay.
    pub counts: [u64; DELAY_BUCKETS],
    /// Longer than the last bucket.
    pub beyond: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            counts: [0; DELAY_BUCKETS],
            beyond: 0,
        }
    }
}

/// The shortest delay of a bucket (ns).
pub fn delay_floor(bucket: usize) -> u64 {
    let (power, part) = (bucket / SUB_BUCKETS, (bucket % SUB_BUCKETS) as u64);
    if power == 0 {
        return part << (FIRST_EXPONENT - 2);
    }
    let exponent = FIRST_EXPONENT + power - 1;
    (1 << exponent) | (part << (exponent - 2))
}

impl Delays {
    /// What was added since an earlier state of the same counts. `None` when it is not an earlier one.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut new = Self::default();
        for (to, (now, then)) in new
            .counts
            .iter_mut()
            .zip(self.counts.iter().zip(&earlier.counts))
        {
            *to = now.checked_sub(*then)?;
        }
        new.beyond = self.beyond.checked_sub(earlier.beyond)?;
        Some(new)
    }

    /// How many delays.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(self.beyond, |sum, n| sum.saturating_add(*n))
    }

    /// The delay that this part of all is at most: the upper end of its bucket. `None` without any, or
    /// when it lies beyond the last bucket.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q).ceil() as u64).clamp(1, count);
        let mut seen = 0_u64;
        let at = self.counts.iter().position(|n| {
            seen = seen.saturating_add(*n);
            seen >= rank
        })?;
        Some(delay_floor(at + 1))
    }

    /// Part of all that is in buckets wholly at or above `ns`, 0 to 1. `None` without any.
    pub fn share_from(&self, ns: u64) -> Option<f64> {
        let all = self.count();
        let long = (0..DELAY_BUCKETS)
            .filter(|bucket| delay_floor(*bucket) >= ns)
            .fold(self.beyond, |sum, bucket| {
                sum.saturating_add(self.counts[bucket])
            });
        (all > 0).then(|| long as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `timeHistogram.record` of Go 1.27.3.
    fn bucket_of(ns: u64) -> usize {
        let length = (64 - ns.leading_zeros()) as usize;
        let (bit, bucket) = if length < 9 {
            (9, 0)
        } else {
            (length, length - 9 + 1)
        };
        bucket * 4 + (ns >> (bit - 1 - 2)) as usize % 4
    }

    #[test]
    fn buckets_are_those_of_the_runtime() {
        for bucket in 0..DELAY_BUCKETS {
            let floor = delay_floor(bucket);
            assert_eq!(bucket_of(floor), bucket, "{floor} ns");
            if bucket > 0 {
                assert_eq!(bucket_of(floor - 1), bucket - 1, "{floor} ns less one");
            }
        }
    }

    #[test]
    fn quantiles_are_upper_bounds_of_what_is_new() {
        let mut then = Delays::default();
        then.counts[bucket_of(1_000_000)] = 70;
        let mut now = then;
        now.counts[bucket_of(20_000)] += 98;
        now.counts[bucket_of(300_000)] += 2;
        let new = now.since(&then).unwrap();
        assert_eq!(new.count(), 100);
        let p50 = new.quantile(0.5).unwrap();
        assert!((20_000..25_000).contains(&p50), "{p50}");
        let p99 = new.quantile(0.99).unwrap();
        assert!((300_000..400_000).contains(&p99), "{p99}");
        assert_eq!(new.share_from(200_000), Some(0.02));
        assert_eq!(then.since(&now), None);
        assert_eq!(Delays::default().quantile(0.5), None);
        let beyond = Delays {
            beyond: 1,
            ..Delays::default()
        };
        assert_eq!(
            (beyond.quantile(0.5), beyond.share_from(1)),
            (None, Some(1.0))
        );
    }
}
