//! From samples to what is shown: places on CPU, and entries for polls that kept their worker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::cpu::{CpuLedger, CpuStack, HoldRow};
use super::shorten::shorten;
use super::task_shares::{TaskPart, largest};
use crate::model::cpu::{CpuSite, CpuUse, LongPoll, TaskSamples};
use crate::model::event::Identity;
use crate::model::names::Names;
use crate::model::stacks::StackId;
use crate::model::task::{Legality, TaskRef};
use crate::model::view::{Blocking, Unfinished};
use crate::model::{Cause, Frame, Known, Pid, Reason};

/// Places that one report lists. Those after them have a sample or two each.
const MAX_SITES: usize = 100;
/// Of these, places whose stack is shown whole: as many as the text form shows by itself.
const WHOLE_STACKS: usize = 8;
/// Tasks that one entry lists.
const MAX_TASKS: usize = 100;

/// The clock and the time that it ran.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Ticks per second and CPU.
    pub hz: u32,
    /// For how long, in nanoseconds.
    pub window_ns: u64,
}

impl Clock {
    /// Samples as a share of one CPU over the window.
    fn cores(self, samples: u64) -> f64 {
        let ticks = self.window_ns as f64 / 1e9 * f64::from(self.hz);
        if ticks > 0.0 {
            samples as f64 / ticks
        } else {
            0.0
        }
    }
}

/// Finds the stacks of running threads.
pub trait CpuNames: Names {
    /// The interned form of a stack of a running thread.
    fn running_stack(&self, pid: Pid, stack: CpuStack) -> Option<StackId>;
}

/// Function and module.
type SiteName = (Option<Arc<str>>, Option<Arc<str>>);

/// A place: samples spread over the lines of a function are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    target: usize,
    site: Result<SiteName, Reason>,
}

impl Place {
    fn of(target: usize, site: &Known<Frame>) -> Self {
        let site = match site {
            Known::Known(frame) => {
                let module = frame.module.clone().or_else(|| frame.file.clone());
                Ok((frame.function.clone(), module))
            }
            Known::Unknown(reason) => Err(reason.clone()),
        };
        Self { target, site }
    }

    fn function(&self) -> Option<&str> {
        self.site.as_ref().ok()?.0.as_deref()
    }
}

const NO_STACK: Reason = Reason::new("no user stack could be taken");

fn site_of(
    pid: Pid,
    stack: Option<CpuStack>,
    names: &dyn CpuNames,
) -> (Option<StackId>, Known<Frame>) {
    let id = stack.and_then(|stack| names.running_stack(pid, stack));
    let site = id.map_or(Known::Unknown(NO_STACK), |id| names.site(id));
    (id, site)
}

#[derive(Debug, Default)]
struct OnCpu {
    samples: u64,
    in_kernel: u64,
    in_poll: u64,
    tasks: HashMap<TaskRef, (u64, Pid)>,
    /// The stack that was seen most, its site, and how often.
    best: Option<(Option<StackId>, Known<Frame>, u64)>,
}

/// Who was on a CPU, and where.
pub fn cpu(ledger: &CpuLedger, names: &dyn CpuNames, clock: Clock) -> CpuUse {
    let mut places: HashMap<Place, OnCpu> = HashMap::new();
    let mut samples = 0;
    for (key, row) in ledger.rows() {
        let Some(target) = names.target(key.pid) else {
            continue;
        };
        samples += row.samples;
        let (stack, site) = site_of(key.pid, Some(key.stack), names);
        let place = places.entry(Place::of(target, &site)).or_default();
        place.samples += row.samples;
        place.in_kernel += row.in_kernel;
        if key.legality == Legality::InPoll {
            place.in_poll += row.samples;
        }
        if let Identity::Task(task) = key.identity {
            place.tasks.entry(task).or_insert((0, key.pid)).0 += row.samples;
        }
        let better = |(best, _, n): &(Option<StackId>, Known<Frame>, u64)| {
            (row.samples, std::cmp::Reverse(stack)) > (*n, std::cmp::Reverse(*best))
        };
        if place.best.as_ref().is_none_or(better) {
            place.best = Some((stack, site, row.samples));
        }
    }
    let sites_total = places.len() as u64;
    let mut places: Vec<(Place, OnCpu)> = places.into_iter().collect();
    places.sort_by(|(a, seen_a), (b, seen_b)| {
        (seen_b.samples, a.target)
            .cmp(&(seen_a.samples, b.target))
            .then_with(|| a.function().cmp(&b.function()))
    });
    places.truncate(MAX_SITES);
    let sites = places
        .into_iter()
        .enumerate()
        .map(|(rank, (place, seen))| {
            let whole = rank < WHOLE_STACKS;
            finish_site(place.target, seen, whole, names, clock)
        })
        .collect();
    CpuUse {
        hz: clock.hz,
        samples,
        unplaced: ledger.unplaced(),
        sites,
        sites_total,
    }
}

fn finish_site(
    target: usize,
    seen: OnCpu,
    whole: bool,
    names: &dyn CpuNames,
    clock: Clock,
) -> CpuSite {
    let (stack, site) = match seen.best {
        Some((stack, site, _)) => (stack, site),
        None => (None, Known::Unknown(NO_STACK)),
    };
    let tasks_total = seen.tasks.len() as u64;
    let mut tasks: Vec<(TaskRef, (u64, Pid))> = seen.tasks.into_iter().collect();
    tasks.sort_by(|a, b| b.1.0.cmp(&a.1.0).then(a.0.cmp(&b.0)));
    tasks.truncate(MAX_TASKS);
    let frames = stack.map_or(&[][..], |id| names.frames(id));
    let (stack, frames_left_out) = if whole {
        (frames.to_vec(), 0)
    } else {
        shorten(frames, site.known())
    };
    CpuSite {
        target,
        site,
        stack,
        frames_left_out,
        tasks: tasks
            .into_iter()
            .map(|(task, (samples, pid))| TaskSamples {
                task,
                name: names.task_name(pid, task),
                samples,
            })
            .collect(),
        tasks_total,
        samples: seen.samples,
        in_kernel: seen.in_kernel,
        in_poll: seen.in_poll,
        cores: clock.cores(seen.samples),
    }
}

#[derive(Debug, Default)]
struct Held {
    row: HoldRow,
    tasks: HashMap<TaskRef, TaskPart>,
    best: Option<(Option<StackId>, Known<Frame>, u64)>,
}

/// Polls that kept their worker, as entries of what blocks tasks.
pub fn long_polls(ledger: &CpuLedger, names: &dyn CpuNames, clock: Clock) -> Vec<Blocking> {
    let mut places: HashMap<Place, Held> = HashMap::new();
    for (key, row) in ledger.holds() {
        let Some(target) = names.target(key.pid) else {
            continue;
        };
        let (stack, site) = site_of(key.pid, key.stack, names);
        let held = places.entry(Place::of(target, &site)).or_default();
        held.row.merge(row);
        if let Identity::Task(task) = key.identity {
            let task = held.tasks.entry(task);
            task.or_insert_with(|| TaskPart::of(key.pid))
                .add(&row.on_cpu, stack);
        }
        let time = row.on_cpu.total_ns;
        if held.best.as_ref().is_none_or(|(_, _, ns)| time > *ns) {
            held.best = Some((stack, site, time));
        }
    }
    places
        .into_iter()
        .map(|(place, held)| finish_held(place.target, held, names, clock))
        .collect()
}

fn finish_held(target: usize, held: Held, names: &dyn CpuNames, clock: Clock) -> Blocking {
    let Held { row, tasks, best } = held;
    let (stack, site) = match best {
        Some((stack, site, _)) => (stack, site),
        None => (None, Known::Unknown(NO_STACK)),
    };
    let tasks_total = tasks.len() as u64;
    Blocking {
        target,
        cause: Cause::LongPoll,
        syscall: None,
        wait_reason: None,
        resource: None,
        legality: Legality::InPoll,
        legality_evidence: Some(format!(
            "the same task was inside a poll at every look at its thread: {} ticks of a clock of {} Hz, and switches (a task that yields in between looks the same)",
            row.samples, clock.hz
        )),
        site,
        c_call: None,
        stack: stack.map_or_else(Vec::new, |id| names.frames(id).to_vec()),
        tasks: largest(tasks, MAX_TASKS, names),
        tasks_total,
        count: row.on_cpu.count,
        total_ns: row.on_cpu.total_ns,
        p50_ns: row.on_cpu.quantile(0.50),
        p99_ns: row.on_cpu.quantile(0.99),
        max_ns: row.on_cpu.max_ns,
        run_queue_ns: 0,
        unfinished: Unfinished {
            count: row.open,
            oldest_ns: row.oldest_open_ns,
            lower_bound: row.open_lower_bound,
        },
        wakers: Vec::new(),
        holder: None,
        long_poll: Some(LongPoll {
            at_least_ns: row.at_least_ns,
            at_most_ns: row.at_most_ns,
            longest_at_least_ns: row.longest.0,
            longest_at_most_ns: row.longest.1,
            blocked_ns: row.blocked_ns,
            run_queue_ns: row.run_queue_ns,
            samples: row.samples,
            cores: clock.cores(row.samples),
        }),
    }
}

/// The stacks that a report needs, with the number of samples of each.
pub fn stacks(ledger: &CpuLedger) -> HashMap<(Pid, CpuStack), u64> {
    let mut stacks: HashMap<(Pid, CpuStack), u64> = HashMap::new();
    for (key, row) in ledger.rows() {
        *stacks.entry((key.pid, key.stack)).or_default() += row.samples;
    }
    stacks
}

/// Ids of stacks that the kernel keeps.
pub fn kernel_kept(ledger: &CpuLedger) -> HashSet<(Pid, u32)> {
    ledger
        .rows()
        .filter_map(|(key, _)| match key.stack {
            CpuStack::Kernel(id) => Some((key.pid, id)),
            CpuStack::Own(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::fake_names::{FakeNames, frame};
    use crate::model::event::CpuSampleEvent;
    use crate::model::task::TaskKind;
    use crate::model::{Mono, Tid};

    fn sample(at: u64) -> CpuSampleEvent<'static> {
        CpuSampleEvent {
            pid: Pid(1),
            tid: Tid(2),
            at: Mono(at),
            identity: Identity::Task(TaskRef {
                kind: TaskKind::TokioTask,
                id: 7,
            }),
            legality: Legality::InPoll,
            in_kernel: false,
            ip: 1,
            sp: 0,
            bp: 0,
            user_stack: None,
            bytes: &[],
        }
    }

    #[test]
    fn the_places_that_count_have_whole_stacks_and_the_others_say_what_is_left_out() {
        const PLACES: u64 = MAX_SITES as u64 + 12;
        const DEEP: u64 = 40;
        let mut ledger = CpuLedger::default();
        let mut names = FakeNames::default();
        for place in 0..PLACES {
            let frames: Vec<Frame> = (place * DEEP..(place + 1) * DEEP)
                .map(|at| frame(Some(&format!("f{at}")), at, None))
                .collect();
            let site = Known::Known(frames[frames.len() - 2].clone());
            let id = names.add(frames, site);
            for at in 0..=place {
                ledger.add_sample(&sample(at), CpuStack::Own(id));
            }
        }
        let clock = Clock {
            hz: 99,
            window_ns: 1_000_000_000,
        };
        let seen = cpu(&ledger, &names, clock);
        assert_eq!((seen.sites.len(), seen.sites_total), (MAX_SITES, PLACES));
        for (rank, site) in seen.sites.iter().enumerate() {
            let place = PLACES - 1 - rank as u64;
            assert_eq!(site.samples, place + 1);
            let shown = site.stack.iter().filter(|f| f.function.is_some()).count() as u64;
            assert_eq!(shown + site.frames_left_out, DEEP);
            assert_eq!(site.frames_left_out == 0, rank < WHOLE_STACKS);
            assert!(
                site.stack
                    .iter()
                    .any(|frame| Some(frame) == site.site.known())
            );
            assert_eq!(site.stack[0].address, place * DEEP);
        }
    }
}
