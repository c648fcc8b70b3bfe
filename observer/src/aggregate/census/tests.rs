//! Groups, shares and meeting points over made-up censuses.

use super::rollup::roll_up;
use super::*;
use crate::model::census::{Mention, Reference, Uses};
use crate::model::meeting::UserEvidence;
use crate::model::names::CensusNames;
use crate::model::view::Nature;
use crate::model::{Frame, FrameKind, Known, Resource};

pub(super) const S: u64 = 1_000_000_000;
const CHANNEL: u64 = 0xc0_0000_1000;
pub(super) const SEND_AT: u64 = 0x40_1000;
pub(super) const RECEIVE_AT: u64 = 0x40_2000;
pub(super) const FSYNC_AT: u64 = 0x40_3000;
const IDLE_AT: u64 = 0x40_4000;

pub(super) struct Names;

fn frame(address: u64) -> Frame {
    let function = match address {
        SEND_AT => "main.send",
        RECEIVE_AT => "main.consume",
        FSYNC_AT => "main.append",
        _ => "main.other",
    };
    Frame {
        address,
        function: Some(function.into()),
        file: Some("main.go".into()),
        line: Some(7),
        module: Some("app".into()),
        module_offset: None,
        kind: FrameKind::User,
        unknown_reason: None,
    }
}

impl CensusNames for Names {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        stack.iter().map(|a| frame(*a)).collect()
    }

    fn site(&self, stack: &[u64]) -> Known<Frame> {
        stack
            .first()
            .map_or(Known::unknown("no stack"), |a| Known::Known(frame(*a)))
    }

    fn function(&self, address: u64) -> Known<Frame> {
        Known::Known(frame(address))
    }

    fn descriptor(&self, fd: i32) -> Resource {
        Resource {
            kind: "socket",
            fd: Some(fd),
            ..Resource::default()
        }
    }

    fn peer_target(&self, _resource: &Resource) -> Option<usize> {
        None
    }
}

/// A census in the making.
pub(super) struct Sample(pub(super) Census);

impl Sample {
    pub(super) fn at(now: u64) -> Self {
        Self(Census::new(Mono(now)))
    }

    pub(super) fn task(
        &mut self,
        id: u64,
        state: TaskState,
        stack: &[u64],
        waits: &[WaitsOn],
    ) -> &mut CensusTask {
        let first = self.0.waits.len() as u32;
        self.0.waits.extend_from_slice(waits);
        let stack = (!stack.is_empty()).then(|| self.0.stacks.intern(stack));
        self.0.tasks.push(CensusTask {
            id,
            state,
            wait_reason: None,
            cause: None,
            blocked: state == TaskState::Waiting,
            system: false,
            leaked: false,
            thread: None,
            locked_to_thread: false,
            parent: None,
            created_at: None,
            entry: None,
            stack,
            occasion: id,
            ready_since: None,
            age: None,
            waits: first..self.0.waits.len() as u32,
        });
        self.0.tasks.last_mut().unwrap()
    }

    fn sender(&mut self, id: u64) {
        let task = self.task(
            id,
            TaskState::Waiting,
            &[SEND_AT],
            &[on(CHANNEL, Direction::Send)],
        );
        (task.wait_reason, task.cause) = (Some("chan send"), Some(Cause::Channel));
    }

    fn mention(&mut self, task: u64, pc: u64, uses: Uses) {
        self.0.mentions.push(Mention {
            task,
            address: CHANNEL,
            pc,
            uses,
            how: Reference::Direct,
        });
    }
}

fn on(address: u64, direction: Direction) -> WaitsOn {
    WaitsOn {
        address: Some(address),
        direction: Some(direction),
        len: Some(0),
        capacity: Some(0),
        ..WaitsOn::new(WaitKind::Channel)
    }
}

const RECEIVES: Uses = Uses {
    receives: true,
    sends: false,
    selects: false,
    locks: false,
};

#[test]
fn spread_is_mean_and_error_of_samples_with_absent_ones_as_zero() {
    let mut spread = Spread::default();
    for value in [10.0, 14.0] {
        spread.add(value);
    }
    assert!((spread.mean(4) - 6.0).abs() < 1e-9);
    // Values 10, 14, 0, 0: sd = 7.118, by sqrt(4).
    assert!((spread.error(4).unwrap() - 3.559).abs() < 1e-3);
    assert_eq!(spread.error(1), None);
    assert!((spread.max - 14.0).abs() < 1e-9);
}

#[test]
fn thousands_with_one_cause_are_one_group_and_rest_is_told_apart() {
    let mut ledger = CensusLedger::default();
    for sample in 0..4 {
        let mut census = Sample::at(sample * S);
        for id in 0..1000 + sample {
            census.sender(id);
        }
        for id in 5000..5010 {
            // Each at a channel of its own.
            let task = census.task(
                id,
                TaskState::Waiting,
                &[RECEIVE_AT],
                &[on(0x1000 + id * 8, Direction::Receive)],
            );
            task.wait_reason = Some("chan receive");
        }
        let idle = census.task(9000, TaskState::Waiting, &[IDLE_AT], &[]);
        (idle.system, idle.cause, idle.blocked) = (true, Some(Cause::Idle), false);
        census.task(9001, TaskState::Runnable, &[IDLE_AT], &[]);
        ledger.add(&mut census.0);
    }
    let rollup = roll_up(&ledger, 0, &Names);
    let [senders, receivers, runnable, idle] = rollup.groups.as_slice() else {
        panic!("{:#?}", rollup.groups);
    };
    assert_eq!((senders.count, senders.max), (1003, 1003));
    assert!((senders.mean - 1001.5).abs() < 1e-9, "{}", senders.mean);
    assert!((senders.share - 0.9881).abs() < 1e-3 && senders.share_error.unwrap() < 0.001);
    assert_eq!(senders.oldest_ns, Some(3 * S));
    let resource = senders.resource.as_ref().unwrap();
    assert_eq!(resource.address, Some(CHANNEL));
    assert_eq!(senders.sample_ids.len(), 8);
    let resource = receivers.resource.as_ref().unwrap();
    assert_eq!((receivers.count, resource.address), (10, None));
    assert_eq!(resource.state.as_deref(), Some("10 different ones"));
    assert_eq!(
        (runnable.nature, idle.nature),
        (Nature::Active, Nature::System)
    );
    // The runtime's own are not in the counts.
    assert_eq!(rollup.counts.waiting, Some(1013));
    assert_eq!(rollup.counts.runnable, Some(1));
}

#[test]
fn a_busy_receiver_is_known_by_its_stack_and_what_it_does_by_samples() {
    let mut ledger = CensusLedger::default();
    for sample in 0..11_u64 {
        let mut census = Sample::at(sample * S);
        for id in 0..100 {
            census.sender(id);
        }
        let state = if sample % 5 == 0 {
            TaskState::Running
        } else {
            TaskState::Syscall
        };
        let stack = [FSYNC_AT, RECEIVE_AT];
        census.task(
            7777,
            state,
            if state == TaskState::Running {
                &[]
            } else {
                &stack
            },
            &[],
        );
        if sample > 0 && state == TaskState::Syscall {
            census.mention(7777, RECEIVE_AT, RECEIVES);
        }
        // On its way out of the function that sends: no user of the other side.
        census.task(8888, TaskState::Runnable, &[SEND_AT], &[]);
        let sends = Uses {
            sends: true,
            ..Uses::default()
        };
        census.mention(8888, SEND_AT, sends);
        // One that waits there already needs no mention.
        census.mention(3, SEND_AT, RECEIVES);
        ledger.add(&mut census.0);
    }
    assert_eq!(ledger.to_watch(), [CHANNEL]);
    let rollup = roll_up(&ledger, 0, &Names);
    let [meeting] = rollup.meetings.as_slice() else {
        panic!("{:#?}", rollup.meetings);
    };
    assert!(meeting.pile().is_some() && meeting.sides.len() == 1);
    let [user] = meeting.users.as_slice() else {
        panic!("{:#?}", meeting.users);
    };
    assert_eq!(
        (user.ids.as_slice(), user.evidence),
        (&[7777][..], UserEvidence::StackRefers)
    );
    assert_eq!(user.direction, Some(Direction::Receive));
    assert_eq!(user.seen.0, 8);
    let shares: Vec<_> = user
        .doing
        .iter()
        .map(|d| (d.what.as_str(), d.active))
        .collect();
    assert_eq!(shares, [("syscall", false), ("running", true)]);
    assert!(user.doing[0].share > 0.7);
}

#[test]
fn a_receiver_that_was_seen_waiting_needs_no_stack() {
    let mut ledger = CensusLedger::default();
    for sample in 0..10_u64 {
        let mut census = Sample::at(sample * S);
        if sample == 0 {
            let waits = [on(CHANNEL, Direction::Receive)];
            census.task(7777, TaskState::Waiting, &[RECEIVE_AT], &waits);
            census.task(7778, TaskState::Waiting, &[RECEIVE_AT], &waits);
        } else {
            (0..100).for_each(|id| census.sender(id));
            census.task(7777, TaskState::Syscall, &[FSYNC_AT, RECEIVE_AT], &[]);
        }
        ledger.add(&mut census.0);
    }
    let rollup = roll_up(&ledger, 0, &Names);
    let user = &rollup.meetings[0].users[0];
    assert_eq!((user.evidence, user.count), (UserEvidence::SeenWaiting, 2));
    let name = user.function.known().unwrap().function.as_deref();
    assert_eq!(name, Some("main.consume"));
}

#[test]
fn only_what_never_moved_is_stuck() {
    let mut ledger = CensusLedger::default();
    for sample in 0..5_u64 {
        let mut census = Sample::at(sample * S);
        (1..=4).for_each(|id| census.sender(id));
        // 2 ran in between, 3 was elsewhere once, 4 waits for something else too.
        census.0.tasks[1].occasion += sample;
        if sample == 2 {
            census.0.tasks[2].state = TaskState::Runnable;
            census.0.tasks[2].blocked = false;
        }
        let extra = on(0x9000, Direction::Receive);
        census.0.waits.push(extra);
        census.0.tasks[3].waits.end += 1;
        ledger.add(&mut census.0);
    }
    let rollup = roll_up(&ledger, 0, &Names);
    let point = rollup
        .meetings
        .iter()
        .find(|m| m.address == CHANNEL)
        .unwrap();
    assert_eq!(point.sides[0].stuck, [1]);
    assert!(!point.conclusive, "the stacks were never searched");
}

#[test]
fn descriptors_count_once_and_unknown_ones_are_said() {
    let state_of = |fds: &[Option<i32>]| {
        let mut sample = Sample::at(S);
        for (id, fd) in (1..).zip(fds) {
            let mut wait = WaitsOn::new(WaitKind::Descriptor);
            wait.fd = *fd;
            sample.task(id, TaskState::Waiting, &[SEND_AT], &[wait]);
        }
        let mut ledger = CensusLedger::default();
        ledger.add(&mut sample.0);
        let rollup = roll_up(&ledger, 0, &Names);
        let [group] = rollup.groups.as_slice() else {
            panic!("{:#?}", rollup.groups);
        };
        let resource = group.resource.clone().unwrap();
        (resource.fd, resource.state, group.fds_whole)
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(state_of(&[Some(5), Some(5)]), (Some(5), None, true));
    let two = state_of(&[Some(5), Some(6), Some(5)]);
    assert_eq!(two, (None, said("2 different ones"), true));
    let partly = state_of(&[Some(5), None]);
    assert_eq!(partly, (None, said("1 known, of 1 wait not"), false));
    assert_eq!(state_of(&[None, None]), (None, None, false));
}

#[test]
fn bounds_hold_and_are_said() {
    let mut ledger = CensusLedger::default();
    let mut census = Sample::at(0);
    for id in 0..20_000_u64 {
        let waits = [on(0x1_0000 + id * 16, Direction::Receive)];
        census.task(id, TaskState::Waiting, &[0x50_0000 + id], &waits);
    }
    ledger.add(&mut census.0);
    assert_eq!(ledger.groups().len(), MAX_GROUPS);
    let said = ledger.left_out().join("; ");
    for text in [
        "in no group",
        "stacks of the task lists",
        "channels or locks",
    ] {
        assert!(said.contains(text), "{text} is not in {said}");
    }
}
