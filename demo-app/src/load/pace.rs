//! Sending at a fixed rate.

use std::time::Duration;
use tokio::time::Instant;

/// The send times of one connection: its share of a schedule that all connections take turns in.
#[derive(Debug)]
pub struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    /// The schedule of connection `index` of `connections`, `rate` requests a second in all.
    pub fn new(start: Instant, index: u16, connections: u16, rate: u32) -> Self {
        let share = |slots: u16| Duration::from_secs_f64(f64::from(slots) / f64::from(rate));
        Self {
            next: start + share(index),
            step: share(connections),
        }
    }

    /// The next send time. It does not move when an answer is late, so that latency counts from
    /// the moment a request was due and a stalled service is not measured less often.
    pub fn due(&mut self) -> Instant {
        let due = self.next;
        self.next += self.step;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns() {
        let start = Instant::now();
        let mut due: Vec<Duration> = Vec::new();
        for index in 0..4 {
            let mut pace = Pace::new(start, index, 4, 8);
            due.extend([pace.due() - start, pace.due() - start]);
        }
        due.sort();
        let expected: Vec<_> = (0..8)
            .map(|slot| Duration::from_millis(slot * 125))
            .collect();
        assert_eq!(due, expected);
    }
}
