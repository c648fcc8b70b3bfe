//! Who is taken for those that serve a connection, over made-up censuses.

use super::*;
use crate::aggregate::census::tests::{FSYNC_AT, Names, RECEIVE_AT, S, SEND_AT, Sample};
use crate::model::Resource;
use crate::model::census::Holder;
use crate::model::census::WaitKind;
use crate::model::{Frame, Known};

const SOCKET: Socket = Socket { fd: 7, inode: 70 };
const LISTENER: i32 = 3;

/// One descriptor is a listening socket.
struct WithListener;

impl CensusNames for WithListener {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        Names.frames(stack)
    }

    fn site(&self, stack: &[u64]) -> Known<Frame> {
        Names.site(stack)
    }

    fn function(&self, address: u64) -> Known<Frame> {
        Names.function(address)
    }

    fn descriptor(&self, fd: i32) -> Resource {
        Resource {
            state: (fd == LISTENER).then(|| "tcp listen".to_owned()),
            ..Names.descriptor(fd)
        }
    }

    fn peer_target(&self, _resource: &Resource) -> Option<usize> {
        None
    }
}

fn on(fd: i32) -> WaitsOn {
    WaitsOn {
        fd: Some(fd),
        ..WaitsOn::new(WaitKind::Descriptor)
    }
}

fn holds(sample: &mut Sample, task: u64, pc: u64, how: Reference) {
    sample.0.holders.push(Holder {
        task,
        fd: SOCKET.fd,
        pc,
        how,
    });
}

/// Ten samples after the connection was asked for.
fn users(fill: impl Fn(u64, &mut Sample)) -> Vec<User> {
    let mut ledger = CensusLedger::default();
    ledger.watch_connections(&[SOCKET], 8);
    for number in 0..10 {
        let mut sample = Sample::at(number * S);
        fill(number, &mut sample);
        ledger.add(&mut sample.0);
    }
    let mut all = roll_up(&ledger, &WithListener);
    assert_eq!((all.len(), all[0].samples), (1, 10));
    all.remove(0).users
}

#[test]
fn a_task_serves_what_it_refers_to_while_it_does_something_else() {
    let found = users(|number, sample| {
        let waits = [on(SOCKET.fd)];
        let waits = if number == 0 { &waits[..] } else { &[] };
        sample.task(1, TaskState::Waiting, &[FSYNC_AT], waits);
        sample.task(2, TaskState::Waiting, &[SEND_AT], &[]);
        if number > 0 {
            holds(sample, 1, RECEIVE_AT, Reference::Direct);
        }
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].ids[..], found[0].seen), (&[1][..], (10, 10)));
    assert_eq!(found[0].evidence, UserEvidence::SeenWaiting);
    let shares: f64 = found[0].doing.iter().map(|doing| doing.share).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{found:?}");
}

#[test]
fn what_it_does_without_the_connection_does_not_count() {
    let found = users(|number, sample| {
        sample.task(1, TaskState::Waiting, &[FSYNC_AT], &[]);
        if number < 4 {
            holds(sample, 1, RECEIVE_AT, Reference::Direct);
        }
    });
    assert_eq!(found[0].seen, (4, 10));
    assert_eq!(found[0].evidence, UserEvidence::StackRefers);
    assert!((found[0].doing[0].share - 0.4).abs() < 1e-9, "{found:?}");
}

#[test]
fn whoever_accepts_and_what_lies_beside_an_object_are_left_out() {
    let found = users(|_, sample| {
        sample.task(1, TaskState::Waiting, &[FSYNC_AT], &[]);
        holds(sample, 1, RECEIVE_AT, Reference::Direct);
        sample.task(2, TaskState::Waiting, &[FSYNC_AT], &[]);
        holds(sample, 2, RECEIVE_AT, Reference::Through);
        sample.task(3, TaskState::Waiting, &[SEND_AT], &[on(LISTENER)]);
        holds(sample, 3, RECEIVE_AT, Reference::Direct);
        sample.task(4, TaskState::Waiting, &[SEND_AT], &[]).system = true;
        holds(sample, 4, RECEIVE_AT, Reference::Direct);
    });
    let ids: Vec<_> = found.iter().flat_map(|user| user.ids.clone()).collect();
    assert_eq!(ids, [1]);
    // Nobody holds the connection itself: then an object with it is the best that is known.
    let found = users(|_, sample| {
        sample.task(2, TaskState::Waiting, &[FSYNC_AT], &[]);
        holds(sample, 2, RECEIVE_AT, Reference::Through);
    });
    assert_eq!(found[0].evidence, UserEvidence::ObjectRefers);
}

#[test]
fn another_connection_under_the_same_descriptor_is_another_one() {
    let mut ledger = CensusLedger::default();
    for inode in [70, 71] {
        ledger.watch_connections(&[Socket { inode, ..SOCKET }], 8);
        let mut sample = Sample::at(inode * S);
        sample.task(inode, TaskState::Waiting, &[FSYNC_AT], &[on(SOCKET.fd)]);
        ledger.add(&mut sample.0);
    }
    assert!(ledger.left_out().is_empty());
    let found: Vec<_> = roll_up(&ledger, &Names)
        .iter()
        .map(|one| (one.socket.inode, one.samples, one.users[0].ids.clone()))
        .collect();
    assert_eq!(found, [(70, 1, vec![70]), (71, 1, vec![71])]);
    ledger.watch_connections(&[SOCKET, SOCKET], 1);
    assert_eq!(ledger.left_out().len(), 1);
}
