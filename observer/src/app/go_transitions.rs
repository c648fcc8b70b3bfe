//! Goroutines that are followed exactly: what the probe is told, the states from before it was in,
//! and what is taken out of the kernel when it has ended.

use std::collections::HashMap;

use observer_common::goroutines::{
    FOLDED_PLACE, GO_BEFORE, GoKey, GoProbeConfig, GoStack, GoState, KIND_CREATED, KIND_ENDED,
    NO_PLACE, PLACE_FRAMES, STATE_WAITING, WOKEN_BY_GOROUTINE, place_id,
};

use super::stacks::Stacks;
use super::user_probes::{ExactWindow, WhyEnded};
use crate::decode::goroutine;
use crate::model::memory::Memory;
use crate::model::transitions::{Followed, Meaning, Open, Place, Sum, Wake, What};
use crate::model::{Mono, Pid, Reason};
use crate::probes::go_maps::GoMaps;
use crate::runtimes::GoTransitions;
use crate::runtimes::go::{transitions, waitreason};

/// Ids of tasks that are given for a group that had not ended waiting.
const IDS: usize = 5;

/// What the probe of an attachment needs to know.
pub fn config(go: &GoTransitions) -> GoProbeConfig {
    GoProbeConfig {
        g_m: go.g_m,
        g_goid: go.g_goid,
        g_waitreason: go.g_waitreason,
        g_gopc: go.g_gopc,
        g_sched_pc: go.g_sched_pc,
        g_sched_bp: go.g_sched_bp,
        m_curg: go.m_curg,
        syscalls: u32::from(go.syscalls),
    }
}

/// Enters the goroutines that have not changed since the probe was in. Returns how many there were no
/// room for.
///
/// # Errors
/// When the goroutines can not be listed: then each is known from its first change on.
pub fn seed(
    maps: &mut GoMaps,
    memory: &dyn Memory,
    go: &GoTransitions,
    (slot, from): (u32, Mono),
) -> Result<u64, Reason> {
    let mut no_room = 0;
    for seed in transitions::seeds(memory, go, PLACE_FRAMES)? {
        let key = GoKey {
            g: seed.g,
            slot,
            pad: 0,
        };
        let stack = (!seed.frames.is_empty()).then(|| {
            let mut stack = GoStack {
                frames: [0; PLACE_FRAMES],
            };
            for (to, from) in stack.frames.iter_mut().zip(&seed.frames) {
                *to = *from;
            }
            (place_id(slot, &seed.frames), stack)
        });
        let state = GoState {
            since: from.0,
            place: stack.as_ref().map_or(NO_PLACE, |(place, _)| *place),
            state: seed.state,
            reason: seed.reason,
            flags: GO_BEFORE,
            ..GoState::default()
        };
        no_room += u64::from(!maps.seed(key, state, stack));
    }
    Ok(no_room)
}

/// Takes what an attachment has found out of the kernel. `memory`: of the process, when it still runs
/// the program, to read ids from.
pub fn collect(
    maps: &mut GoMaps,
    stacks: &mut Stacks,
    go: &GoTransitions,
    window: &ExactWindow,
    budget: u64,
    memory: Option<&dyn Memory>,
) -> Followed {
    let slot = window.slot;
    let mut places = Places {
        maps,
        stacks,
        pid: window.pid,
        known: HashMap::new(),
    };
    let sums: Vec<Sum> = places
        .maps
        .sums(slot)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(key, sum)| (key, goroutine::sum(&sum)))
        .map(|(key, (tally, longest))| Sum {
            what: goroutine::what(&key),
            place: match key.kind {
                STATE_WAITING => places.stack(key.place),
                KIND_CREATED | KIND_ENDED => places.address(key.place),
                _ => Place::None,
            },
            before: key.flags & GO_BEFORE != 0,
            tally,
            longest,
        })
        .collect();
    let wakes = places
        .maps
        .wakes(slot)
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(key, wake)| Wake {
            reason: key.reason,
            place: places.stack(key.place),
            waker: (key.by == WOKEN_BY_GOROUTINE).then(|| places.stack(key.waker)),
            count: wake.count,
            task: wake.goid,
        })
        .collect();
    let open = open(&mut places, go, window, memory);
    let losses = goroutine::losses(&maps.losses(slot));
    maps.forget(slot);
    let meanings = (0..=u8::MAX)
        .filter_map(|number| Some((number, waitreason::lookup(go.minor, number)?)))
        .map(|(number, reason)| {
            let meaning = Meaning {
                text: reason.text,
                cause: reason.cause,
                blocking: reason.is_blocking,
            };
            (number, meaning)
        })
        .collect();
    Followed {
        pid: window.pid,
        from: window.from,
        to: window.to,
        detached: detached(window.why),
        hits: window.hits,
        program_ns: None,
        budget,
        lost: losses,
        syscalls_apart: go.syscalls,
        meanings,
        sums,
        open,
        wakes,
    }
}

fn detached(why: WhyEnded) -> Option<Reason> {
    match why {
        WhyEnded::Session => None,
        WhyEnded::TooOften { rate, budget } => Some(Reason::with(format!(
            "{rate} hits per second, and {budget} were allowed (--max-hits)"
        ))),
        WhyEnded::Exec => Some(Reason::new("the process called exec")),
        WhyEnded::Exited => Some(Reason::new("the process exited")),
    }
}

/// Places by their ids in the kernel.
struct Places<'a> {
    maps: &'a GoMaps,
    stacks: &'a mut Stacks,
    pid: Pid,
    known: HashMap<u64, Place>,
}

impl Places<'_> {
    fn stack(&mut self, id: u64) -> Place {
        if id == NO_PLACE || id == FOLDED_PLACE {
            return Place::Lost;
        }
        if let Some(known) = self.known.get(&id) {
            return *known;
        }
        let place = match self.maps.stack(id) {
            Some(addresses) => Place::Stack(self.stacks.intern(Some(self.pid), &addresses, None)),
            None => Place::Lost,
        };
        self.known.insert(id, place);
        place
    }

    /// A place that is one return address.
    fn address(&mut self, address: u64) -> Place {
        if address == NO_PLACE || address == FOLDED_PLACE {
            return Place::Lost;
        }
        Place::Stack(self.stacks.intern(Some(self.pid), &[address], None))
    }
}

/// A group of goroutines that have not left their state.
#[derive(Default)]
struct Group {
    count: u64,
    total_ns: u64,
    oldest_ns: u64,
    /// Since when, and the address of the `g`: a few of the oldest.
    oldest: Vec<(u64, u64)>,
}

fn open(
    places: &mut Places<'_>,
    go: &GoTransitions,
    window: &ExactWindow,
    memory: Option<&dyn Memory>,
) -> Vec<Open> {
    let mut groups: HashMap<(What, u64, bool), Group> = HashMap::new();
    for (key, state) in places.maps.goroutines(window.slot) {
        let Some(what) = goroutine::open(&state) else {
            continue;
        };
        let before = state.flags & GO_BEFORE != 0;
        let age = window.to.0.saturating_sub(state.since);
        let group = groups.entry((what, state.place, before)).or_default();
        group.count += 1;
        group.total_ns += age;
        group.oldest_ns = group.oldest_ns.max(age);
        group.oldest.push((state.since, key.g));
        if group.oldest.len() > 64 {
            group.oldest.sort_unstable();
            group.oldest.truncate(IDS);
        }
    }
    let id = |g: u64| memory?.read_u64(g.wrapping_add(u64::from(go.g_goid))).ok();
    groups
        .into_iter()
        .map(|((what, place, before), mut group)| {
            group.oldest.sort_unstable();
            Open {
                what,
                place: match what {
                    What::Waiting(_) => places.stack(place),
                    _ => Place::None,
                },
                before,
                count: group.count,
                total_ns: group.total_ns,
                oldest_ns: group.oldest_ns,
                ids: group
                    .oldest
                    .iter()
                    .take(IDS)
                    .filter_map(|(_, g)| id(*g))
                    .collect(),
            }
        })
        .collect()
}
