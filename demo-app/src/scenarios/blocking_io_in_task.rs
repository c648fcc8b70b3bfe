//! `blocking-io-in-task`: the handler appends the event to a file and fsyncs it, right inside its
//! task. While it does, the worker thread runs no other task.

use super::{Entry, Scenario, Step};
use crate::truth::{Blocked, TimedCall};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its place in the registry.
pub const ENTRY: Entry = Entry {
    name: "blocking-io-in-task",
    summary: "the handler writes and fsyncs a file inside its async task",
    open,
};

/// The click log starts over at this size, so that a forgotten demo never fills a disk.
const MAX_LOG_BYTES: u64 = 64 << 20;

struct BlockingIo {
    log: File,
    log_bytes: AtomicU64,
    fsync: TimedCall,
}

fn open(data_dir: &Path) -> io::Result<Arc<dyn Scenario>> {
    let path = data_dir.join("clicks.log");
    let log = OpenOptions::new().create(true).append(true).open(&path)?;
    let log_bytes = AtomicU64::new(log.metadata()?.len());
    let fsync = TimedCall::new("fsync", "append_click_log", path);
    Ok(Arc::new(BlockingIo {
        log,
        log_bytes,
        fsync,
    }))
}

impl Scenario for BlockingIo {
    fn before_publish<'a>(&'a self, event: &'a [u8]) -> Step<'a> {
        // The fault: a blocking call in an async block. `spawn_blocking` would be the cure.
        Box::pin(async move { append_click_log(self, event) })
    }

    fn truth(&self) -> Option<Blocked> {
        Some(self.fsync.snapshot())
    }
}

/// Appends one line and waits for the disk. Not inlined, so that a stack names it.
#[inline(never)]
fn append_click_log(scenario: &BlockingIo, event: &[u8]) -> io::Result<()> {
    let mut line = Vec::with_capacity(event.len() + 1);
    line.extend_from_slice(event);
    line.push(b'\n');
    let before = scenario
        .log_bytes
        .fetch_add(line.len() as u64, Ordering::Relaxed);
    if before > MAX_LOG_BYTES {
        scenario.log.set_len(0)?;
        scenario.log_bytes.store(0, Ordering::Relaxed);
    }
    // One write in append mode: lines of several workers do not mix, and no lock is needed, which
    // would be a second fault.
    (&scenario.log).write_all(&line)?;
    scenario.fsync.time(|| scenario.log.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line_and_a_timed_fsync() {
        let dir = tempfile::tempdir().expect("tempdir");
        let scenario = open(dir.path()).expect("open");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            for event in [&b"{\"seq\":1}"[..], b"{\"seq\":2}"] {
                scenario.before_publish(event).await.expect("append");
            }
        });
        let log = std::fs::read_to_string(dir.path().join("clicks.log")).expect("log");
        assert_eq!(log, "{\"seq\":1}\n{\"seq\":2}\n");
        let truth = scenario.truth().expect("truth");
        assert_eq!(truth.count, 2);
        assert!(truth.total_ns > 0);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(open(&dir.path().join("gone")).is_err());
    }
}
