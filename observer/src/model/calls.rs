//! System calls one by one, and the waits for the network that they show (tier `syscalls`): the seam
//! between `decode` and the stages after it.

use std::collections::BTreeMap;

use super::event::Identity;
use super::ids::{Pid, Tid};
use super::known::Known;
use super::resource::Resource;
use super::stack::Frame;
use super::time::Mono;
use super::view::{TaskShare, Unfinished};

/// What system calls are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// The process.
    pub pid: Pid,
    /// Who called.
    pub identity: Identity,
    /// x86-64 number.
    pub nr: u32,
    /// The error that was returned; 0: it succeeded.
    pub errno: u32,
}

/// What waits for the network are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetKey {
    /// The process.
    pub pid: Pid,
    /// Who waited.
    pub identity: Identity,
    /// The descriptor that was not ready.
    pub fd: i32,
    /// The system call that said so.
    pub nr: u32,
    /// Id of the user stack in the kernel's stack map.
    pub user_stack: Option<u32>,
}

/// A descriptor that was not ready and has not been tried again.
#[derive(Debug, Clone, Copy)]
pub struct OpenNet {
    /// What it will be summed by.
    pub key: NetKey,
    /// Since when.
    pub start: Mono,
}

/// A system call that has not returned.
#[derive(Debug, Clone, Copy)]
pub struct OpenCall {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// x86-64 number.
    pub nr: u32,
    /// Since when.
    pub start: Mono,
}

/// What the tier `syscalls` saw.
#[derive(Debug, Clone)]
pub struct Syscalls {
    /// By system call, most time first.
    pub calls: Vec<CallRow>,
    /// Waits for the network, most time first.
    pub net_waits: Vec<NetWait>,
    /// Calls that were entered.
    pub entered: u64,
    /// Of those, calls that returned and are in the sums.
    pub summed: u64,
    /// Of those, calls that had not returned.
    pub unfinished: u64,
    /// Calls of threads that ended in them (exit).
    pub ended: u64,
    /// Calls that had begun before the observation and are not in the sums.
    pub before: u64,
    /// Calls whose task was folded into "other tasks" for want of room.
    pub folded: u64,
    /// Waits for the network whose end was not seen; not in `net_waits`.
    pub net_waits_untimed: u64,
    /// Calls and waits that were lost, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// What a system call of any process costs without and with the tier, in nanoseconds; measured
    /// when the tier started.
    pub cost: Option<SyscallCost>,
}

/// What a trivial system call takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyscallCost {
    /// Without the tier, in nanoseconds.
    pub without_ns: f64,
    /// With it.
    pub with_ns: f64,
}

/// One system call of one target.
#[derive(Debug, Clone)]
pub struct CallRow {
    /// Index into `view::View::targets`.
    pub target: usize,
    /// Its name.
    pub syscall: String,
    /// Calls by tasks.
    pub count: u64,
    /// Calls that failed, by error; those of idle threads too.
    pub errors: BTreeMap<String, u64>,
    /// Time in calls by tasks.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Calls by idle runtime threads, which are not in the figures above.
    pub idle_count: u64,
    /// Time in these.
    pub idle_ns: u64,
    /// Calls that had not returned; not in the figures above.
    pub unfinished: Unfinished,
    /// Which tasks, most time first; bounded.
    pub tasks: Vec<TaskShare>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
}

/// Waits from "not ready" until the same task tried the same descriptor again.
#[derive(Debug, Clone)]
pub struct NetWait {
    /// Index into `view::View::targets`.
    pub target: usize,
    /// The system call that found the descriptor not ready.
    pub syscall: String,
    /// On what: what its descriptors have in common.
    pub resource: Option<Resource>,
    /// How many descriptors.
    pub descriptors: u64,
    /// Nearest user frame that is not runtime or standard library.
    pub site: Known<Frame>,
    /// Waits, those not ended included.
    pub count: u64,
    /// Their total, up to the end of the window.
    pub total_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Descriptors that were not tried again.
    pub unfinished: Unfinished,
    /// Which tasks, most time first; bounded.
    pub tasks: Vec<TaskShare>,
    /// How many different tasks there were in all.
    pub tasks_total: u64,
}
