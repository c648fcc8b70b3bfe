//! What a load run measured.

use anyhow::{Context, Error, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Latencies from 1 µs to 10 minutes are told apart to three digits.
const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;
/// Connections share this many recorders: a histogram for each of 10 000 would be gigabytes.
const MAX_SHARDS: u16 = 16;

/// Summary of a load run, final or so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Connections used.
    pub connections: u16,
    /// How long it has run.
    pub duration_ns: u64,
    /// Requests answered with a status below 400.
    pub requests: u64,
    /// Requests answered with 400 or above, not answered in time, or cut off; failed connects.
    pub errors: u64,
    /// Answered requests per second.
    pub rps: f64,
    /// Median latency.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The slowest.
    pub max_ns: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests={} errors={} rps={:.1} p50_us={} p99_us={} max_us={} connections={} \
             duration_s={:.2}",
            self.requests,
            self.errors,
            self.rps,
            self.p50_ns / 1000,
            self.p99_ns / 1000,
            self.max_ns / 1000,
            self.connections,
            self.duration_ns as f64 / 1e9,
        )
    }
}

/// Counts and latencies of all connections.
#[derive(Debug)]
pub struct Stats(Vec<Mutex<Shard>>);

#[derive(Debug)]
struct Shard {
    latency: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Shard {
    fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3)
            .context("cannot make the latency histogram")?;
        Ok(Self {
            latency,
            errors: 0,
            first_error: None,
        })
    }
}

impl Stats {
    /// Empty, for so many connections.
    pub fn new(connections: u16) -> Result<Self> {
        let shards = (0..connections.clamp(1, MAX_SHARDS)).map(|_| Shard::new().map(Mutex::new));
        Ok(Self(shards.collect::<Result<_>>()?))
    }

    /// One answered request.
    pub fn answered(&self, connection: u16, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.with_shard(connection, |shard| shard.latency.saturating_record(ns));
    }

    /// One failed request.
    pub fn failed(&self, connection: u16, error: &Error) {
        self.with_shard(connection, |shard| {
            shard.errors += 1;
            shard
                .first_error
                .get_or_insert_with(|| format!("{error:#}"));
        });
    }

    /// What went wrong first on one of the connections, as an example.
    pub fn first_error(&self) -> Option<String> {
        self.0.iter().find_map(|shard| {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .first_error
                .clone()
        })
    }

    fn with_shard(&self, connection: u16, change: impl FnOnce(&mut Shard)) {
        let shard = &self.0[usize::from(connection) % self.0.len()];
        change(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The sum of everything so far.
    pub fn summary(&self, connections: u16, elapsed: Duration) -> Summary {
        let mut errors = 0;
        let mut all: Option<Histogram<u64>> = None;
        for shard in &self.0 {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            errors += shard.errors;
            match &mut all {
                None => all = Some(shard.latency.clone()),
                // All histograms have the same bounds, which is all that adding asks for.
                Some(all) => drop(all.add(&shard.latency)),
            }
        }
        let quantile = |q: f64| all.as_ref().map_or(0, |all| all.value_at_quantile(q));
        let requests = all.as_ref().map_or(0, Histogram::len);
        Summary {
            connections,
            duration_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            requests,
            errors,
            rps: requests as f64 / elapsed.as_secs_f64().max(1e-9),
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            max_ns: all.as_ref().map_or(0, Histogram::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let stats = Stats::new(40).expect("stats");
        for connection in 0..40 {
            stats.answered(connection, Duration::from_millis(u64::from(connection) + 1));
        }
        stats.failed(39, &Error::msg("cut off"));
        assert_eq!(stats.first_error().as_deref(), Some("cut off"));
        let summary = stats.summary(40, Duration::from_secs(2));
        assert_eq!((summary.requests, summary.errors), (40, 1));
        assert!((summary.rps - 20.0).abs() < 0.001);
        let near = |ns: u64, ms: u64| ns.abs_diff(ms * 1_000_000) < 100_000;
        assert!(
            near(summary.p50_ns, 20) && near(summary.p99_ns, 40),
            "{summary:?}"
        );
        assert!(near(summary.max_ns, 40), "{summary:?}");
    }

    #[test]
    fn nothing_sent_is_all_zero() {
        let summary = Stats::new(1)
            .expect("stats")
            .summary(1, Duration::from_secs(1));
        assert_eq!(
            (summary.requests, summary.p99_ns, summary.max_ns),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_text_line() {
        let summary = Summary {
            requests: 7,
            p50_ns: 1_500_000,
            ..Summary::default()
        };
        assert!(
            summary
                .to_string()
                .starts_with("requests=7 errors=0 rps=0.0 p50_us=1500 ")
        );
    }
}
