//! What probes on polls found, named and put into the form that is shown.

use std::collections::HashMap;

use super::polls::FollowedPolls;
use super::user_probes::{Lighter, WhyEnded};
use crate::aggregate::polls::{Behind, LongPolls, PollLedger, PollTask};
use crate::model::event::Tally;
use crate::model::polls::{Culprit, Followed, LongTask, PollType, Spread, Victim};
use crate::model::task::{TaskFacts, TaskKind, TaskRef};
use crate::model::{Mono, Pid};

/// Tasks that one list shows at most.
const MAX_LISTED: usize = 100;

fn spread(tally: &Tally) -> Spread {
    Spread {
        count: tally.count,
        total_ns: tally.total_ns,
        p50_ns: tally.quantile(0.50),
        p99_ns: tally.quantile(0.99),
        max_ns: tally.max_ns,
    }
}

/// Probes are put into executables, whose copy of tokio is the first.
fn task_ref(task: PollTask) -> TaskRef {
    TaskRef {
        kind: TaskKind::TokioTask,
        id: task.id,
    }
}

/// All of a session.
#[derive(Debug)]
pub struct PollView<'a> {
    ledger: &'a PollLedger,
    followed: &'a [FollowedPolls],
    pids: Vec<Pid>,
    began: Mono,
}

impl<'a> PollView<'a> {
    /// For the end of a session; `pids` are those of the targets, in order.
    pub fn new(
        ledger: &'a PollLedger,
        followed: &'a [FollowedPolls],
        pids: Vec<Pid>,
        began: Mono,
    ) -> Self {
        Self {
            ledger,
            followed,
            pids,
            began,
        }
    }

    fn target(&self, pid: Pid) -> Option<usize> {
        self.pids.iter().position(|of| *of == pid)
    }

    fn facts(&self, task: PollTask) -> TaskFacts {
        match self.followed.iter().find(|f| f.window.slot == task.slot) {
            Some(followed) => followed.names.describe(task.vtable),
            None => TaskFacts::unknown("its attachment of probes is not known"),
        }
    }

    /// Times for which every poll was seen.
    pub fn followed(&self) -> Vec<Followed> {
        let rows = self.followed.iter().filter_map(|followed| {
            let target = self.target(followed.window.pid)?;
            let window = &followed.window;
            let (long, long_total) = self.long(window.slot);
            Some(Followed {
                target,
                after_ns: window.from.since(self.began),
                duration_ns: window.to.since(window.from),
                hits: window.hits,
                ended: why(window.why),
                delays_ns: match (followed.delays, window.lighter) {
                    (false, _) => 0,
                    (true, None) => window.to.since(window.from),
                    (true, Some(lighter)) => lighter.at.since(window.from),
                },
                delays_ended: delays_ended(followed),
                types: types(followed),
                long,
                long_total,
                waiting: followed.waiting.clone(),
            })
        });
        rows.collect()
    }

    fn long(&self, slot: u32) -> (Vec<LongTask>, u64) {
        let mut tasks: Vec<(&PollTask, &LongPolls)> = self
            .ledger
            .long()
            .filter(|(task, _)| task.slot == slot)
            .collect();
        tasks.sort_by(|a, b| {
            let time = |long: &LongPolls| long.tally.total_ns;
            time(b.1).cmp(&time(a.1)).then(a.0.cmp(b.0))
        });
        let all = tasks.len() as u64;
        let tasks = tasks.into_iter().take(MAX_LISTED).map(|(task, long)| {
            let off = long.lock_ns + long.blocked_ns + long.run_queue_ns;
            LongTask {
                task: task_ref(*task),
                facts: self.facts(*task),
                polls: spread(&long.tally),
                cpu_ns: long.tally.total_ns.saturating_sub(off),
                lock_ns: long.lock_ns,
                blocked_ns: long.blocked_ns,
                run_queue_ns: long.run_queue_ns,
                open: long.open,
            }
        });
        (tasks.collect(), all)
    }

    /// Tasks that were delayed, most time first, and how many there were.
    pub fn victims(&self) -> (Vec<Victim>, u64) {
        let slots: HashMap<u32, Pid> = self
            .followed
            .iter()
            .map(|followed| (followed.window.slot, followed.window.pid))
            .collect();
        let mut rows: Vec<_> = self.ledger.delays().collect();
        rows.sort_by(|(a, x), (b, y)| {
            y.tally
                .total_ns
                .cmp(&x.tally.total_ns)
                .then_with(|| a.cmp(b))
        });
        let all = rows.len() as u64;
        let victims = rows.into_iter().take(MAX_LISTED).filter_map(|(key, row)| {
            let (task, behind) = *key;
            let target = self.target(*slots.get(&task.slot)?)?;
            let culprit = |of: PollTask| (task_ref(of), self.facts(of));
            Some(Victim {
                target,
                task: task_ref(task),
                facts: self.facts(task),
                delays: spread(&row.tally),
                behind: match behind {
                    Behind::Poll(of) => {
                        let (task, facts) = culprit(of);
                        Culprit::Poll(task, facts)
                    }
                    Behind::Elsewhere(of) => {
                        let (task, facts) = culprit(of);
                        Culprit::Elsewhere(task, facts)
                    }
                    Behind::NoCpu => Culprit::NoCpu,
                    Behind::Nothing => Culprit::Nothing,
                },
                overlap_ns: row.overlap_ns,
            })
        });
        (victims.collect(), all)
    }
}

fn why(why: WhyEnded) -> Option<String> {
    match why {
        WhyEnded::Session => None,
        WhyEnded::TooOften { rate, budget } => Some(format!(
            "the probes were hit {rate} times per second, {budget} are allowed (--max-hits): they were taken out"
        )),
        WhyEnded::Exec => Some("the process called exec".to_owned()),
        WhyEnded::Exited => Some("the process ended".to_owned()),
    }
}

fn delays_ended(followed: &FollowedPolls) -> Option<String> {
    if !followed.delays {
        return Some("none was asked for (--no-delays), or why there is no place for a probe is among the notes".to_owned());
    }
    let Lighter { rate, budget, .. } = followed.window.lighter?;
    Some(format!(
        "all probes together were hit {rate} times per second, {budget} are allowed (--max-hits): those on wake-ups were taken out"
    ))
}

/// Types with polls; several with one name are one row each, as they are different code.
fn types(followed: &FollowedPolls) -> Vec<PollType> {
    let mut types: Vec<PollType> = followed
        .types
        .iter()
        .filter(|(_, polls, delays)| polls.count > 0 || delays.count > 0)
        .map(|(vtable, polls, delays)| PollType {
            facts: followed.names.describe(*vtable),
            polls: spread(polls),
            delays: spread(delays),
        })
        .collect();
    types.sort_by(|a, b| {
        let name = |t: &PollType| t.facts.name.known().cloned();
        b.polls
            .total_ns
            .cmp(&a.polls.total_ns)
            .then_with(|| name(a).cmp(&name(b)))
    });
    types
}
