//! The click event: what is published for every redirect.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// One resolved link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Click {
    /// The code that was resolved; also the key of the Kafka record.
    pub code: String,
    /// Where it led.
    pub url: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Number of the click in this process, from 1: a consumer sees what is missing.
    pub seq: u64,
}

/// Numbers the clicks of one process.
#[derive(Debug, Default)]
pub struct Sequence(AtomicU64);

impl Sequence {
    /// The event for a link that was resolved just now.
    pub fn click(&self, code: &str, url: &str) -> Click {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Click {
            code: code.to_owned(),
            url: url.to_owned(),
            at_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            seq: self.0.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_are_numbered_from_one() {
        let sequence = Sequence::default();
        assert_eq!(sequence.click("a", "http://x/").seq, 1);
        assert_eq!(sequence.click("a", "http://x/").seq, 2);
    }
}
