//! A runtime's scheduler: who is ready, who could run them, how long they wait. What is normal stands
//! beside each figure.

use crate::export::dto::{Netpoll, RunDelay, Scheduler, Slots};
use crate::export::text::clean::fit;
use crate::export::text::units::{count, duration, percent};
use crate::export::text::wrap::paragraph;

/// The scheduler of one target; `kind` is that of its runtime.
pub(super) fn lines(scheduler: &Scheduler, kind: &str) -> String {
    let (tasks, slots) = match kind {
        "go" => ("goroutines", "Ps"),
        _ => ("tasks", "slots"),
    };
    let mut texts = vec![ready(scheduler, tasks, kind)];
    texts.extend(scheduler.delay.as_ref().map(|delay| delays(delay, tasks)));
    texts.extend(
        scheduler
            .inside
            .as_ref()
            .map(|i| inside(i, scheduler, slots)),
    );
    texts.extend(scheduler.netpoll.as_ref().map(netpoll));
    // Of other runtimes nothing but their tasks is read.
    if let Some(reason) = scheduler.unknown_reason.as_ref().filter(|_| kind == "go") {
        texts.push(format!("scheduler not read: {}", fit(reason, 160)));
    }
    let indented = |text: String| paragraph(&text, "      ", "        ");
    texts.into_iter().map(indented).collect()
}

/// Ready tasks against those that can run at once.
fn ready(scheduler: &Scheduler, tasks: &str, kind: &str) -> String {
    let mut text = format!(
        "ready to run but not running: {:.1} {tasks} on average, {} at most",
        scheduler.runnable_mean,
        count(scheduler.runnable_max)
    );
    text += &match (scheduler.slots, scheduler.queued_share) {
        (Some(slots), Some(share)) => format!(
            "; {} can run at once (GOMAXPROCS), more than these were ready in {} of samples (normal: \
             few)",
            count(slots.into()),
            percent(share)
        ),
        _ if kind == "go" => "; how many can run at once is not known".to_owned(),
        _ => String::new(),
    };
    if let Some(oldest) = scheduler.oldest_ready_ns {
        text += &format!(
            "; one was seen ready for {} (normal: under 200 µs)",
            duration(oldest)
        );
    }
    if scheduler.locked > 0 {
        text += &format!("; {} tied to a thread", count(scheduler.locked));
    }
    text
}

fn delays(delay: &RunDelay, tasks: &str) -> String {
    let time = |ns: Option<u64>| ns.map_or_else(|| "days".to_owned(), duration);
    let mut text = format!(
        "from ready to running: p50 {}, p99 {}, at most {} (normal: under 200 µs), by the runtime's own \
         count of {} of the {tasks}' turns, one in eight",
        time(delay.p50_ns),
        time(delay.p99_ns),
        time(delay.max_ns),
        count(delay.count)
    );
    if let Some(share) = delay.long_share.filter(|share| *share > 0.0) {
        text += &format!("; {} took 197 µs or more", percent(share));
    }
    text
}

fn inside(inside: &Slots, scheduler: &Scheduler, slots: &str) -> String {
    let mut text = format!("{slots} without work: {:.1} on average", inside.idle_mean);
    if let Some(all) = scheduler.slots {
        text += &format!(" of {}", count(all.into()));
    }
    text += &format!(
        "; work was ready while none was free in {} of samples (normal: few); queued: {:.1} in common \
         (at most {}), {:.1} at the {slots}; {} threads, {:.1} of them idle",
        percent(inside.starved_share),
        inside.shared_queue_mean,
        count(inside.shared_queue_max),
        inside.slot_queues_mean,
        count(inside.threads.into()),
        inside.idle_threads_mean
    );
    text
}

fn netpoll(netpoll: &Netpoll) -> String {
    let mut text = format!(
        "network poller: a thread waited in it in {} of samples (then an event is seen at once)",
        percent(netpoll.waiting_share)
    );
    if let (Some(mean), Some(max)) = (netpoll.since_mean_ns, netpoll.since_max_ns) {
        if max == 0 {
            return text + "; in the others it had just been looked at";
        }
        text += &format!(
            "; in the others it was last noted to be looked at {} before, at most {} (normal: under 20 ms: \
             the runtime does so by itself after 10 ms)",
            duration(mean),
            duration(max)
        );
    }
    text
}
