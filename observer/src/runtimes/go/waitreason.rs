//! Wait reasons: the numbers differ by version, the texts mean the same.
//!
//! Source: `src/runtime/runtime2.go` of Go 1.18.10, 1.19.8, 1.20.14, 1.21.13, 1.22.10, 1.23.9, 1.24.11,
//! 1.25.5, 1.26.6 and 1.27.3, read by a script. 1.18 has 1.19's list; that of 1.20 is the beginning of 1.21's.

use crate::model::Cause;
use crate::model::census::{Direction, WaitKind};

const V19: &[&str] = &[
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "timer goroutine (idle)",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "preempted",
    "debug call",
];

const V21: &[&str] = &[
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
];

const V24: &[&str] = &[
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (synctest)",
    "chan send (synctest)",
    "select (synctest)",
];

const V25: &[&str] = &[
    "",
    "GC assist marking",
    "IO wait",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "select",
    "select (no cases)",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "chan receive",
    "chan send",
    "finalizer wait",
    "force gc (idle)",
    "GOMAXPROCS updater (idle)",
    "semacquire",
    "sleep",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (durable)",
    "chan send (durable)",
    "select (durable)",
    "sync.WaitGroup.Wait (durable)",
    "cleanup wait",
];

const V26: &[&str] = &[
    "",
    "GC assist marking",
    "IO wait",
    "dumping heap",
    "garbage collection",
    "garbage collection scan",
    "panicwait",
    "GC assist wait",
    "GC sweep wait",
    "GC scavenge wait",
    "finalizer wait",
    "force gc (idle)",
    "GOMAXPROCS updater (idle)",
    "semacquire",
    "sleep",
    "chan receive (nil chan)",
    "chan send (nil chan)",
    "select (no cases)",
    "select",
    "chan receive",
    "chan send",
    "sync.Cond.Wait",
    "sync.Mutex.Lock",
    "sync.RWMutex.RLock",
    "sync.RWMutex.Lock",
    "sync.WaitGroup.Wait",
    "trace reader (blocked)",
    "wait for GC cycle",
    "GC worker (idle)",
    "GC worker (active)",
    "preempted",
    "debug call",
    "GC mark termination",
    "stopping the world",
    "flushing proc caches",
    "trace goroutine status",
    "trace proc status",
    "page trace flush",
    "coroutine",
    "GC weak to strong wait",
    "synctest.Run",
    "synctest.Wait",
    "chan receive (durable)",
    "chan send (durable)",
    "select (durable)",
    "sync.WaitGroup.Wait (durable)",
    "cleanup wait",
];

/// A wait reason, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitReason {
    /// The runtime's text.
    pub text: &'static str,
    /// In the common vocabulary.
    pub cause: Cause,
    /// Parked and unable to go on. Not so for reasons that a goroutine carries while it works on
    /// the system stack, nor for the runtime's own resting goroutines.
    pub is_blocking: bool,
    /// What it waits on, when that can be found.
    pub waits_on: Option<WaitKind>,
    /// Which way, when the reason says so.
    pub direction: Option<Direction>,
}

fn texts(minor: u32) -> &'static [&'static str] {
    match minor {
        18 | 19 => V19,
        // 1.21 ends with `stopping the world`, 1.22 with `coroutine`.
        20 | 21 => &V21[..32],
        22 => &V21[..37],
        23 => V21,
        24 => V24,
        25 => V25,
        26 | 27 => V26,
        _ => &[],
    }
}

/// Whether the numbers of Go 1.`minor` are known.
pub fn knows(minor: u32) -> bool {
    !texts(minor).is_empty()
}

/// The meaning of `g.waitreason` in Go 1.`minor`; `None` for numbers that the version lacks.
pub fn lookup(minor: u32, number: u8) -> Option<WaitReason> {
    let text = *texts(minor).get(usize::from(number))?;
    (!text.is_empty()).then(|| classify(text))
}

/// The meaning of a wait reason's text, as a goroutine dump or a trace has it.
pub fn classify(text: &'static str) -> WaitReason {
    use Direction::{Receive, Send};
    let plain = text
        .strip_suffix(" (durable)")
        .or(text.strip_suffix(" (synctest)"))
        .unwrap_or(text);
    let (cause, waits_on, direction) = match plain {
        "IO wait" => (Cause::NetWait, Some(WaitKind::Descriptor), None),
        "chan receive" => (Cause::Channel, Some(WaitKind::Channel), Some(Receive)),
        "chan send" => (Cause::Channel, Some(WaitKind::Channel), Some(Send)),
        "chan receive (nil chan)" => (Cause::Channel, None, Some(Receive)),
        "chan send (nil chan)" => (Cause::Channel, None, Some(Send)),
        "select" => (Cause::Select, Some(WaitKind::Channel), None),
        "select (no cases)" => (Cause::Select, None, None),
        "semacquire" => (Cause::Mutex, Some(WaitKind::Semaphore), None),
        "sync.Mutex.Lock" => (Cause::Mutex, Some(WaitKind::Mutex), None),
        "sync.RWMutex.RLock" => (Cause::Mutex, Some(WaitKind::RwMutex), Some(Receive)),
        "sync.RWMutex.Lock" => (Cause::Mutex, Some(WaitKind::RwMutex), Some(Send)),
        "sync.WaitGroup.Wait" => (Cause::WaitGroup, Some(WaitKind::WaitGroup), None),
        "sync.Cond.Wait" => (Cause::Condition, Some(WaitKind::Condition), None),
        "sleep" => (Cause::Sleep, Some(WaitKind::Timer), None),
        "GC assist wait"
        | "wait for GC cycle"
        | "GC weak to strong wait"
        | "GC assist marking"
        | "garbage collection"
        | "garbage collection scan"
        | "GC mark termination"
        | "stopping the world"
        | "GC worker (active)"
        | "flushing proc caches" => (Cause::Gc, None, None),
        "GC sweep wait"
        | "GC scavenge wait"
        | "finalizer wait"
        | "cleanup wait"
        | "force gc (idle)"
        | "GOMAXPROCS updater (idle)"
        | "GC worker (idle)"
        | "timer goroutine (idle)"
        | "trace reader (blocked)" => (Cause::Idle, None, None),
        _ => (Cause::Other, None, None),
    };
    WaitReason {
        text,
        cause,
        is_blocking: cause != Cause::Idle && !on_system_stack(plain),
        waits_on,
        direction,
    }
}

/// `isWaitingForSuspendG` of Go 1.23 to 1.27: the goroutine is marked as waiting but works on.
fn on_system_stack(text: &str) -> bool {
    matches!(
        text,
        "stopping the world"
            | "GC mark termination"
            | "garbage collection"
            | "garbage collection scan"
            | "trace goroutine status"
            | "trace proc status"
            | "page trace flush"
            | "GC assist marking"
            | "GC worker (active)"
            | "flushing proc caches"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_each_version_says() {
        let check = |minor, number, text: Option<&str>| {
            assert_eq!(
                lookup(minor, number).map(|r| r.text),
                text,
                "1.{minor} {number}"
            );
        };
        for minor in 18..=27 {
            check(minor, 0, None);
            check(minor, 2, Some("IO wait"));
        }
        check(19, 21, Some("timer goroutine (idle)"));
        check(21, 21, Some("sync.Mutex.Lock"));
        check(21, 31, Some("stopping the world"));
        check(21, 32, None);
        check(22, 36, Some("coroutine"));
        check(22, 37, None);
        check(23, 37, Some("GC weak to strong wait"));
        check(24, 24, Some("sync.WaitGroup.Wait"));
        check(24, 43, Some("select (synctest)"));
        check(25, 19, Some("semacquire"));
        check(25, 46, Some("cleanup wait"));
        check(26, 18, Some("select"));
        check(27, 20, Some("chan send"));
        check(27, 47, None);
        check(28, 2, None);
    }

    #[test]
    fn work_on_the_system_stack_and_rest_are_not_blocking() {
        for text in [
            "stopping the world",
            "GC assist marking",
            "GC worker (idle)",
            "finalizer wait",
        ] {
            assert!(!classify(text).is_blocking, "{text}");
        }
        for text in [
            "chan send (durable)",
            "IO wait",
            "sleep",
            "GC assist wait",
            "semacquire",
        ] {
            assert!(classify(text).is_blocking, "{text}");
        }
        assert_eq!(classify("select (durable)").cause, Cause::Select);
    }
}
