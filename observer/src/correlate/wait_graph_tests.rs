//! Chains, and what is and what is no candidate for a deadlock.

use super::*;
use crate::model::meeting::{SideSite, UserEvidence};
use crate::model::{Frame, FrameKind, Known};

pub(super) fn frame(function: &str) -> Known<Frame> {
    Known::Known(Frame {
        address: 0x40_1000,
        function: Some(function.into()),
        file: Some("/src/app/main.go".into()),
        line: Some(7),
        module: Some("app".into()),
        module_offset: None,
        kind: FrameKind::User,
        unknown_reason: None,
    })
}

pub(super) fn side(direction: Option<Direction>, mean: f64, stuck: &[u64]) -> Side {
    Side {
        direction,
        last: mean as u64,
        mean,
        max: mean as u64,
        oldest_ns: Some(2_000_000_000),
        sites: vec![SideSite {
            site: frame("main.waits"),
            created_by: None,
            mean,
        }],
        sample_ids: stuck.to_vec(),
        stuck: stuck.to_vec(),
    }
}

pub(super) fn user(direction: Option<Direction>, ids: &[u64], doing: Vec<Doing>) -> User {
    User {
        direction,
        ids: ids.to_vec(),
        count: ids.len() as u64,
        function: frame("main.uses"),
        evidence: UserEvidence::StackRefers,
        seen: (9, 9),
        doing,
    }
}

pub(super) fn doing(what: &str, resource: Resource, peer_target: Option<usize>) -> Doing {
    Doing {
        what: what.to_owned(),
        site: frame("main.calls"),
        resource: Some(resource),
        share: 0.9,
        total_ns: None,
        source: Source::Census,
        active: false,
        peer_target,
        fds: vec![5],
        fds_left_out: 0,
        connections: Vec::new(),
    }
}

pub(super) fn meeting(kind: WaitKind, address: u64, sides: Vec<Side>, users: Vec<User>) -> Meeting {
    Meeting {
        target: 0,
        kind,
        address,
        len: (kind == WaitKind::Channel).then_some(0),
        capacity: (kind == WaitKind::Channel).then_some(0),
        samples: 10,
        sides,
        users,
        users_cut: false,
        conclusive: true,
        doubts: Vec::new(),
    }
}

pub(super) fn targets() -> Vec<Named> {
    let named = |name: &str| Named {
        name: name.to_owned(),
        noun: "goroutine",
    };
    vec![named("app (pid 1)"), named("db (pid 2)")]
}

/// The graph of one process.
fn build(meetings: &[Meeting], targets: &[Named]) -> WaitGraph {
    super::build(&Facts {
        meetings,
        targets,
        ..Facts::default()
    })
}

pub(super) const SEND: Option<Direction> = Some(Direction::Send);
pub(super) const RECEIVE: Option<Direction> = Some(Direction::Receive);

#[test]
fn a_chain_leads_from_the_crowd_through_channels_to_the_peer() {
    let socket = Resource {
        kind: "socket",
        fd: Some(5),
        local: Some("127.0.0.1:4000".to_owned()),
        peer: Some("127.0.0.1:5432".to_owned()),
        ..Resource::default()
    };
    let inner = Resource {
        kind: "channel",
        address: Some(0xc2),
        ..Resource::default()
    };
    let meetings = [
        meeting(
            WaitKind::Channel,
            0xc1,
            vec![side(SEND, 100.0, &[])],
            vec![user(
                RECEIVE,
                &[7],
                vec![doing("chan receive", inner, None)],
            )],
        ),
        meeting(
            WaitKind::Channel,
            0xc2,
            vec![side(RECEIVE, 1.0, &[7])],
            vec![user(SEND, &[8], vec![doing("IO wait", socket, Some(1))])],
        ),
        // Workers without work lead nowhere.
        meeting(
            WaitKind::Channel,
            0xc3,
            vec![side(RECEIVE, 50.0, &[])],
            vec![],
        ),
    ];
    let graph = build(&meetings, &targets());
    let notes = &graph.deadlock_candidates;
    assert!(notes.is_empty(), "{notes:?}");
    let label = |id: &str| {
        let node = graph.nodes.iter().find(|n| n.id == id).unwrap();
        node.label.clone()
    };
    let edges: Vec<String> = graph
        .edges
        .iter()
        .map(|e| format!("{} {} {}", label(&e.from), e.kind, label(&e.to)))
        .collect();
    let expected = [
        "100 goroutines at main.waits main.go:7 waits channel 0xc1 (unbuffered)",
        "goroutine 7 (main.uses main.go:7) consumes channel 0xc1 (unbuffered)",
        "goroutine 8 (main.uses main.go:7) wakes channel 0xc2",
        "goroutine 8 (main.uses main.go:7) waits socket 127.0.0.1:4000 -> 127.0.0.1:5432",
        "socket 127.0.0.1:4000 -> 127.0.0.1:5432 connects db (pid 2)",
    ];
    for text in expected {
        assert!(
            edges.iter().any(|e| e.starts_with(text)),
            "{text} not in {edges:#?}"
        );
    }
    assert!(!graph.nodes.iter().any(|n| n.label.contains("0xc3")));
}

/// Goroutine 1 waits for b and holds a, goroutine 2 the other way round.
fn crossed() -> Vec<Meeting> {
    let lock = |address, waiter, holder| {
        meeting(
            WaitKind::Mutex,
            address,
            vec![side(None, 1.0, &[waiter])],
            vec![user(None, &[holder], vec![])],
        )
    };
    vec![lock(0xa, 2, 1), lock(0xb, 1, 2)]
}

#[test]
fn two_locks_taken_crosswise_are_a_candidate() {
    let notes = build(&crossed(), &targets()).deadlock_candidates;
    assert_eq!(notes.len(), 1, "{notes:?}");
    for text in [
        "goroutine 2 waits for mutex 0xa, which goroutine 1 may hold",
        "goroutine 1 waits for mutex 0xb, which goroutine 2 may hold",
    ] {
        assert!(notes[0].contains(text), "{text} not in {}", notes[0]);
    }
}

#[test]
fn whatever_may_still_move_is_no_candidate() {
    type Change = fn(&mut Vec<Meeting>);
    let changes: [(&str, Change); 10] = [
        ("somebody may hold an object with it", |m| {
            m[0].doubts.push(9);
        }),
        ("it moved in between", |m| m[0].sides[0].stuck.clear()),
        ("it was not there in all samples", |m| m[1].sides[0].max = 2),
        ("somebody else refers to it", |m| {
            m[0].users.push(user(None, &[9], vec![]));
        }),
        ("not all users were kept", |m| m[0].users_cut = true),
        ("a running task was never looked at", |m| {
            m[0].conclusive = false;
        }),
        ("too few samples", |m| m[1].samples = 3),
        ("nobody is known to hold it", |m| m[1].users.clear()),
        ("it waits to receive", |m| {
            m[0].kind = WaitKind::Channel;
            m[0].sides[0].direction = RECEIVE;
        }),
        ("another process", |m| m[1].target = 1),
    ];
    for (why, change) in changes {
        let mut meetings = crossed();
        change(&mut meetings);
        let notes = build(&meetings, &targets()).deadlock_candidates;
        assert!(notes.is_empty(), "{why}: {notes:?}");
    }
}

#[test]
fn a_way_into_a_cycle_is_not_part_of_it() {
    let mut meetings = crossed();
    meetings.push(meeting(
        WaitKind::Channel,
        0x1,
        vec![side(SEND, 1.0, &[3])],
        vec![user(RECEIVE, &[1], vec![])],
    ));
    let notes = build(&meetings, &targets()).deadlock_candidates;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(!notes[0].contains("goroutine 3"), "{}", notes[0]);
}
