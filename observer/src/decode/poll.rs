//! What probes on tokio's polls saw.

use observer_common::events::poll::{DelayRecord, PollFrame, PollRecord, Polls, Spread};

use crate::model::event::{BUCKETS, DelayEvent, PollEvent, Tally};
use crate::model::{Mono, Pid, Tid};

/// A long poll.
pub fn poll(record: &PollRecord) -> PollEvent {
    let header = &record.header;
    let of = (Pid(header.tgid), Tid(header.tid));
    frame(of, &record.frame, Mono(header.ktime))
}

fn frame((pid, tid): (Pid, Tid), frame: &PollFrame, end: Mono) -> PollEvent {
    PollEvent {
        pid,
        tid,
        slot: frame.slot,
        id: frame.id,
        vtable: frame.vtable,
        start: Mono(frame.start),
        end,
        lock_ns: frame.lock_ns,
        blocked_ns: frame.blocked_ns,
        run_queue_ns: frame.run_queue_ns,
    }
}

/// The polls that a thread is in, until `now`.
pub fn open(tid: Tid, polls: &Polls, now: Mono) -> impl Iterator<Item = PollEvent> {
    let of = (Pid(polls.tgid), tid);
    let depth = (polls.depth as usize).min(polls.frames.len());
    polls.frames[..depth]
        .iter()
        .map(move |inside| frame(of, inside, now))
        .collect::<Vec<_>>()
        .into_iter()
}

/// A long delay.
pub fn delay(record: &DelayRecord) -> DelayEvent {
    DelayEvent {
        pid: Pid(record.header.tgid),
        tid: Tid(record.header.tid),
        slot: record.slot,
        id: record.woken.id,
        vtable: record.woken.vtable,
        woken: Mono(record.woken.at),
        polled: Mono(record.header.ktime),
    }
}

/// Sums over polls or delays.
pub fn tally(wire: &Spread) -> Tally {
    let mut buckets = [0; BUCKETS];
    for (to, from) in buckets.iter_mut().zip(wire.buckets) {
        *to = u64::from(from);
    }
    Tally {
        count: wire.count,
        total_ns: wire.total_ns,
        run_queue_ns: 0,
        max_ns: wire.max_ns,
        buckets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_polls_are_read_than_there_are() {
        let mut polls = Polls {
            depth: 2,
            tgid: 7,
            ..Polls::default()
        };
        polls.frames[1].start = 40;
        let open: Vec<_> = open(Tid(9), &polls, Mono(100)).collect();
        assert_eq!(open.len(), 2);
        assert_eq!(open[1].end.since(open[1].start), 60);
        assert_eq!((open[0].pid, open[0].tid), (Pid(7), Tid(9)));
        polls.depth = u32::MAX;
        assert_eq!(
            super::open(Tid(9), &polls, Mono(100)).count(),
            polls.frames.len()
        );
    }
}
