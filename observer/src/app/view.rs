//! From what a session has found to the view that is exported.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use observer_common::counters::Counter;

use super::census_names::TargetNames;
use super::finish::{Ended, Observed};
use super::naming::SessionNames;
use super::poll_view::PollView;
use crate::aggregate::cpu::CpuStack;
use crate::aggregate::{census, cpu_rollup, rollup, transitions};
use crate::correlate::{doings, wait_graph};
use crate::model::connection::Users;
use crate::model::meeting::Meeting;
use crate::model::names::Names as _;
use crate::model::stacks::StackId;
use crate::model::transitions::Followed;
use crate::model::view::{
    CensusCost, CensusGroup, Completeness, Host, ObserverInfo, Overhead, Scheduler, Target,
    TaskCounts, View, Window,
};
use crate::model::{Known, Pid};
use crate::resolve::resources::FdTable;
use crate::runtimes::RuntimeKind;
use crate::sys::kernel::KernelFacts;
use crate::sys::usage;

/// Stacks that are symbolized for one report at most: those with the most time.
const MAX_STACKS: usize = 4096;

/// The machine.
pub fn host(facts: &KernelFacts) -> Host {
    Host {
        kernel: facts.release.clone(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: usage::cpus(),
    }
}

/// Names the stacks of a session, the most important ones first, and rolls everything up.
pub fn view(mut observed: Observed, facts: &KernelFacts, tier: &str) -> View {
    name_stacks(&mut observed);
    let mut fds = std::mem::take(&mut observed.fds);
    let mut finders = std::mem::take(&mut observed.finders);
    let names = SessionNames::new(
        &observed.targets,
        (&observed.stacks, &observed.paths),
        &mut fds,
        &mut finders,
    );
    let mut rollup = rollup::roll_up(&observed.ledger, &names);
    let clock = observed.cpu_hz.map(|hz| cpu_rollup::Clock {
        hz,
        window_ns: observed.window.2.as_nanos() as u64,
    });
    let cpu = clock.map(|clock| {
        rollup.extend(cpu_rollup::long_polls(&observed.cpu, &names, clock));
        cpu_rollup::cpu(&observed.cpu, &names, clock)
    });
    let pids = observed.targets.iter().map(|t| t.process.id.pid).collect();
    let polls = PollView::new(
        &observed.polls,
        &observed.followed_polls,
        pids,
        observed.began,
    );
    let (victims, victims_total) = polls.victims();
    let syscalls = observed
        .syscalls
        .as_ref()
        .map(|seen| super::syscalls::view(seen, &observed.counters, &names));
    let transitions = observed
        .followed
        .iter()
        .filter_map(|followed| {
            let target = names.target(followed.pid)?;
            Some(transitions::roll_up(
                followed,
                target,
                observed.began,
                &names,
            ))
        })
        .collect();
    let mut censuses = censuses(&observed, &mut fds);
    let pids: Vec<Pid> = observed.targets.iter().map(|t| t.process.id.pid).collect();
    let mut connections =
        super::peers::connections(&observed.pairs, &pids, &censuses.users, &mut fds);
    let window_ns = observed.window.2.as_nanos() as u64;
    doings::join(&mut censuses.meetings, &rollup.blocking, window_ns);
    doings::join_servers(&mut connections, &rollup.blocking, window_ns);
    doings::lead_on(
        &mut censuses.meetings,
        &mut connections,
        &mut censuses.groups,
    );
    let wait_graph = wait_graph::build(&wait_graph::Facts {
        meetings: &censuses.meetings,
        connections: &connections,
        groups: &censuses.groups,
        blocking: &rollup.blocking,
        targets: &named(&observed.targets),
    });
    let completeness = completeness(&observed, &rollup);
    let overhead = overhead(&observed);
    let mut notes = observed.notes.clone();
    if observed.ended == Ended::Interrupted {
        notes.push("ended early: interrupted by the user".to_owned());
    }
    if observed.targets.len() > 1 {
        notes.extend(doings::left_out(&censuses.meetings, &connections));
    }
    let targets = observed
        .targets
        .iter()
        .enumerate()
        .map(|(index, target)| Target {
            pid: target.process.id.pid.0,
            start_time: target.process.id.start.0,
            exe: target.process.exe.display().to_string(),
            comm: target.process.comm.clone(),
            runtime: target.runtime.as_str(),
            version: target.image.as_ref().map_or_else(
                || Known::unknown("native programs have no runtime version"),
                |image| image.version(),
            ),
            evidence: target
                .image
                .as_ref()
                .map(|image| image.evidence())
                .unwrap_or_default(),
            degraded: (target.runtime != RuntimeKind::Native || target.degraded().is_some())
                .then(|| target.degraded())
                .flatten(),
            threads: target.threads,
            threads_at_start: target.threads_at_start,
            threads_max: target.threads_max,
            tasks: TaskCounts {
                seen: censuses
                    .counts
                    .get(&index)
                    .map_or(0, |counts| counts.seen)
                    .max(rollup.tasks_seen.get(&index).copied().unwrap_or(0)),
                ..censuses.counts.get(&index).copied().unwrap_or_default()
            },
            scheduler: censuses.schedulers.get(&index).cloned(),
            ended: target.ended.clone(),
        })
        .collect();
    View {
        generated_at: SystemTime::now(),
        window: Window {
            start: observed.window.0,
            end: observed.window.1,
            duration_ns: observed.window.2.as_nanos() as u64,
        },
        host: host(facts),
        observer: ObserverInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bytecode_sha256: observed.object_sha256.clone(),
            tier: tier.to_owned(),
        },
        targets,
        blocking: rollup.blocking,
        causes: rollup.causes,
        cpu,
        workers: observed
            .targets
            .iter()
            .enumerate()
            .flat_map(|(index, target)| {
                let (workers, held) = &observed.workers;
                workers.groups(index, target, held)
            })
            .collect(),
        followed: polls.followed(),
        victims,
        victims_total,
        census: censuses.groups,
        meetings: censuses.meetings,
        connections,
        wait_graph,
        syscalls,
        transitions,
        completeness,
        overhead,
        notes,
    }
}

/// What the censuses of all targets say.
#[derive(Debug, Default)]
struct Censuses {
    groups: Vec<CensusGroup>,
    meetings: Vec<Meeting>,
    users: HashMap<Pid, Vec<Users>>,
    counts: HashMap<usize, TaskCounts>,
    schedulers: HashMap<usize, Scheduler>,
}

fn censuses(observed: &Observed, fds: &mut FdTable) -> Censuses {
    let pids: Vec<Pid> = observed
        .targets
        .iter()
        .map(|target| target.process.id.pid)
        .collect();
    let mut out = Censuses::default();
    for (index, pid) in pids.iter().enumerate() {
        let Some(sampled) = observed.censuses.get(pid) else {
            continue;
        };
        if sampled.ledger.samples() == 0 {
            continue;
        }
        let names = TargetNames::new(
            *pid,
            &pids,
            observed.stacks.symbolizer(),
            fds,
            sampled.census.as_ref(),
        );
        let rollup = census::rollup::roll_up(&sampled.ledger, index, &names);
        out.groups.extend(rollup.groups);
        out.meetings.extend(rollup.meetings);
        out.users.insert(*pid, rollup.connections);
        out.counts.insert(index, rollup.counts);
        out.schedulers.insert(index, rollup.scheduler);
    }
    let waiting = |meeting: &Meeting| meeting.sides.first().map_or(0.0, |side| side.mean);
    out.meetings
        .sort_by(|a, b| waiting(b).total_cmp(&waiting(a)));
    out
}

fn named(targets: &[super::target::Target]) -> Vec<wait_graph::Named> {
    targets
        .iter()
        .map(|target| wait_graph::Named {
            name: format!("{} (pid {})", target.process.comm, target.process.id.pid),
            noun: match target.runtime {
                RuntimeKind::Go => "goroutine",
                RuntimeKind::Tokio | RuntimeKind::Native => "task",
            },
        })
        .collect()
}

fn census_cost(observed: &Observed) -> Option<CensusCost> {
    let ledgers = || observed.censuses.values().map(|sampled| &sampled.ledger);
    let samples: u64 = ledgers().map(census::CensusLedger::samples).sum();
    (samples > 0).then(|| CensusCost {
        samples,
        bytes_read: ledgers().map(|l| l.cost().bytes_read).sum(),
        torn: ledgers().map(|l| l.cost().torn).sum(),
        max_ns: ledgers().map(|l| l.cost().max_ns).max().unwrap_or(0),
        cpu_ns: ledgers().map(|l| l.cost().cpu_ns).sum(),
    })
}

fn name_stacks(observed: &mut Observed) {
    let mut by_time: std::collections::HashMap<StackId, u64> = std::collections::HashMap::new();
    for (key, row) in observed.ledger.rows() {
        if let Some(id) = key.user_stack
            && let Some(stack) = observed.stacks.kernel_side(Some(key.pid), id)
        {
            *by_time.entry(stack).or_default() += row.tally.total_ns;
        }
        for (stack, tally) in &row.unwound {
            *by_time.entry(*stack).or_default() += tally.total_ns;
        }
        let samples = [
            observed.ledger.samples(key),
            observed.ledger.samples_of_all_tasks(key),
        ];
        for stack in samples.into_iter().flatten().flat_map(|s| s.user.keys()) {
            *by_time.entry(*stack).or_default() += 1;
        }
    }
    if let Some(seen) = &observed.syscalls {
        for (pid, id, ns) in seen.ledger.stacks() {
            if let Some(stack) = observed.stacks.kernel_side(Some(pid), id) {
                *by_time.entry(stack).or_default() += ns;
            }
        }
    }
    for id in observed.ledger.kernel_stacks() {
        if let Some(stack) = observed.stacks.kernel_side(None, id) {
            by_time.entry(stack).or_default();
        }
    }
    for (pid, id) in observed.ledger.waker_stacks() {
        if let Some(stack) = observed.stacks.kernel_side(Some(pid), id) {
            by_time.entry(stack).or_default();
        }
    }
    let tick_ns = 1_000_000_000 / u64::from(observed.cpu_hz.unwrap_or(1).max(1));
    for ((pid, stack), samples) in cpu_rollup::stacks(&observed.cpu) {
        let stack = match stack {
            CpuStack::Own(stack) => Some(stack),
            CpuStack::Kernel(id) => observed.stacks.running(pid, id),
        };
        if let Some(stack) = stack {
            *by_time.entry(stack).or_default() += samples * tick_ns;
        }
    }
    for (stack, weight) in observed.followed.iter().flat_map(Followed::stacks) {
        *by_time.entry(stack).or_default() += weight;
    }
    let mut order: Vec<(StackId, u64)> = by_time.into_iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let all = order.len();
    order.truncate(MAX_STACKS);
    let order: Vec<StackId> = order.into_iter().map(|(stack, _)| stack).collect();
    observed.stacks.name_all(&order);
    if all > MAX_STACKS {
        observed.notes.push(format!(
            "{} of {all} different stacks were not symbolized: those with the least time",
            all - MAX_STACKS
        ));
    }
}

fn completeness(observed: &Observed, rollup: &rollup::Rollup) -> Completeness {
    let counter = |c: Counter| observed.counters[c as usize];
    let mut lost = BTreeMap::new();
    let mut add = |name, n: u64| {
        if n > 0 {
            lost.insert(name, n);
        }
    };
    add("inflight_map_full", counter(Counter::LostInflightFull));
    add("aggregate_map_full", counter(Counter::LostAggregateFull));
    add("end_not_seen", counter(Counter::LostEnd));
    let mut stacks_lost = BTreeMap::new();
    for (name, c) in [
        ("user_stack_unreadable", Counter::UserStackFailed),
        ("kernel_stack_unreadable", Counter::KernelStackFailed),
        ("stack_map_collision", Counter::StackCollision),
        ("stack_map_full", Counter::StackMapFull),
        ("stack_copy_buffer_full", Counter::StackCopyLost),
    ] {
        if counter(c) > 0 {
            stacks_lost.insert(name, counter(c));
        }
    }
    let mut details_lost = BTreeMap::new();
    for (name, n) in [
        (
            "record_buffer_full",
            counter(Counter::LostRecord) + observed.lost_records,
        ),
        ("record_not_understood", observed.undecoded),
        ("path_map_full", counter(Counter::LostPath)),
        ("ready_time_not_seen", counter(Counter::EndAtWakeUp)),
        ("tasks_folded", counter(Counter::FoldedTasks)),
        ("task_unreadable", counter(Counter::TaskUnreadable)),
        ("task_mismatch", counter(Counter::TaskMismatch)),
        (
            "stack_sampled",
            counter(Counter::NotSampled) + rollup.stacks_replaced,
        ),
        ("cpu_sample_buffer_full", counter(Counter::CpuSampleLost)),
        ("cpu_stack_sampled", counter(Counter::CpuNotCopied)),
        ("long_poll_buffer_full", counter(Counter::LostHold)),
        ("poll_not_understood", counter(Counter::PollUnknown)),
        ("poll_too_deep", counter(Counter::PollTooDeep)),
        ("poll_thread_map_full", counter(Counter::LostPollThread)),
        ("poll_buffer_full", counter(Counter::LostPoll)),
        ("delay_buffer_full", counter(Counter::LostDelay)),
        ("woken_map_full", counter(Counter::LostWoken)),
        ("held_stretches_full", observed.workers.1.left_out()),
        ("poll_rows_full", observed.polls.folded()),
        (
            "process_record_buffer_full",
            counter(Counter::LostProcessRecord),
        ),
    ] {
        if n > 0 {
            details_lost.insert(name, n);
        }
    }
    Completeness {
        seen: counter(Counter::Seen),
        aggregated: counter(Counter::Aggregated),
        emitted: counter(Counter::Emitted),
        filtered: counter(Counter::Exited),
        unfinished: observed.unfinished,
        lost,
        details_lost,
        unattributed_ns: rollup.unattributed_ns,
        idle_ns: rollup.idle_ns + counter(Counter::IdleNs),
        stacks_lost,
        census: census_cost(observed),
    }
}

fn overhead(observed: &Observed) -> Overhead {
    let pids: HashSet<_> = observed.targets.iter().map(|t| t.process.id.pid).collect();
    let target_cpu: Option<u64> = observed
        .targets
        .iter()
        .filter(|t| pids.contains(&t.process.id.pid))
        .map(|t| {
            Some((usage::cpu_of(t.process.id.pid)?.checked_sub(t.cpu_at_start?)?).as_nanos() as u64)
        })
        .sum();
    Overhead {
        target_cpu_share: match (target_cpu, observed.bpf) {
            // All runs of the programs count, those for other processes too: an upper bound.
            (Some(cpu), Some((ns, _))) if cpu > 0 => Some(ns as f64 / cpu as f64),
            _ => None,
        },
        observer_cpu_ns: usage::own_cpu().as_nanos() as u64,
        bpf_run_ns: observed.bpf.map(|(ns, _)| ns),
        bpf_run_count: observed.bpf.map(|(_, runs)| runs),
        rss_bytes: usage::own_peak_rss(),
    }
}
