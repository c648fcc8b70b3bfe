//! Merging tallies and reading quantiles off their buckets.

use crate::model::event::{BUCKETS, Tally, bucket_floor, bucket_of};

impl Tally {
    /// Adds one wait.
    pub fn add(&mut self, ns: u64, run_queue_ns: u64) {
        self.count += 1;
        self.total_ns += ns;
        self.run_queue_ns += run_queue_ns;
        self.max_ns = self.max_ns.max(ns);
        self.buckets[bucket_of(ns)] += 1;
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.run_queue_ns += other.run_queue_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to += from;
        }
    }

    /// Takes a part out, which must be in it; what rounding leaves over stays at 0.
    pub fn subtract(&mut self, part: &Self) {
        self.count = self.count.saturating_sub(part.count);
        self.total_ns = self.total_ns.saturating_sub(part.total_ns);
        self.run_queue_ns = self.run_queue_ns.saturating_sub(part.run_queue_ns);
        for (from, by) in self.buckets.iter_mut().zip(&part.buckets) {
            *from = from.saturating_sub(*by);
        }
    }

    /// A quantile (0 to 1) in nanoseconds, interpolated inside its bucket: two buckets per octave,
    /// so it is off by less than a fifth; never above the maximum.
    pub fn quantile(&self, q: f64) -> u64 {
        let counted: u64 = self.buckets.iter().sum();
        if counted == 0 {
            return 0;
        }
        let rank = ((counted as f64 * q).ceil() as u64).clamp(1, counted);
        let mut before = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            if before + count >= rank {
                let low = bucket_floor(bucket);
                let high = if bucket + 1 < BUCKETS {
                    bucket_floor(bucket + 1)
                } else {
                    self.max_ns
                };
                let inside = (rank - before) as f64 / *count as f64;
                let value = low as f64 + inside * high.saturating_sub(low) as f64;
                return (value as u64).min(self.max_ns);
            }
            before += count;
        }
        self.max_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_fifth_of_the_truth() {
        let mut tally = Tally::default();
        for i in 1..=1000_u64 {
            tally.add(i * 10_000, 0);
        }
        for (q, truth) in [(0.5, 5_000_000_f64), (0.99, 9_900_000_f64)] {
            let got = tally.quantile(q) as f64;
            assert!((got - truth).abs() / truth < 0.2, "{q}: {got}");
        }
        assert_eq!(tally.max_ns, 10_000_000);
        assert_eq!(Tally::default().quantile(0.5), 0);
    }

    #[test]
    fn a_part_taken_out_leaves_the_rest() {
        let (mut whole, mut part) = (Tally::default(), Tally::default());
        whole.add(5_000, 0);
        whole.add(9_000_000, 10);
        part.add(9_000_000, 10);
        whole.subtract(&part);
        assert_eq!(
            (whole.count, whole.total_ns, whole.run_queue_ns),
            (1, 5_000, 0)
        );
        assert_eq!(whole.buckets.iter().sum::<u64>(), 1);
    }
}
