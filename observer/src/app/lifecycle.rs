//! What happens to targets while they are observed: exec, late runtimes, their end.

use super::session::Session;
use super::user_probes::WhyEnded;
use crate::model::Pid;

impl Session {
    /// Takes closed generations out of the kernel and opens a new one; looks at the targets anew.
    pub(super) fn sweep(&mut self) -> anyhow::Result<()> {
        self.state.epoch += 1;
        self.state.looked_up = 0;
        self.set_control(true)?;
        self.collect(false);
        self.collect_workers(None);
        let mut found = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            if target.ended.is_some() {
                continue;
            }
            target.count_threads();
            if self.state.launched != Some(target.process.id.pid) && target.look_again() {
                found.push(index);
            }
        }
        for index in found {
            self.late_runtime(index)?;
        }
        Ok(())
    }

    /// A library with a runtime was loaded into a target that had none.
    fn late_runtime(&mut self, index: usize) -> anyhow::Result<()> {
        let target = &self.targets[index];
        let pid = target.process.id.pid;
        self.maps.set_target(pid.0, target.config())?;
        self.state.finders.start(target);
        self.state.notes.push(format!(
            "pid {pid} loaded a library with {} during the observation: its tasks are told apart from then on",
            target.runtime.as_str()
        ));
        self.start_census(index);
        Ok(())
    }

    /// What can not be done while records are drained: exec, new threads' names, late runtimes.
    pub(super) fn refresh_targets(&mut self) -> anyhow::Result<()> {
        for (pid, tid) in std::mem::take(&mut self.state.threads_seen) {
            if let Some(target) = self.targets.iter_mut().find(|t| t.process.id.pid == pid) {
                target.learn_thread(tid);
            }
        }
        for pid in std::mem::take(&mut self.state.exec_seen) {
            self.target_called_exec(pid)?;
        }
        let mut ready = Vec::new();
        for (index, target) in self
            .targets
            .iter_mut()
            .enumerate()
            .filter(|(_, t)| t.retry && t.ended.is_none())
        {
            target.read_runtime();
            if target.reader.known().is_some() {
                let pid = target.process.id.pid;
                self.maps.set_target(pid.0, target.config())?;
                self.state.stacks.set_tasks(pid, target.task_stacks());
                ready.push(index);
            }
        }
        for index in ready {
            self.attach_code_probes(index);
            self.start_census(index);
        }
        self.follow_descriptors();
        Ok(())
    }

    pub(super) fn target_called_exec(&mut self, pid: Pid) -> anyhow::Result<()> {
        self.end_code_probes_of(pid, WhyEnded::Exec);
        // Stacks of the program before are named by its own files.
        self.collect(true);
        if self.state.launched != Some(pid) {
            self.state.stacks.name_all_of(pid);
        }
        let Some(index) = self.targets.iter().position(|t| t.process.id.pid == pid) else {
            return Ok(());
        };
        let target = &mut self.targets[index];
        let was_launched = self.state.launched == Some(pid);
        if was_launched {
            self.state.launched = None;
            self.state.ledger.forget(pid);
            self.state.cpu.forget(pid);
            self.state.held.forget(pid);
            if let Some(tier) = &mut self.syscalls {
                tier.forget(pid);
            }
        }
        let Ok(process) = crate::sys::process::Process::open(pid) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut target.process, process);
        if !was_launched {
            self.state.notes.push(format!(
                "pid {pid} called exec: {} became {}; waits of both are listed, goroutines or tasks of the new program from then on",
                before.exe.display(),
                target.process.exe.display(),
            ));
        }
        target.thread_names.clear();
        target.detect();
        target.count_threads();
        self.maps.set_target(pid.0, target.config())?;
        self.state.stacks.set_tasks(pid, target.task_stacks());
        self.state.stacks.prepare(pid);
        self.state.finders.start(target);
        self.attach_code_probes(index);
        self.restart_census(pid);
        Ok(())
    }

    pub(super) fn target_ended(&mut self, pid: Pid) {
        let Some(target) = self.targets.iter_mut().find(|t| t.process.id.pid == pid) else {
            return;
        };
        target.ended = Some("the process exited during the observation".to_owned());
        self.end_code_probes_of(pid, WhyEnded::Exited);
        tracing::info!(pid = pid.0, "target exited");
    }
}
