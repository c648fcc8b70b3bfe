//! The tier `runtime` in a session: which probes go into which target, when they are taken out, and
//! what they have found.

use std::collections::HashMap;

use super::go_transitions;
use super::polls::{FollowedPolls, PollTier};
use super::session::Session;
use super::user_probes::{ExactWindow, Lighter, Taken, UserProbes, WhyEnded};
use crate::model::transitions::Followed;
use crate::model::{Known, Mono, Pid, Reason};
use crate::probes::attach::{AttachError, Kernel};
use crate::probes::go_maps::GoMaps;
use crate::probes::user_maps::UserMaps;
use crate::runtimes::{CodeReader, GoTransitions};

/// The tier in one session.
#[derive(Debug)]
pub struct RuntimeTier {
    user: UserProbes,
    /// Put in the probes that go first, too.
    delays: bool,
    go: GoMaps,
    /// How to read what the attachments find that have not been collected, by slot.
    readers: HashMap<u32, GoTransitions>,
    followed: Vec<Followed>,
    polls: PollTier,
    /// Mean run time of the program at a hit, when it was counted.
    program_ns: Option<u64>,
}

impl RuntimeTier {
    /// Nothing attached yet. `budget`: hits per second that one target's probes may have. `delays`:
    /// tokio's wake-ups are probed as well as polls.
    ///
    /// # Errors
    /// When the object lacks a map.
    pub fn new(kernel: &mut Kernel, budget: u64, delays: bool) -> Result<Self, AttachError> {
        Ok(Self {
            user: UserProbes::new(UserMaps::take(kernel)?, budget),
            delays,
            go: GoMaps::take(kernel)?,
            readers: HashMap::new(),
            followed: Vec::new(),
            polls: PollTier::new(kernel)?,
            program_ns: None,
        })
    }
}

impl Session {
    /// Puts probes into a target's own code, when that was asked for and they have verified places.
    pub(super) fn attach_code_probes(&mut self, index: usize) {
        let pid = self.targets[index].process.id.pid;
        let target = &self.targets[index];
        // A program that is to be started is looked at when it has called exec, and one whose runtime
        // is not ready when it is.
        if target.ended.is_some() || target.retry || self.state.launched == Some(pid) {
            return;
        }
        if let Err(reason) = self.try_attach(index) {
            let note = format!("tier runtime: no probes in pid {pid}: {reason}");
            tracing::warn!("{note}");
            self.state.notes.push(note);
        }
    }

    fn try_attach(&mut self, index: usize) -> Result<(), Reason> {
        let Self {
            runtime_tier: Some(tier),
            kernel,
            targets,
            state,
            ..
        } = self
        else {
            return Ok(());
        };
        let target = &targets[index];
        let pid = target.process.id.pid;
        let mut found = match target.code_probes() {
            Known::Known(found) => found,
            Known::Unknown(reason) => return Err(reason),
        };
        if !tier.delays {
            found.probes.retain(|probe| !probe.first_out);
        }
        let delays = found.probes.iter().any(|probe| probe.first_out);
        let RuntimeTier {
            user,
            go,
            readers,
            polls,
            ..
        } = tier;
        let reader = match found.reader {
            CodeReader::Go(reader) => reader,
            CodeReader::Tokio { types, names } => {
                let prepare = |slot| polls.prepare(slot, &types);
                let slot = user.attach(kernel, pid, &found.probes, prepare, &mut state.notes)?;
                polls.attached(slot, names, delays);
                tracing::info!(
                    "pid {pid}: {} probes on polls and wake-ups; each hit costs the target about half a microsecond, and above {} hits per second they are taken out",
                    found.probes.len(),
                    user.budget()
                );
                return Ok(());
            }
        };
        let prepare = |slot| go.prepare(slot, go_transitions::config(&reader));
        let slot = user.attach(kernel, pid, &found.probes, prepare, &mut state.notes)?;
        readers.insert(slot, reader);
        let names: Vec<_> = found.probes.iter().map(|p| p.name.as_str()).collect();
        tracing::info!(
            "pid {pid}: probe in {}; each hit costs the target about a microsecond, and above {} hits per second it is taken out",
            names.join(", "),
            user.budget()
        );
        let now = Mono(crate::sys::usage::monotonic_ns());
        match go_transitions::seed(go, &target.memory(), &reader, (slot, now)) {
            Ok(0) => {}
            Ok(no_room) => state.notes.push(format!(
                "tier runtime: pid {pid}: no room for the states of {no_room} goroutines at the start"
            )),
            Err(reason) => state.notes.push(format!(
                "tier runtime: pid {pid}: each goroutine is followed from its first change on, because they could not be listed: {reason}"
            )),
        }
        Ok(())
    }

    /// What a hit takes in the kernel's program, as counted so far.
    pub(super) fn count_probe_runs(&mut self) {
        if let Some(tier) = &mut self.runtime_tier
            && let Some((ns, runs)) = self.kernel.runs_of("go_casgstatus")
        {
            tier.program_ns = Some(ns / runs);
        }
    }

    /// Takes out what is hit too often.
    pub(super) fn check_code_probes(&mut self) {
        let Some(tier) = &mut self.runtime_tier else {
            return;
        };
        for taken in tier.user.check(&mut self.kernel) {
            match taken {
                Taken::First(pid, Lighter { rate, budget, .. }) => tracing::warn!(
                    "pid {pid}: probes on wake-ups taken out after {rate} hits per second of all probes ({budget} are allowed); polls are still followed"
                ),
                Taken::All(ExactWindow {
                    pid,
                    why: WhyEnded::TooOften { rate, budget },
                    ..
                }) => tracing::warn!(
                    "pid {pid}: probes taken out after {rate} hits per second ({budget} are allowed); the report says until when it is exact"
                ),
                Taken::All(_) => {}
            }
        }
    }

    /// Takes the probes of one target out, and keeps what they found.
    pub(super) fn end_code_probes_of(&mut self, pid: Pid, why: WhyEnded) {
        if let Some(tier) = &mut self.runtime_tier {
            tier.user.end_of(&mut self.kernel, pid, why);
            self.collect_code_probes();
        }
    }

    /// Takes all probes out of targets' code.
    pub(super) fn end_code_probes(&mut self) {
        if let Some(tier) = &mut self.runtime_tier {
            tier.user.end_all(&mut self.kernel);
        }
    }

    /// Takes what ended attachments have found out of the kernel.
    pub(super) fn collect_code_probes(&mut self) {
        let Self {
            runtime_tier: Some(tier),
            targets,
            state,
            ..
        } = self
        else {
            return;
        };
        let windows: Vec<ExactWindow> = tier.user.windows().to_vec();
        for window in windows {
            let times = (state.began, state.ended.unwrap_or(window.to));
            tier.polls.collect(&window, &mut state.polls, times);
            let Some(reader) = tier.readers.remove(&window.slot) else {
                continue;
            };
            let memory = targets
                .iter()
                .find(|t| t.process.id.pid == window.pid && window.why != WhyEnded::Exec)
                .map(super::target::Target::memory);
            tier.followed.push(go_transitions::collect(
                &mut tier.go,
                &mut state.stacks,
                &reader,
                &window,
                tier.user.budget(),
                memory
                    .as_ref()
                    .map(|m| m as &dyn crate::model::memory::Memory),
            ));
        }
    }

    /// Says which targets had no probes to the end, because their runtime never was ready.
    pub(super) fn note_unready(&mut self) {
        if self.runtime_tier.is_none() {
            return;
        }
        for target in self.targets.iter().filter(|target| target.retry) {
            if let Some(reason) = target.degraded() {
                self.state.notes.push(format!(
                    "tier runtime: no probes in pid {}: {reason}",
                    target.process.id.pid
                ));
            }
        }
    }

    /// What was found of all targets.
    pub(super) fn take_followed(&mut self) -> Vec<Followed> {
        self.collect_code_probes();
        let Some(tier) = &mut self.runtime_tier else {
            return Vec::new();
        };
        for followed in &mut tier.followed {
            followed.program_ns = tier.program_ns;
        }
        std::mem::take(&mut tier.followed)
    }

    /// What was found of polls.
    pub(super) fn take_followed_polls(&mut self) -> Vec<FollowedPolls> {
        self.runtime_tier
            .as_mut()
            .map(|tier| tier.polls.take_followed())
            .unwrap_or_default()
    }

    /// Whether programs are to follow polls.
    pub(super) fn follows_polls(&self) -> bool {
        let tier = self.runtime_tier.as_ref();
        tier.is_some_and(|tier| tier.polls.is_used())
    }
}
