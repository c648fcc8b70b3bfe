//! From facts about the kernel to an attach plan: pure, so that every kernel can be tested here.

use super::spec::{CPU_SAMPLE, Hook, PROBES, ProbeSpec, Tiers};
use crate::model::Reason;

/// What the machine offers, as far as the plan depends on it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// BTF of the kernel, or why it is missing.
    pub btf: Result<(), Reason>,
    /// tracefs with event formats, or why it is missing.
    pub tracefs: Result<(), Reason>,
    /// `task_struct` offsets of pid and tgid are known.
    pub task_offsets: bool,
    /// Running threads are sampled.
    pub cpu_samples: bool,
    /// Mechanisms that the user excluded (for tests of the fallbacks).
    pub excluded: Vec<String>,
}

/// A probe with the hooks that can be tried here.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The probe.
    pub spec: &'static ProbeSpec,
    /// What to try, in order.
    pub hooks: Vec<Hook>,
    /// What was ruled out, and why.
    pub ruled_out: Vec<(Hook, Reason)>,
}

fn usable(hook: Hook, facts: &Facts) -> Result<(), Reason> {
    if facts.excluded.iter().any(|name| name == hook.mechanism()) {
        return Err(Reason::new("excluded by the user"));
    }
    match hook {
        Hook::Btf { .. } | Hook::Iterator { .. } => facts.btf.clone(),
        Hook::Raw { .. } if !facts.task_offsets => Err(Reason::new(
            "offsets of task_struct are not known without BTF",
        )),
        Hook::Raw { .. } | Hook::CpuClock { .. } => Ok(()),
        Hook::Tracepoint { .. } => facts.tracefs.clone(),
    }
}

/// The plan for some tiers.
pub fn plan(tiers: Tiers, facts: &Facts) -> Vec<Planned> {
    PROBES
        .iter()
        .filter(|spec| tiers.has(spec.tier))
        .filter(|spec| facts.cpu_samples || spec.name != CPU_SAMPLE)
        .map(|spec| {
            let mut planned = Planned {
                spec,
                hooks: Vec::new(),
                ruled_out: Vec::new(),
            };
            for hook in spec.hooks {
                match usable(*hook, facts) {
                    Ok(()) => planned.hooks.push(*hook),
                    Err(reason) => planned.ruled_out.push((*hook, reason)),
                }
            }
            planned
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            btf: Ok(()),
            tracefs: Ok(()),
            task_offsets: true,
            cpu_samples: true,
            excluded: Vec::new(),
        }
    }

    fn first(facts: &Facts, probe: &str) -> Option<&'static str> {
        let plan = plan(Tiers::SCHED, facts);
        let planned = plan.iter().find(|p| p.spec.name == probe)?;
        planned.hooks.first().map(|h| h.mechanism())
    }

    #[test]
    fn the_best_mechanism_comes_first_and_each_missing_fact_costs_one() {
        assert_eq!(first(&facts(), "sched_switch"), Some("tp_btf"));
        let no_btf = Facts {
            btf: Err(Reason::new("no BTF")),
            ..facts()
        };
        assert_eq!(first(&no_btf, "sched_switch"), Some("raw_tracepoint"));
        assert_eq!(first(&no_btf, "seed_tasks"), None);
        let bare = Facts {
            task_offsets: false,
            ..no_btf
        };
        assert_eq!(first(&bare, "sched_switch"), Some("tracepoint"));
        let nothing = Facts {
            tracefs: Err(Reason::new("no tracefs")),
            ..bare
        };
        assert_eq!(first(&nothing, "sched_switch"), None);
    }

    #[test]
    fn sampling_can_be_switched_off_and_nothing_else_goes_with_it() {
        let off = Facts {
            cpu_samples: false,
            ..facts()
        };
        assert_eq!(first(&facts(), "cpu_sample"), Some("perf_event"));
        assert_eq!(first(&off, "cpu_sample"), None);
        let names = |facts| plan(Tiers::SCHED, facts).len();
        assert_eq!(names(&off) + 1, names(&facts()));
    }

    #[test]
    fn a_mechanism_can_be_excluded_to_test_the_next() {
        let facts = Facts {
            excluded: vec!["tp_btf".into()],
            ..facts()
        };
        assert_eq!(first(&facts, "sched_switch"), Some("raw_tracepoint"));
        assert_eq!(first(&facts, "seed_tasks"), Some("iterator"));
    }
}
