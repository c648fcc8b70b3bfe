//! Waits that reach over an end of the window: under way when it began, or not ended when it did.

use std::collections::HashMap;

use super::session::Session;
use super::state::SeedRead;
use crate::decode;
use crate::model::event::{Identity, OpenWait, SeedEvent, WaitClass};
use crate::model::{Mono, Tid};

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
        let classes: HashMap<u32, WaitClass> = self
            .maps
            .inflight()
            .map(|(tid, entry)| (tid, decode::wait::open(Tid(tid), &entry)))
            .filter(|(_, open)| open.key.seeded)
            .map(|(tid, open)| (tid, open.key.class))
            .collect();
        for seed in seeds {
            // Without an entry the thread ran on before it could be entered.
            if let Some(class) = classes.get(&seed.tid.0) {
                self.read_seed(&seed, *class);
            }
        }
    }

    fn read_seed(&mut self, seed: &SeedEvent, class: WaitClass) {
        let Some(target) = self
            .targets
            .iter_mut()
            .find(|t| t.process.id.pid == seed.pid)
        else {
            return;
        };
        target.learn_thread(seed.tid);
        let task = target.read_seed(seed, class);
        let user = (seed.ip != 0 && task.identity != Identity::Idle)
            .then(|| {
                self.state
                    .stacks
                    .read_blocked(target, (seed.ip, seed.sp, seed.bp))
            })
            .map(|stack| self.state.stacks.adopt(stack));
        let kernel = (!seed.kernel_stack.is_empty())
            .then(|| self.state.stacks.intern(None, &seed.kernel_stack, None))
            .map(|stack| self.state.stacks.adopt(stack));
        self.state
            .seeds
            .insert(seed.tid, SeedRead { task, user, kernel });
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
            for id in [(Some(key.pid), key.user_stack), (None, key.kernel_stack)] {
                if let (pid, Some(id)) = id {
                    self.state.stacks.fetch(pid, id, &self.maps);
                }
            }
            let unwound = match self.state.unwound.get(&wait.tid) {
                Some((start, stack)) if *start == wait.start => Some(*stack),
                _ if target.copy_stacks
                    && wait.ip != 0
                    && !wait.key.seeded
                    && target.ended.is_none()
                    && key.identity != Identity::Idle =>
                {
                    Some(
                        self.state
                            .stacks
                            .read_blocked(target, (wait.ip, wait.sp, wait.bp)),
                    )
                }
                _ => None,
            };
            self.state
                .ledger
                .add_open(key, now.since(wait.start), lower_bound, unwound);
        }
        count
    }
}
