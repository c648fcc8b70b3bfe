//! Waits that reach over an end of the window: under way when it began, or not ended when it did.

use std::collections::HashMap;

use super::session::Session;
use super::state::SeedRead;
use crate::decode;
use crate::model::event::{Identity, OpenWait, SeedEvent};
use crate::model::syscall::Subject;
use crate::model::{Mono, Pid, Tid};
use crate::sys::usage;

/// Polls that were on a CPU for at least this long are kept; the kernel side does the same.
const LONG_POLL_NS: u64 = 1_000_000;

impl Session {
    /// Enters the waits that were under way, and reads who waits there.
    pub(super) fn seed(&mut self) {
        let bytes = match self.kernel.read_seeds() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(reason) => {
                self.state.notes.push(format!(
                    "waits that began before the observation are seen only when they end ({reason})"
                ));
                return;
            }
        };
        let (seeds, rest) = decode::seed::seeds(&bytes);
        if rest != 0 {
            self.state.undecoded += 1;
        }
        let waits: HashMap<u32, OpenWait> = self
            .maps
            .inflight()
            .map(|(tid, entry)| (tid, decode::wait::open(Tid(tid), &entry)))
            .filter(|(_, open)| open.key.seeded)
            .collect();
        for seed in seeds {
            // Without an entry the thread ran on before it could be entered.
            if let Some(wait) = waits.get(&seed.tid.0) {
                self.read_seed(&seed, wait);
            }
        }
    }

    fn read_seed(&mut self, seed: &SeedEvent, wait: &OpenWait) {
        let Some(target) = self
            .targets
            .iter_mut()
            .find(|t| t.process.id.pid == seed.pid)
        else {
            return;
        };
        target.learn_thread(seed.tid);
        let task = target.read_seed(seed, wait.key.class);
        let user = (seed.ip != 0 && task.identity != Identity::Idle).then(|| {
            let regs = (seed.ip, seed.sp, seed.bp);
            let caller = (wait.key.class, wait.key.subject);
            let (stack, read) = self
                .state
                .stacks
                .read_blocked(target, regs, caller, task.at);
            if let Some(read) = read {
                let finders = &mut self.state.finders;
                finders.look(seed.pid, task.identity, &read.shown());
            }
            self.state.stacks.adopt(stack)
        });
        let kernel = (!seed.kernel_stack.is_empty())
            .then(|| self.state.stacks.intern(None, &seed.kernel_stack, None))
            .map(|stack| self.state.stacks.adopt(stack));
        let subject = match wait.key.class.subject() {
            Subject::Path(n) => {
                let at = wait.args[usize::from(n)];
                self.state.paths.read(&target.memory(), at)
            }
            _ => None,
        };
        // If it has run on meanwhile, what was read may be of something else.
        if self.maps.still_waits(seed.tid.0, seed.at.0) {
            self.state.seeds.insert(
                seed.tid,
                SeedRead {
                    task,
                    user,
                    kernel,
                    subject,
                },
            );
        }
    }

    /// Enters the waits that have not ended. Their number is returned.
    pub(super) fn close_open(&mut self, now: Mono) -> u64 {
        let open: Vec<OpenWait> = self
            .maps
            .inflight()
            .map(|(tid, entry)| decode::wait::open(Tid(tid), &entry))
            .collect();
        let mut count = 0;
        for wait in open {
            count += 1;
            let Some(target) = self
                .targets
                .iter_mut()
                .find(|t| t.process.id.pid == wait.key.pid)
            else {
                continue;
            };
            target.learn_thread(wait.tid);
            let key = self.state.with_seed(wait.key, Some(wait.tid));
            let lower_bound = wait.key.seeded;
            self.state.want(&key);
            if let Some(id) = key.user_stack {
                self.state.stacks.fetch(Some(key.pid), id, &self.maps);
            }
            let seed = self.state.seeds.get(&wait.tid).filter(|_| wait.key.seeded);
            if let Some(kernel) = wait.kernel_stack.or(seed.and_then(|seed| seed.kernel)) {
                self.state.ledger.add_kernel_stack(key, kernel);
            }
            let unwound = match self.state.unwound.get(&wait.tid) {
                Some((start, stack)) if *start == wait.start => Some(*stack),
                _ => None,
            };
            self.state
                .ledger
                .add_open(key, now.since(wait.start), lower_bound, unwound);
        }
        count
    }

    /// Enters the polls that have not ended, of running threads and of blocked ones.
    pub(super) fn close_holds(&mut self, now: Mono) {
        for (tid, entry) in self.maps.entries() {
            let of = (Pid(entry.key.tgid), Tid(tid));
            let hold = decode::cpu::hold(of, &entry.thread.hold, None);
            if hold.first != Mono(0) {
                // A poll that is blocked holds its worker until now.
                let to = if entry.start == 0 { hold.last } else { now };
                self.state.held.add(of.0, of.1, hold.first, to);
            }
            if hold.first != Mono(0) && hold.samples > 0 && hold.on_cpu_ns() >= LONG_POLL_NS {
                self.state.cpu.add_hold(&hold, self.state.began, now);
            }
        }
    }

    /// Reads the stacks of waits that have lasted for a while and whose stack was not copied when
    /// they began: long waits are few and matter most, so none of them depends on sampling.
    pub(super) fn read_long_waits(&mut self) {
        const LONG: u64 = 10_000_000;
        const MOST: usize = 64;
        self.read_open_waits(LONG, MOST);
    }

    /// Reads the stacks of waits that are older than `age_ns`, of `most` at most. The kernel side must
    /// still be at work: it tells whether a thread has run on meanwhile.
    pub(super) fn read_open_waits(&mut self, age_ns: u64, most: usize) {
        let now = Mono(usage::monotonic_ns());
        let waits: Vec<OpenWait> = self
            .maps
            .inflight()
            .map(|(tid, entry)| decode::wait::open(Tid(tid), &entry))
            .filter(|wait| {
                !wait.copied
                    && !wait.key.seeded
                    && wait.ip != 0
                    && wait.woken.is_none()
                    && wait.key.identity != Identity::Idle
                    && now.since(wait.start) > age_ns
                    && !self.state.stacks.is_runtime_code(wait.key.pid, wait.ip)
                    && self
                        .state
                        .unwound
                        .get(&wait.tid)
                        .is_none_or(|(at, _)| *at != wait.start)
            })
            .take(most)
            .collect();
        for wait in waits {
            let target = self
                .targets
                .iter()
                .find(|t| t.process.id.pid == wait.key.pid && t.copy_stacks && t.ended.is_none());
            let Some(target) = target else { continue };
            let regs = (wait.ip, wait.sp, wait.bp);
            let task_at = (wait.task_at != 0).then_some(wait.task_at);
            let caller = (wait.key.class, wait.key.subject);
            let (stack, read) = self
                .state
                .stacks
                .read_blocked(target, regs, caller, task_at);
            if let Some(read) = read {
                let finders = &mut self.state.finders;
                finders.look(wait.key.pid, wait.key.identity, &read.shown());
            }
            // Only if it is still the same wait was it that wait's stack.
            if self.maps.still_waits(wait.tid.0, wait.start.0) {
                self.state.unwound.insert(wait.tid, (wait.start, stack));
            }
        }
    }
}
