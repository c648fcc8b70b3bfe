//! What was followed exactly, rolled up: time by state, reason and place, the way from ready to
//! running, and where tasks were made.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::event::Tally;
use crate::model::names::Names;
use crate::model::transitions::{
    After, Birth, Delay, Followed, Place, StateTime, Transitions, What,
};
use crate::model::view::{Unfinished, Waker};
use crate::model::{Cause, Frame, Known, Mono, Reason};

/// Wakers that are kept for each place.
const WAKERS: usize = 8;
/// Places of creation that are kept.
const BIRTHS: usize = 64;
/// Rows of states that are kept.
const STATES: usize = 256;
/// Ids that are kept of those that had not ended waiting.
const IDS: usize = 5;

/// A place by its name, so that stacks which differ further out are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Spot {
    None,
    Unknown(String),
    At(Arc<str>, Option<Arc<str>>, Option<u32>),
}

#[derive(Default)]
struct Row {
    tally: Tally,
    /// The longest, and whose it was.
    longest: (u64, Option<u64>),
    /// Of stretches that began before the window: they have a time, but no length.
    before: (u64, u64),
    unfinished: Unfinished,
    unfinished_ns: u64,
    ids: Vec<u64>,
    /// The place with most time.
    place: Option<(u64, Place)>,
    /// How often, and the task that did it last.
    wakers: BTreeMap<WokenBy, (u64, u64)>,
}

/// Who made tasks ready.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WokenBy {
    /// The scheduler itself.
    Scheduler,
    /// A task, in this function, when it is known.
    Task(Option<Arc<str>>),
}

impl Row {
    fn seen_at(&mut self, place: Place, ns: u64) {
        if self.place.is_none_or(|(most, _)| ns > most) {
            self.place = Some((ns, place));
        }
    }
}

/// The key of a row: state, number of the wait reason, place.
type Key = (&'static str, Option<u8>, Spot);

/// Rolls up what one attachment found. `began`: when the session did.
pub fn roll_up(followed: &Followed, target: usize, began: Mono, names: &dyn Names) -> Transitions {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    let mut births: BTreeMap<Spot, (Known<Frame>, Birth, Tally)> = BTreeMap::new();
    let mut delays: BTreeMap<After, Tally> = BTreeMap::new();
    for sum in &followed.sums {
        match sum.what {
            What::Created | What::Ended => {
                let site = creation(sum.place, names);
                let spot = spot_of(&site);
                let (_, birth, life) = births.entry(spot).or_insert_with(|| {
                    let birth = Birth {
                        site: site.clone(),
                        created: 0,
                        exited: 0,
                        life: Delay::default(),
                    };
                    (site, birth, Tally::default())
                });
                if sum.what == What::Created {
                    birth.created += sum.tally.count;
                } else {
                    birth.exited += sum.tally.count;
                    if !sum.before {
                        life.merge(&sum.tally);
                    }
                }
                continue;
            }
            What::Runnable(after) if !sum.before => {
                delays.entry(after).or_default().merge(&sum.tally);
            }
            _ => {}
        }
        let row = rows.entry(key(sum.what, sum.place, names)).or_default();
        row.seen_at(sum.place, sum.tally.total_ns);
        if sum.before {
            row.before.0 += sum.tally.count;
            row.before.1 += sum.tally.total_ns;
        } else {
            row.tally.merge(&sum.tally);
            row.longest = row.longest.max((sum.tally.max_ns, sum.longest));
        }
    }
    for open in &followed.open {
        let row = rows.entry(key(open.what, open.place, names)).or_default();
        row.seen_at(open.place, open.total_ns);
        row.unfinished_ns += open.total_ns;
        if open.oldest_ns >= row.unfinished.oldest_ns {
            row.unfinished.oldest_ns = open.oldest_ns;
            row.unfinished.lower_bound = open.before;
            row.ids.splice(0..0, open.ids.iter().copied());
        } else {
            row.ids.extend(&open.ids);
        }
        row.unfinished.count += open.count;
        row.ids.truncate(IDS);
    }
    for wake in &followed.wakes {
        let row = rows
            .entry(key(What::Waiting(wake.reason), wake.place, names))
            .or_default();
        let waker = match wake.waker {
            None => WokenBy::Scheduler,
            Some(Place::Stack(stack)) => {
                WokenBy::Task(names.site(stack).known().and_then(|f| f.function.clone()))
            }
            Some(Place::None | Place::Lost) => WokenBy::Task(None),
        };
        let (count, last) = row.wakers.entry(waker).or_default();
        *count += wake.count;
        *last = wake.task;
    }
    let mut delay = Tally::default();
    for tally in delays.values() {
        delay.merge(tally);
    }
    Transitions {
        target,
        from_ns: followed.from.since(began),
        to_ns: followed.to.since(began),
        detached: followed.detached.clone(),
        hits: followed.hits,
        program_ns: followed.program_ns,
        budget: followed.budget,
        lost: followed.lost.clone(),
        syscalls_apart: followed.syscalls_apart,
        states: states(rows, followed, names),
        scheduling_delay: spread(&delay),
        delay_after: delays
            .iter()
            .map(|(after, t)| (*after, spread(t)))
            .collect(),
        births: sorted_births(births),
    }
}

fn key(what: What, place: Place, names: &dyn Names) -> Key {
    match what {
        What::Waiting(reason) => {
            let spot = match place {
                Place::Stack(stack) => spot_of(&names.site(stack)),
                Place::None => Spot::None,
                Place::Lost => spot_of(&lost()),
            };
            ("waiting", Some(reason), spot)
        }
        What::Runnable(_) => ("runnable", None, Spot::None),
        What::State(state) => (state, None, Spot::None),
        What::Unseen => ("unknown", None, Spot::None),
        What::Created | What::Ended => ("none", None, Spot::None),
    }
}

fn lost() -> Known<Frame> {
    Known::Unknown(Reason::new("its stack was not kept"))
}

fn spot_of(site: &Known<Frame>) -> Spot {
    match site {
        Known::Known(frame) => Spot::At(
            frame.function.clone().unwrap_or_default(),
            frame.file.clone(),
            frame.line,
        ),
        Known::Unknown(reason) => Spot::Unknown(reason.to_string()),
    }
}

/// The frame that holds a `go` statement: the only address of the stack, whatever code it lies in.
fn creation(place: Place, names: &dyn Names) -> Known<Frame> {
    let Place::Stack(stack) = place else {
        return Known::unknown("the place of creation could not be read");
    };
    match names.frames(stack).first() {
        Some(frame) if frame.function.is_some() => Known::Known(frame.clone()),
        Some(frame) => Known::Unknown(
            frame
                .unknown_reason
                .clone()
                .unwrap_or(Reason::new("no function is known at its place of creation")),
        ),
        None => Known::unknown("its place of creation was not symbolized"),
    }
}

fn spread(tally: &Tally) -> Delay {
    Delay {
        count: tally.count,
        total_ns: tally.total_ns,
        p50_ns: tally.quantile(0.5),
        p99_ns: tally.quantile(0.99),
        max_ns: tally.max_ns,
    }
}

fn states(rows: BTreeMap<Key, Row>, followed: &Followed, names: &dyn Names) -> Vec<StateTime> {
    let mut states: Vec<StateTime> = rows
        .into_iter()
        .map(|((state, number, _), row)| {
            let meaning = number.and_then(|n| followed.meanings.get(&n));
            let place = row.place.map_or(Place::None, |(_, place)| place);
            let mut wakers: Vec<Waker> = row
                .wakers
                .into_iter()
                .map(|(by, (count, last))| {
                    let (task, site) = match (by, meaning.map(|m| m.cause)) {
                        (WokenBy::Task(site), _) => {
                            (format!("goroutine {last} (the last one)"), site)
                        }
                        (_, Some(Cause::Sleep)) => ("timer".to_owned(), None),
                        (_, Some(Cause::NetWait)) => ("network poller".to_owned(), None),
                        _ => ("the runtime's scheduler".to_owned(), None),
                    };
                    Waker {
                        task,
                        site: site.map(|name| name.to_string()),
                        count,
                    }
                })
                .collect();
            wakers.sort_by_key(|waker| Reverse(waker.count));
            wakers.truncate(WAKERS);
            StateTime {
                state,
                wait_reason: number
                    .map(|n| meaning.map_or_else(|| format!("reason {n}"), |m| m.text.to_owned())),
                cause: meaning.map(|m| m.cause),
                resting: meaning.is_some_and(|m| !m.blocking),
                site: match place {
                    Place::Stack(stack) => Some(names.site(stack)),
                    Place::Lost => Some(lost()),
                    Place::None => None,
                },
                stack: match place {
                    Place::Stack(stack) => names.frames(stack).to_vec(),
                    Place::None | Place::Lost => Vec::new(),
                },
                count: row.tally.count,
                total_ns: row.tally.total_ns + row.before.1 + row.unfinished_ns,
                p50_ns: row.tally.quantile(0.5),
                p99_ns: row.tally.quantile(0.99),
                max_ns: row.tally.max_ns,
                max_task: row.longest.1,
                began_before: row.before.0,
                unfinished: row.unfinished,
                unfinished_ids: row.ids,
                wakers,
            }
        })
        .collect();
    states.sort_by_key(|row| (row.resting, Reverse(row.total_ns)));
    states.truncate(STATES);
    states
}

fn sorted_births(births: BTreeMap<Spot, (Known<Frame>, Birth, Tally)>) -> Vec<Birth> {
    let mut births: Vec<Birth> = births
        .into_values()
        .map(|(_, birth, life)| Birth {
            life: spread(&life),
            ..birth
        })
        .collect();
    births.sort_by_key(|birth| Reverse((birth.created, birth.exited)));
    births.truncate(BIRTHS);
    births
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::fake_names::{FakeNames, frame};
    use crate::model::Pid;
    use crate::model::stacks::StackId;
    use crate::model::transitions::{Meaning, Open, Sum, Wake};

    /// Stacks 0 and 1 are at `main.work`, 2 is at `main.send`, 3 is not symbolized.
    fn stacks() -> (Vec<StackId>, FakeNames) {
        let mut names = FakeNames::default();
        let mut at = |function| {
            let site = frame(Some(function), 1, Some(3));
            names.add(vec![site.clone()], Known::Known(site))
        };
        let named = [at("main.work"), at("main.work"), at("main.send")];
        let unknown = names.add(Vec::new(), Known::unknown("not symbolized"));
        (named.into_iter().chain([unknown]).collect(), names)
    }

    fn sum(what: What, place: Place, before: bool, times: &[u64]) -> Sum {
        let mut tally = Tally::default();
        for ns in times {
            tally.add(*ns, 0);
        }
        Sum {
            what,
            place,
            before,
            longest: Some(tally.max_ns),
            tally,
        }
    }

    fn followed() -> Followed {
        Followed {
            pid: Pid(7),
            from: Mono(1_000),
            to: Mono(9_000),
            detached: None,
            hits: 4,
            program_ns: None,
            budget: 20_000,
            lost: BTreeMap::new(),
            syscalls_apart: true,
            meanings: BTreeMap::from([
                (
                    19,
                    Meaning {
                        text: "chan receive",
                        cause: Cause::Channel,
                        blocking: true,
                    },
                ),
                (
                    28,
                    Meaning {
                        text: "GC worker (idle)",
                        cause: Cause::Idle,
                        blocking: false,
                    },
                ),
            ]),
            sums: Vec::new(),
            open: Vec::new(),
            wakes: Vec::new(),
        }
    }

    #[test]
    fn stacks_of_one_site_are_one_row_and_open_waits_are_time_without_a_length() {
        let (ids, names) = stacks();
        let waiting = What::Waiting(19);
        let at = |i: usize| Place::Stack(ids[i]);
        let found = Followed {
            sums: vec![
                sum(waiting, at(0), false, &[5_000, 7_000]),
                sum(waiting, at(1), false, &[9_000]),
                sum(waiting, at(0), true, &[100_000]),
                sum(waiting, at(3), false, &[1]),
                sum(waiting, Place::Lost, false, &[2]),
                sum(What::Waiting(28), Place::Lost, true, &[1_000_000]),
                sum(What::State("running"), Place::None, false, &[500]),
            ],
            open: vec![
                Open {
                    what: waiting,
                    place: at(1),
                    before: false,
                    count: 2,
                    total_ns: 700,
                    oldest_ns: 400,
                    ids: vec![5, 6],
                },
                Open {
                    what: waiting,
                    place: at(0),
                    before: true,
                    count: 1,
                    total_ns: 8_000,
                    oldest_ns: 8_000,
                    ids: vec![1],
                },
            ],
            ..followed()
        };
        let view = roll_up(&found, 2, Mono(400), &names);
        assert_eq!((view.target, view.from_ns, view.to_ns), (2, 600, 8_600));
        let row = &view.states[0];
        assert_eq!(row.wait_reason.as_deref(), Some("chan receive"));
        assert_eq!(
            (row.count, row.began_before, row.total_ns, row.max_ns),
            (3, 1, 21_000 + 100_000 + 8_700, 9_000)
        );
        assert_eq!(
            (
                row.unfinished.count,
                row.unfinished.oldest_ns,
                row.unfinished.lower_bound
            ),
            (3, 8_000, true)
        );
        assert_eq!(row.max_task, Some(9_000), "the one of the longest");
        assert_eq!(row.unfinished_ids, [1, 5, 6]);
        // The place that was lost, and the one without a name: each has its reason.
        let reasons: Vec<_> = view
            .states
            .iter()
            .filter_map(|row| row.site.as_ref()?.reason().map(ToString::to_string))
            .collect();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        // What rests comes last, whatever its time.
        assert!(view.states.last().is_some_and(|row| row.resting));
        let total: u64 = view.states.iter().map(|row| row.total_ns).sum();
        assert_eq!(total, 129_700 + 3 + 1_000_000 + 500, "no time is lost");
    }

    #[test]
    fn wakers_and_births_add_up_and_delays_leave_out_what_began_before() {
        let (ids, names) = stacks();
        let at = |i: usize| Place::Stack(ids[i]);
        let wake = |place, waker, count, task| Wake {
            reason: 19,
            place,
            waker,
            count,
            task,
        };
        let found = Followed {
            sums: vec![
                sum(What::Waiting(19), at(0), false, &[1, 1, 1]),
                sum(
                    What::Runnable(After::Wait),
                    Place::None,
                    false,
                    &[2_000, 4_000],
                ),
                sum(
                    What::Runnable(After::Creation),
                    Place::None,
                    false,
                    &[9_000],
                ),
                sum(
                    What::Runnable(After::Other),
                    Place::None,
                    true,
                    &[1_000_000],
                ),
                sum(What::Created, at(2), false, &[0, 0]),
                sum(What::Ended, at(2), false, &[30_000]),
                sum(What::Ended, at(2), true, &[0]),
            ],
            wakes: vec![
                wake(at(0), Some(at(2)), 2, 8),
                wake(at(1), Some(at(2)), 5, 9),
                wake(at(0), None, 1, 0),
            ],
            ..followed()
        };
        let view = roll_up(&found, 0, Mono(0), &names);
        let row = view.states.iter().find(|row| row.state == "waiting");
        let wakers = &row.expect("a row").wakers;
        assert_eq!(wakers.len(), 2);
        assert_eq!(
            (wakers[0].count, wakers[0].site.as_deref(), &*wakers[0].task),
            (7, Some("main.send"), "goroutine 9 (the last one)")
        );
        assert_eq!(&*wakers[1].task, "the runtime's scheduler");
        let delay = view.scheduling_delay;
        assert_eq!(
            (delay.count, delay.total_ns, delay.max_ns),
            (3, 15_000, 9_000)
        );
        assert_eq!(view.delay_after.len(), 2, "{:?}", view.delay_after);
        let [birth] = view.births.as_slice() else {
            panic!("{:?}", view.births);
        };
        assert_eq!((birth.created, birth.exited), (2, 2));
        assert_eq!((birth.life.count, birth.life.total_ns), (1, 30_000));
    }
}
