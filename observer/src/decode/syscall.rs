//! System calls and waits for the network.

use observer_common::events::syscall as wire;
use observer_common::task::{TASK_FOLDED, Task};

use super::wait::identity;
use crate::model::calls::{CallKey, NetKey, OpenCall, OpenNet};
use crate::model::event::Identity;
use crate::model::{Mono, Pid, Tid};

fn caller(task: &Task) -> Identity {
    match identity(task) {
        Identity::Task(_) if task.flags & TASK_FOLDED != 0 => Identity::Folded,
        identity => identity,
    }
}

/// What calls are summed by.
pub fn call(key: &wire::SyscallKey) -> CallKey {
    CallKey {
        pid: Pid(key.tgid),
        identity: caller(&key.task),
        nr: key.nr as u32,
        errno: key.errno,
    }
}

/// What waits for the network are summed by.
pub fn net(key: &wire::NetKey) -> NetKey {
    NetKey {
        pid: Pid(key.tgid),
        identity: caller(&key.task),
        fd: key.fd,
        nr: key.nr as u32,
        user_stack: u32::try_from(key.user_stack).ok(),
    }
}

/// A descriptor that is not ready.
pub fn open_net(key: &wire::NetOpenKey, open: &wire::NetOpen) -> OpenNet {
    OpenNet {
        key: NetKey {
            pid: Pid(key.tgid),
            identity: caller(&open.task),
            fd: key.fd,
            nr: open.nr as u32,
            user_stack: u32::try_from(open.user_stack).ok(),
        },
        start: Mono(open.start),
    }
}

/// A call that has not returned.
pub fn open_call(tid: Tid, open: &wire::SyscallOpen) -> OpenCall {
    OpenCall {
        pid: Pid(open.tgid),
        tid,
        nr: open.nr as u32,
        start: Mono(open.start),
    }
}
