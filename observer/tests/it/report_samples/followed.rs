//! A Go service whose goroutines were followed until the probe was hit too often.

use super::{MS, S, user};
use observer::model::transitions::{After, Birth, Delay, StateTime, Transitions};
use observer::model::view::{Unfinished, View, Waker};
use observer::model::{Cause, Frame, Known, Reason};
use std::collections::BTreeMap;

pub fn followed() -> View {
    let mut view = super::go::idle();
    view.observer.tier = String::from("sched+runtime");
    view.transitions = vec![transitions(str::to_owned)];
    view
}

/// `name`: what a name is turned into, for names that are hostile.
pub fn transitions(name: impl Fn(&str) -> String) -> Transitions {
    let at = |function: &str, line| {
        user(
            0x47_0000 + u64::from(line),
            &name(function),
            &name("/src/shop/orders.go"),
            line,
        )
    };
    let waiting = |reason: &str, cause, site: Frame, count, each: u64| StateTime {
        state: "waiting",
        wait_reason: Some(name(reason)),
        cause: Some(cause),
        resting: false,
        stack: vec![site.clone()],
        site: Some(Known::Known(site)),
        count,
        total_ns: count * each,
        p50_ns: each,
        p99_ns: 2 * each,
        max_ns: 3 * each,
        max_task: (count > 0).then_some(71),
        began_before: 0,
        unfinished: Unfinished::default(),
        unfinished_ids: Vec::new(),
        wakers: Vec::new(),
    };
    let mut lock = waiting(
        "sync.Mutex.Lock",
        Cause::Mutex,
        at("shop.(*Orders).Add", 88),
        1204,
        3 * MS,
    );
    lock.wakers = vec![
        Waker {
            task: "goroutine 71 (the last one)".to_owned(),
            site: Some(name("shop.(*Orders).Flush")),
            count: 1190,
        },
        Waker {
            task: "goroutine 9 (the last one)".to_owned(),
            site: Some(name("shop.(*Orders).Add")),
            count: 14,
        },
    ];
    lock.unfinished = Unfinished {
        count: 17,
        oldest_ns: 12 * MS,
        lower_bound: false,
    };
    lock.unfinished_ids = vec![104, 112, 131];
    let mut accept = waiting(
        "IO wait",
        Cause::NetWait,
        at("net/http.(*Server).Serve", 3464),
        0,
        0,
    );
    accept.total_ns = 2 * S;
    accept.unfinished = Unfinished {
        count: 1,
        oldest_ns: 2 * S,
        lower_bound: true,
    };
    let mut timer = waiting("sleep", Cause::Sleep, at("shop.tick", 12), 19, 100 * MS);
    timer.began_before = 1;
    timer.wakers = vec![Waker {
        task: "timer".to_owned(),
        site: None,
        count: 20,
    }];
    let state = |state, count, total_ns, max_ns| StateTime {
        state,
        wait_reason: None,
        cause: None,
        site: None,
        stack: Vec::new(),
        total_ns,
        max_ns,
        p99_ns: max_ns / 2,
        max_task: Some(9),
        wakers: Vec::new(),
        ..waiting("", Cause::Other, at("", 0), count, 0)
    };
    let mut resting = waiting(
        "GC worker (idle)",
        Cause::Idle,
        at("runtime.gcBgMarkWorker", 1),
        4,
        S,
    );
    resting.resting = true;
    resting.site = Some(Known::unknown("no application code on the stack"));
    let delay = |count, p99_ns| Delay {
        count,
        total_ns: count * p99_ns / 3,
        p50_ns: p99_ns / 9,
        p99_ns,
        max_ns: 4 * p99_ns,
    };
    Transitions {
        target: 0,
        from_ns: 31 * MS,
        to_ns: 2031 * MS,
        detached: Some(Reason::with(name(
            "24512 hits per second, and 20000 were allowed (--max-hits)",
        ))),
        hits: 31_204,
        program_ns: Some(356),
        budget: 20_000,
        lost: BTreeMap::from([("change_not_seen", 3)]),
        syscalls_apart: false,
        states: vec![
            lock,
            accept,
            timer,
            state("runnable", 1340, 402 * MS, 2 * MS),
            state("running", 1341, 390 * MS, 9 * MS),
            resting,
        ],
        scheduling_delay: delay(1340, 900_000),
        delay_after: vec![
            (After::Wait, delay(1300, 910_000)),
            (After::Creation, delay(40, 90_000)),
        ],
        births: vec![
            Birth {
                site: Known::Known(at("shop.Serve", 41)),
                created: 40,
                exited: 38,
                life: delay(36, 30 * MS),
            },
            Birth {
                site: Known::unknown("its place of creation was not symbolized"),
                created: 0,
                exited: 2,
                life: Delay::default(),
            },
        ],
    }
}
