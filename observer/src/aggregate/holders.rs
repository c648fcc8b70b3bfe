//! Who probably held what tasks waited for: a futex does not say, but whoever lets go of a lock wakes
//! the next one.

use std::collections::HashMap;

use super::ledger::WakerKey;
use crate::model::cause::Cause;
use crate::model::event::WakerContext;
use crate::model::view::Holder;

/// Fewer wake-ups say nothing about who usually holds it.
const ENOUGH: u64 = 4;

/// Wake-ups of one entry, by task.
#[derive(Debug, Default)]
pub(super) struct Holders {
    all: u64,
    by_task: HashMap<String, (u64, HashMap<Option<String>, u64>)>,
}

impl Holders {
    /// Counts wake-ups by one waker, `described` for people.
    pub(super) fn add(&mut self, waker: &WakerKey, described: &(String, Option<String>), n: u64) {
        self.all += n;
        // An interrupt, or deferred work on some thread, holds no lock.
        if waker.context == WakerContext::Task && waker.identity.is_some() {
            let (count, sites) = self.by_task.entry(described.0.clone()).or_default();
            *count += n;
            *sites.entry(described.1.clone()).or_default() += n;
        }
    }

    /// Whose wake-ups ended at least half of the waits for a futex.
    pub(super) fn probable(self, cause: Cause) -> Option<Holder> {
        if cause != Cause::Futex || self.all < ENOUGH {
            return None;
        }
        let (task, (wake_ups, sites)) = self
            .by_task
            .into_iter()
            .max_by(|(a, x), (b, y)| x.0.cmp(&y.0).then_with(|| b.cmp(a)))?;
        let site = sites
            .into_iter()
            .max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
            .and_then(|(site, _)| site);
        (wake_ups * 2 >= self.all).then_some(Holder {
            task,
            site,
            wake_ups,
            of: self.all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::model::event::Identity;
    use crate::model::task::{TaskKind, TaskRef};

    fn holders(wakers: &[(WakerContext, u64, u64)]) -> Holders {
        let mut holders = Holders::default();
        for (context, id, n) in wakers {
            let task = TaskRef {
                kind: TaskKind::Thread,
                id: *id,
            };
            let key = WakerKey {
                pid: Pid(1),
                identity: Some(Identity::Task(task)),
                context: *context,
                stack: None,
            };
            let described = (format!("thread {id}"), Some(format!("site {id}")));
            holders.add(&key, &described, *n);
        }
        holders
    }

    #[test]
    fn whoever_wakes_most_probably_holds_it() {
        let found = holders(&[(WakerContext::Task, 7, 6), (WakerContext::Task, 8, 3)]);
        let found = found.probable(Cause::Futex).unwrap();
        assert_eq!(
            (found.task.as_str(), found.wake_ups, found.of),
            ("thread 7", 6, 9)
        );
        assert_eq!(found.site.as_deref(), Some("site 7"));
    }

    #[test]
    fn no_single_one_few_wake_ups_interrupts_and_other_waits_are_no_holder() {
        let split = [
            (WakerContext::Task, 7, 4),
            (WakerContext::Task, 8, 3),
            (WakerContext::Task, 9, 3),
        ];
        assert_eq!(holders(&split).probable(Cause::Futex), None);
        assert_eq!(
            holders(&[(WakerContext::Task, 7, 3)]).probable(Cause::Futex),
            None
        );
        assert_eq!(
            holders(&[(WakerContext::SoftIrq, 7, 9)]).probable(Cause::Futex),
            None
        );
        assert_eq!(
            holders(&[(WakerContext::Task, 7, 9)]).probable(Cause::Recv),
            None
        );
    }
}
