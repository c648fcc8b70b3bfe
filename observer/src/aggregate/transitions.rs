//! What was followed exactly, rolled up: time by state, reason and place, the way from ready to
//! running, and where tasks were made.

use std::cmp::Reverse;
use std::collections::BTreeMap;

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
    At(String, Option<String>, Option<u32>),
}

#[derive(Default)]
struct Row {
    tally: Tally,
    /// Of stretches that began before the window: they have a time, but no length.
    before: (u64, u64),
    unfinished: Unfinished,
    unfinished_ns: u64,
    ids: Vec<u64>,
    /// The place with most time.
    place: Option<(u64, Place)>,
    /// By place (`None`: the scheduler): how often, and the task that did it last.
    wakers: BTreeMap<Option<Option<String>>, (u64, u64)>,
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
        let waker = wake.waker.map(|place| match place {
            Place::Stack(stack) => names.site(stack).known().and_then(|f| f.function.clone()),
            Place::None | Place::Lost => None,
        });
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
        What::Unseen => ("not known: a change was not seen", None, Spot::None),
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
                .map(|(site, (count, last))| Waker {
                    task: match (&site, meaning.map(|m| m.cause)) {
                        (Some(_), _) => format!("goroutine {last} (the last one)"),
                        (None, Some(Cause::Sleep)) => "timer".to_owned(),
                        (None, Some(Cause::NetWait)) => "network poller".to_owned(),
                        (None, _) => "the runtime's scheduler".to_owned(),
                    },
                    site: site.flatten(),
                    count,
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
