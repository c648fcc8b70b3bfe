//! The tier `syscalls`: what it costs everyone, collecting its sums, and what becomes of them.

use std::collections::BTreeMap;
use std::time::Instant;

use observer_common::counters::{COUNTERS, Counter};

use super::naming::SessionNames;
use super::session::Session;
use super::state::State;
use crate::aggregate::calls::{CallLedger, Words};
use crate::decode;
use crate::model::calls::{SyscallCost, Syscalls};
use crate::model::{Mono, Pid, Tid};
use crate::probes::attach::{AttachError, Kernel};
use crate::probes::syscalls::SyscallMaps;
use crate::sys::names;

/// Calls per measurement of the cost, and measurements: the median of some, one may be disturbed.
const CALLS: u32 = 20_000;
/// See `CALLS`.
const ROUNDS: usize = 5;

/// The running tier.
#[derive(Debug)]
pub struct SyscallTier {
    maps: SyscallMaps,
    ledger: CallLedger,
    without_ns: f64,
    cost: Option<SyscallCost>,
}

/// What the tier found.
#[derive(Debug)]
pub struct SyscallsSeen {
    pub ledger: CallLedger,
    cost: Option<SyscallCost>,
}

/// What a trivial system call takes now, in nanoseconds.
fn trivial_call() -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                // SAFETY: no arguments, no effects.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

impl SyscallTier {
    /// Before the probes are attached.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn prepare(kernel: &mut Kernel) -> Result<Self, AttachError> {
        Ok(Self {
            maps: SyscallMaps::take(kernel)?,
            ledger: CallLedger::default(),
            without_ns: trivial_call(),
            cost: None,
        })
    }

    /// After the probes are attached: says what they cost.
    pub fn attached(&mut self) {
        let cost = SyscallCost {
            without_ns: self.without_ns,
            with_ns: trivial_call(),
        };
        tracing::info!(
            "tier syscalls: while it runs every system call on this host, of any process, takes about {:.0} ns longer (getppid: {:.0} ns without, {:.0} ns with; measured now)",
            (cost.with_ns - cost.without_ns).max(0.0),
            cost.without_ns,
            cost.with_ns
        );
        self.cost = Some(cost);
    }

    /// Takes sums of generations before `epoch` out of the kernel.
    pub fn collect(&mut self, epoch: u32, state: &mut State, kernel: &crate::probes::maps::Maps) {
        let Self { maps, ledger, .. } = self;
        maps.drain_calls(epoch, |key, sum| {
            ledger.add_calls(decode::syscall::call(key), &decode::wait::tally(sum));
        });
        maps.drain_net(epoch, |key, sum| {
            let key = decode::syscall::net(key);
            state.want_descriptors(key.pid, vec![key.fd]);
            if let Some(id) = key.user_stack {
                state.stacks.fetch(Some(key.pid), id, kernel);
            }
            ledger.add_net(key, &decode::wait::tally(sum));
        });
    }

    /// Forgets what a process did.
    pub fn forget(&mut self, pid: Pid) {
        self.ledger.forget(pid);
    }

    /// The end of the window: what is open is added.
    pub fn finish(
        mut self,
        now: Mono,
        state: &mut State,
        kernel: &crate::probes::maps::Maps,
    ) -> SyscallsSeen {
        self.collect(u32::MAX, state, kernel);
        let net: Vec<_> = self
            .maps
            .net_open()
            .map(|(key, open)| decode::syscall::open_net(&key, &open))
            .collect();
        for open in &net {
            state.fds.resolve_now(open.key.pid, open.key.fd);
            if let Some(id) = open.key.user_stack {
                state.stacks.fetch(Some(open.key.pid), id, kernel);
            }
        }
        let calls = self
            .maps
            .open()
            .map(|(tid, open)| decode::syscall::open_call(Tid(tid), &open));
        self.ledger.add_open(calls, net.into_iter(), now);
        SyscallsSeen {
            ledger: self.ledger,
            cost: self.cost,
        }
    }
}

impl Session {
    /// Collects the tier's sums, when it runs.
    pub(super) fn collect_syscalls(&mut self, epoch: u32) {
        if let Some(tier) = &mut self.syscalls {
            tier.collect(epoch, &mut self.state, &self.maps);
        }
    }
}

/// The tier's part of the report.
pub fn view(
    seen: &SyscallsSeen,
    counters: &[u64; COUNTERS as usize],
    names: &SessionNames<'_>,
) -> Syscalls {
    const WORDS: Words = Words {
        syscall: names::syscall,
        errno: names::errno,
    };
    let counter = |c: Counter| counters[c as usize];
    let mut lost = BTreeMap::new();
    for (reason, c) in [
        ("thread_map_full", Counter::LostSyscallThread),
        ("aggregate_map_full", Counter::LostSyscallSum),
        ("net_wait_map_full", Counter::LostNetWait),
    ] {
        if counter(c) > 0 {
            lost.insert(reason, counter(c));
        }
    }
    Syscalls {
        calls: seen.ledger.calls(names, WORDS),
        net_waits: seen.ledger.net_waits(names, WORDS),
        entered: counter(Counter::SyscallsEntered),
        summed: counter(Counter::SyscallsSummed),
        unfinished: seen.ledger.unfinished(),
        ended: counter(Counter::SyscallsEnded),
        before: counter(Counter::SyscallsBefore),
        folded: counter(Counter::FoldedSyscalls),
        net_waits_untimed: counter(Counter::NetWaitsUntimed),
        lost,
        cost: seen.cost,
    }
}
