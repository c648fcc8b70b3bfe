//! What the functions on a stack say of a wait: whether the thread rests, and whether it waits for a lock.

use crate::model::{Frame, FrameKind};

/// Waits by design: nobody is held up by them, however long they last.
///
/// - The goroutine that waits for signals on behalf of package os/signal (Go `src/runtime/sigqueue.go`,
///   signal_recv).
/// - A thread of tokio's blocking pool without a job: the function that hands jobs out waits itself (tokio 1.20 to
///   1.49 `src/runtime/blocking/pool.rs`, `run`; 1.54 `run_worker`, there and in `sharded.rs`). A job has others of
///   tokio's functions on its stack, which poll it.
pub(super) fn rests(frames: &[Frame]) -> bool {
    if functions(frames).any(|name| name == "os/signal.signal_recv") {
        return true;
    }
    let inner = frames
        .iter()
        .filter(|frame| frame.kind != FrameKind::Kernel)
        .take_while(|frame| frame.kind == FrameKind::Runtime);
    // `loom` are its names for the standard library's or parking_lot's types.
    functions(inner)
        .map(|name| name.trim_start_matches('<'))
        .find(|name| name.starts_with("tokio::") && !name.starts_with("tokio::loom::"))
        .is_some_and(|name| {
            let plain = name.replace('>', "");
            plain.starts_with("tokio::runtime::blocking::")
                && (plain.ends_with("::run") || plain.ends_with("::run_worker"))
        })
}

/// Whether the thread runs tasks beside the one it is in: a scheduler is the innermost of tokio's own
/// functions that poll (tokio 1.23 to 1.54 `src/runtime/scheduler`, `src/task/local.rs`), and not
/// `block_on` or a job of the blocking pool. `None`: no name tells.
pub(super) fn drives_tasks(frames: &[Frame]) -> Option<bool> {
    const SCHEDULERS: [&str; 2] = ["tokio::runtime::scheduler::", "tokio::task::local::"];
    const ALONE: [&str; 2] = [
        "tokio::runtime::park::CachedParkThread",
        "tokio::runtime::blocking::",
    ];
    let of = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
    functions(frames)
        .find(|name| of(name, &SCHEDULERS) || of(name, &ALONE))
        .map(|name| of(name, &SCHEDULERS))
}

/// Parts of the names of functions that wait until another thread says something: whoever ends such
/// a wait sent, signalled or finished, and held nothing.
const SIGNALLED: &[&str] = &[
    "pthread_cond_",
    "pthread_barrier_",
    "pthread_clockjoin",
    "pthread_join",
    "pthread_timedjoin",
    "sem_wait",
    "sem_timedwait",
    "sem_clockwait",
    "::Condvar",
    "condvar::",
    "::mpsc::",
    "::mpmc::",
    "::oneshot::",
    "crossbeam_channel::",
    "flume::",
    "barrier::Barrier",
    "JoinInner",
    "JoinHandle",
    "thread::park",
    "::park_timeout",
    "Parker",
    "CachedParkThread",
];

/// Whether the wait may be for a lock, as far as the functions between it and the application tell.
pub(super) fn may_be_lock(frames: &[Frame]) -> bool {
    let inner = frames
        .iter()
        .filter(|frame| frame.kind != FrameKind::Kernel)
        .take_while(|frame| frame.kind == FrameKind::Runtime);
    !functions(inner).any(|name| {
        // parking_lot parks threads for its locks too: its condition says so by its own name.
        !name.contains("parking_lot_core::") && SIGNALLED.iter().any(|part| name.contains(part))
    })
}

fn functions<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> impl Iterator<Item = &'a str> {
    frames
        .into_iter()
        .filter_map(|frame| frame.function.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| {
            let kind = match name.split_once(' ') {
                Some(("user", _)) => FrameKind::User,
                Some(("kernel", _)) => FrameKind::Kernel,
                _ => FrameKind::Runtime,
            };
            let plain = name.strip_prefix("user ").unwrap_or(name);
            Frame {
                address: 1,
                function: Some(plain.strip_prefix("kernel ").unwrap_or(plain).into()),
                file: None,
                line: None,
                module: None,
                module_offset: None,
                kind,
                unknown_reason: None,
            }
        };
        functions.iter().map(frame).collect()
    }

    #[test]
    fn a_thread_of_the_blocking_pool_without_a_job_rests_and_one_with_a_job_does_not() {
        for run in [
            "tokio::runtime::blocking::pool::Inner::run",
            "<tokio::runtime::blocking::pool::Inner>::run",
            "tokio::runtime::blocking::pool::LockedImpl::run_worker",
            "tokio::runtime::blocking::sharded::ShardedImpl::run_worker",
        ] {
            let idle = stack(&[
                "kernel futex_do_wait",
                "syscall",
                "parking_lot::condvar::Condvar::wait_until_internal",
                "tokio::loom::std::parking_lot::Condvar::wait_timeout",
                run,
                "std::sys::backtrace::__rust_begin_short_backtrace",
                "start_thread",
            ]);
            assert!(rests(&idle), "{run}");
            let job = stack(&[
                "kernel futex_do_wait",
                "syscall",
                "std::sync::mpsc::Receiver<T>::recv",
                "tokio::runtime::blocking::task::BlockingTask<T>::poll",
                "tokio::runtime::task::harness::poll_future",
                run,
                "start_thread",
            ]);
            assert!(!rests(&job), "{run}");
            let named = stack(&["syscall", "user app::job", run, "start_thread"]);
            assert!(!rests(&named), "{run}");
        }
        assert!(rests(&stack(&[
            "runtime.futex",
            "os/signal.signal_recv",
            "os/signal.loop"
        ])));
        assert!(!rests(&[]));
    }

    #[test]
    fn a_scheduler_drives_tasks_and_block_on_in_a_job_does_not() {
        let worker = [
            "std::thread::functions::sleep",
            "user app::handler::{{closure}}",
            "tokio::runtime::task::harness::poll_future",
            "tokio::runtime::scheduler::multi_thread::worker::Context::run_task",
            "<tokio::runtime::blocking::task::BlockingTask<T> as core::future::future::Future>::poll",
        ];
        assert_eq!(drives_tasks(&stack(&worker)), Some(true));
        let current_thread = [
            "user app::root::{{closure}}",
            "tokio::runtime::scheduler::current_thread::CoreGuard::block_on",
            "tokio::runtime::blocking::pool::Inner::run",
        ];
        assert_eq!(drives_tasks(&stack(&current_thread)), Some(true));
        let job = [
            "user app::job::{{closure}}",
            "tokio::runtime::park::CachedParkThread::block_on",
            "tokio::runtime::handle::Handle::block_on",
            "<tokio::runtime::blocking::task::BlockingTask<T> as core::future::future::Future>::poll",
        ];
        assert_eq!(drives_tasks(&stack(&job)), Some(false));
        assert_eq!(drives_tasks(&stack(&["user app::main"])), None);
    }

    #[test]
    fn conditions_channels_and_joins_are_no_locks() {
        let lock = ["syscall", "std::sync::poison::mutex::Mutex<T>::lock"];
        assert!(may_be_lock(&stack(&lock)));
        let parked = [
            "syscall",
            "parking_lot_core::thread_parker::imp::ThreadParker::futex_wait",
            "<parking_lot_core::thread_parker::imp::ThreadParker as parking_lot_core::thread_parker::ThreadParkerT>::park_until",
            "parking_lot::raw_mutex::RawMutex::lock_slow",
            "user app::wants_it",
        ];
        assert!(may_be_lock(&stack(&parked)));
        // What the application's own functions are called does not matter.
        assert!(may_be_lock(&stack(&[
            "___pthread_mutex_lock",
            "user app::mpsc::lock"
        ])));
        for signalled in [
            "___pthread_cond_wait",
            "__new_sem_wait",
            "std::sync::mpsc::Receiver<T>::recv",
            "std::sync::poison::condvar::Condvar::wait",
            "parking_lot::condvar::Condvar::wait_until_internal",
            "std::thread::JoinInner<T>::join",
            "std::thread::park",
        ] {
            let stack = stack(&["kernel do_futex", "syscall", signalled, "user app::main"]);
            assert!(!may_be_lock(&stack), "{signalled}");
        }
    }
}
