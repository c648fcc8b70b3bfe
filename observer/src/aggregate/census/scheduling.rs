//! The runtime's scheduler over the samples: who is ready, who could run them, and for how long they
//! wait.

use super::{Spread, States};
use crate::model::census::{Census, TaskState};
use crate::model::scheduling::Delays;
use crate::model::view::{Netpoll, RunDelay, Scheduler, Slots};
use crate::model::{Known, Mono, Reason};

/// A poller that was not looked at for this long in all samples is not in use.
const UNUSED_NS: u64 = 1_000_000_000;
/// Delays from here on are more than is normal (ns): the bucket of the runtime's own histogram that
/// begins next to 200 µs.
const LONG_DELAY_NS: u64 = 196_608;

/// The scheduler over the samples.
#[derive(Debug, Default)]
pub struct Scheduling {
    /// Samples in which it could be read.
    samples: u64,
    /// Why it could not, the last time.
    unread: Option<Reason>,
    idle_slots: Spread,
    shared_queue: Spread,
    slot_queues: Spread,
    threads: u32,
    idle_threads: Spread,
    spinning_threads: Spread,
    /// Samples in which tasks were ready while no slot was idle.
    starved: u64,
    /// Samples in which a thread waited for the network.
    waiting: u64,
    /// Time since the network was last looked at, in the others.
    since_poll: Spread,
    polled: Option<Mono>,
    poll_moved: bool,
    delays: Option<(Delays, Delays)>,
    /// The longest time for which a task was ready when it was seen (ns).
    oldest_ready_ns: Option<u64>,
}

impl Scheduling {
    /// Adds a census, whose ages are filled in.
    pub fn add(&mut self, census: &Census) {
        let ready = census
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Runnable);
        let oldest = ready.filter_map(|task| Some(task.age?.at_least_ns)).max();
        self.oldest_ready_ns = self.oldest_ready_ns.max(oldest.filter(|ns| *ns > 0));
        if let Some(now) = census.delays.as_deref() {
            match &mut self.delays {
                Some((_, last)) => *last = *now,
                none => *none = Some((*now, *now)),
            }
        }
        let sample = match &census.scheduler {
            Known::Known(sample) => sample,
            Known::Unknown(reason) => {
                self.unread = Some(reason.clone());
                return;
            }
        };
        self.samples += 1;
        self.idle_slots.add(sample.idle_slots.into());
        self.shared_queue.add(sample.shared_queue as f64);
        self.slot_queues.add(sample.slot_queues as f64);
        self.threads = sample.threads;
        self.idle_threads.add(sample.idle_threads.into());
        self.spinning_threads.add(sample.spinning_threads.into());
        let is_ready = census.count(TaskState::Runnable) > 0;
        self.starved += u64::from(is_ready && sample.idle_slots == 0);
        self.poll_moved |= self.samples > 1 && self.polled != sample.polled;
        self.polled = sample.polled;
        match sample.polled {
            Some(at) => self.since_poll.add(census.taken_at.since(at) as f64),
            None => self.waiting += 1,
        }
    }

    /// What is shown.
    pub fn roll_up(&self, states: &States, samples: u64) -> Scheduler {
        let runnable = &states.counts[1];
        debug_assert_eq!(TaskState::ALL[1], TaskState::Runnable);
        let n = self.samples;
        let known = n > 0;
        Scheduler {
            slots: states.slots,
            runnable_mean: runnable.mean(samples),
            runnable_max: runnable.max as u64,
            queued_share: states
                .slots
                .map(|_| states.queued as f64 / samples.max(1) as f64),
            locked: states.locked.last as u64,
            running_mean: states.counts[0].mean(samples),
            in_syscall_mean: states.counts[2].mean(samples),
            oldest_ready_ns: self.oldest_ready_ns,
            inside: known.then(|| Slots {
                samples: n,
                idle_mean: self.idle_slots.mean(n),
                starved_share: self.starved as f64 / n as f64,
                shared_queue_mean: self.shared_queue.mean(n),
                shared_queue_max: self.shared_queue.max as u64,
                slot_queues_mean: self.slot_queues.mean(n),
                threads: self.threads,
                idle_threads_mean: self.idle_threads.mean(n),
                spinning_threads_mean: self.spinning_threads.mean(n),
            }),
            netpoll: self.netpoll(),
            delay: self.delay(),
            unknown_reason: self.unread.clone().filter(|_| !known),
        }
    }

    fn netpoll(&self) -> Option<Netpoll> {
        let measured = self.samples - self.waiting;
        let unused = !self.poll_moved && self.since_poll.max >= UNUSED_NS as f64;
        (self.samples > 0 && !unused).then(|| Netpoll {
            waiting_share: self.waiting as f64 / self.samples as f64,
            since_mean_ns: (measured > 0).then(|| self.since_poll.mean(measured) as u64),
            since_max_ns: (measured > 0).then_some(self.since_poll.max as u64),
        })
    }

    fn delay(&self) -> Option<RunDelay> {
        let (first, last) = self.delays.as_ref()?;
        let new = last.since(first)?;
        (new.count() > 0).then(|| RunDelay {
            count: new.count(),
            p50_ns: new.quantile(0.5),
            p99_ns: new.quantile(0.99),
            max_ns: new.quantile(1.0),
            long_share: new.share_from(LONG_DELAY_NS),
        })
    }
}
