//! The tier `runtime` in a session: which probes go into which target, when they are taken out, and
//! what is said about it.

use super::session::Session;
use super::user_probes::{ExactWindow, UserProbes, WhyEnded};
use crate::model::{Known, Pid};
use crate::runtimes::CodeReader;

impl Session {
    /// Puts probes into a target's own code, when that was asked for and they have verified places.
    pub(super) fn attach_code_probes(&mut self, index: usize) {
        let Self {
            user_probes: Some(user),
            kernel,
            targets,
            state,
            ..
        } = self
        else {
            return;
        };
        let target = &targets[index];
        let pid = target.process.id.pid;
        if target.ended.is_some() || state.launched == Some(pid) {
            // A program that is to be started is looked at when it has called exec.
            return;
        }
        let found = match target.code_probes() {
            Known::Known(found) => found,
            Known::Unknown(reason) => {
                state
                    .notes
                    .push(format!("tier runtime: no probes in pid {pid}: {reason}"));
                return;
            }
        };
        let prepare = |_slot: u32| match found.reader {
            CodeReader::Go(_) => Ok(()),
        };
        match user.attach(kernel, pid, &found.probes, prepare, &mut state.notes) {
            Ok(_slot) => {}
            Err(reason) => state
                .notes
                .push(format!("tier runtime: no probes in pid {pid}: {reason}")),
        }
    }

    /// Takes out what is hit too often.
    pub(super) fn check_code_probes(&mut self) {
        let Some(user) = &mut self.user_probes else {
            return;
        };
        for ended in user.check(&mut self.kernel) {
            if let ExactWindow {
                pid,
                why: WhyEnded::TooOften { rate, budget },
                ..
            } = ended
            {
                tracing::warn!(
                    "pid {pid}: {rate} hits per second of probes in its code, {budget} are allowed: taken out"
                );
            }
        }
    }

    /// Takes the probes of one target out.
    pub(super) fn end_code_probes_of(&mut self, pid: Pid, why: WhyEnded) {
        if let Some(user) = &mut self.user_probes {
            user.end_of(&mut self.kernel, pid, why);
        }
    }

    /// Takes all probes out of targets' code.
    pub(super) fn end_code_probes(&mut self) {
        if let Some(user) = &mut self.user_probes {
            UserProbes::end_all(user, &mut self.kernel);
        }
    }
}
