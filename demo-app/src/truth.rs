//! Ground truth: what a planted fault really did, measured around the blocking call itself.

use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most task ids that are remembered; past it `tasks` is a lower bound and says so.
const MAX_TASKS: usize = 65_536;
/// Most task ids that are printed in a truth line.
const MAX_PRINTED: usize = 256;

/// A call of which every execution is timed.
#[derive(Debug)]
pub struct TimedCall {
    syscall: &'static str,
    function: &'static str,
    path: PathBuf,
    count: AtomicU64,
    total_ns: AtomicU64,
    max_ns: AtomicU64,
    callers: Mutex<Callers>,
}

#[derive(Debug, Default)]
struct Callers {
    tasks: BTreeSet<u64>,
    threads: BTreeSet<i32>,
}

/// What a [`TimedCall`] has seen so far; the `blocked` part of a truth line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The system call that blocks.
    pub syscall: &'static str,
    /// The function that makes it: a stack must name it.
    pub function: &'static str,
    /// The file it is made on.
    pub path: PathBuf,
    /// Finished calls.
    pub count: u64,
    /// Time spent in them.
    pub total_ns: u64,
    /// The longest one.
    pub max_ns: u64,
    /// Distinct tokio tasks that made it.
    pub tasks: usize,
    /// Whether `tasks` is only a lower bound because too many were seen to remember them.
    pub tasks_at_least: bool,
    /// The lowest task ids, at most 256.
    pub task_ids: Vec<u64>,
    /// The threads (Linux thread ids) that made it.
    pub thread_ids: Vec<i32>,
}

impl TimedCall {
    /// Nothing seen yet.
    pub fn new(syscall: &'static str, function: &'static str, path: PathBuf) -> Self {
        Self {
            syscall,
            function,
            path,
            count: AtomicU64::new(0),
            total_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
            callers: Mutex::default(),
        }
    }

    /// Runs `call`, and nothing else, between two readings of the clock.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the caller must stay the frame that makes the call"
    )]
    pub fn time<T>(&self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = call();
        self.record(start.elapsed());
        result
    }

    fn record(&self, elapsed: Duration) {
        let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(ns, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
        // tokio shows a task id, but only as text.
        let task: Option<u64> = tokio::task::try_id().and_then(|id| id.to_string().parse().ok());
        let thread = rustix::thread::gettid().as_raw_pid();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.threads.insert(thread);
        if let Some(task) = task
            && callers.tasks.len() < MAX_TASKS
        {
            callers.tasks.insert(task);
        }
    }

    /// What was seen so far.
    pub fn snapshot(&self) -> Blocked {
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        Blocked {
            syscall: self.syscall,
            function: self.function,
            path: self.path.clone(),
            count: self.count.load(Ordering::Relaxed),
            total_ns: self.total_ns.load(Ordering::Relaxed),
            max_ns: self.max_ns.load(Ordering::Relaxed),
            tasks: callers.tasks.len(),
            tasks_at_least: callers.tasks.len() >= MAX_TASKS,
            task_ids: callers.tasks.iter().copied().take(MAX_PRINTED).collect(),
            thread_ids: callers.threads.iter().copied().collect(),
        }
    }
}

/// One truth line.
#[derive(Debug, Serialize)]
pub struct TruthLine {
    event: &'static str,
    scenario: &'static str,
    /// Since the service was ready.
    elapsed_ns: u64,
    /// Whether this is the last one.
    #[serde(rename = "final")]
    last: bool,
    /// The planted blocking; absent (null) in a healthy service.
    blocked: Option<Blocked>,
}

impl TruthLine {
    /// The line for a scenario that has run for `elapsed`.
    pub fn new(
        scenario: &'static str,
        elapsed: Duration,
        last: bool,
        blocked: Option<Blocked>,
    ) -> Self {
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        Self {
            event: "truth",
            scenario,
            elapsed_ns,
            last,
            blocked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_timed() {
        let call = TimedCall::new("fsync", "append_click_log", PathBuf::from("/x/clicks.log"));
        call.time(|| std::thread::sleep(Duration::from_millis(5)));
        assert_eq!(call.time(|| 7), 7);
        let seen = call.snapshot();
        assert_eq!(seen.count, 2);
        assert!(
            seen.total_ns >= 5_000_000 && seen.max_ns >= 5_000_000,
            "{seen:?}"
        );
        assert!(seen.max_ns <= seen.total_ns);
        assert_eq!(
            (seen.tasks, seen.thread_ids.len()),
            (0, 1),
            "no task outside of a runtime"
        );
    }

    #[test]
    fn tasks_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let call = std::sync::Arc::new(TimedCall::new("fsync", "f", PathBuf::new()));
        runtime.block_on(async {
            for _ in 0..3 {
                let call = std::sync::Arc::clone(&call);
                tokio::spawn(async move {
                    call.time(|| ());
                    call.time(|| ());
                })
                .await
                .expect("task");
            }
        });
        let seen = call.snapshot();
        assert_eq!((seen.count, seen.tasks, seen.task_ids.len()), (6, 3, 3));
    }

    #[test]
    fn the_line_has_the_documented_shape() {
        let blocked = TimedCall::new("fsync", "f", PathBuf::from("/x")).snapshot();
        let line = TruthLine::new("s", Duration::from_secs(1), true, Some(blocked));
        let json = serde_json::to_value(&line).expect("json");
        assert_eq!(json["event"], "truth");
        assert_eq!(json["final"], true);
        assert_eq!(json["blocked"]["syscall"], "fsync");
        assert_eq!(json["blocked"]["path"], "/x");
    }
}
