//! Chains, and what is and what is no candidate for a deadlock.

use super::*;
use crate::model::FrameKind;
use crate::model::meeting::SideSite;

fn frame(function: &str) -> Known<Frame> {
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

fn side(direction: Option<Direction>, mean: f64, stuck: &[u64]) -> Side {
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

fn user(direction: Option<Direction>, ids: &[u64], doing: Vec<Doing>) -> User {
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

fn doing(what: &str, resource: Resource, peer_target: Option<usize>) -> Doing {
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

fn meeting(kind: WaitKind, address: u64, sides: Vec<Side>, users: Vec<User>) -> Meeting {
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

fn targets() -> Vec<Named> {
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

const SEND: Option<Direction> = Some(Direction::Send);
const RECEIVE: Option<Direction> = Some(Direction::Receive);

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

fn socket(local: &str, peer: &str) -> Resource {
    Resource {
        kind: "socket",
        fd: Some(5),
        local: Some(local.to_owned()),
        peer: Some(peer.to_owned()),
        ..Resource::default()
    }
}

/// Handlers wait for a consumer, which waits for the other process.
fn asks(peer_target: Option<usize>) -> Meeting {
    let ask = doing(
        "IO wait",
        socket("127.0.0.1:4000", "127.0.0.1:5432"),
        peer_target,
    );
    meeting(
        WaitKind::Channel,
        0xc1,
        vec![side(SEND, 100.0, &[])],
        vec![user(RECEIVE, &[7], vec![ask])],
    )
}

fn connection(users: Vec<User>, unknown: Option<&str>) -> Connection {
    Connection {
        target: 0,
        fd: 5,
        peer_target: 1,
        peer_fd: 9,
        local: Some("127.0.0.1:4000".to_owned()),
        peer: Some("127.0.0.1:5432".to_owned()),
        samples: 10,
        users,
        users_cut: false,
        unknown: unknown.map(|text| crate::model::Reason::with(text.to_owned())),
    }
}

fn across(
    meetings: &mut [Meeting],
    connections: &mut [Connection],
    groups: &[CensusGroup],
) -> (WaitGraph, Vec<String>) {
    crate::correlate::doings::lead_on(meetings, connections, &mut []);
    let graph = super::build(&Facts {
        meetings,
        connections,
        groups,
        blocking: &[],
        targets: &targets(),
    });
    let label = |id: &str| {
        let node = graph.nodes.iter().find(|n| n.id == id).unwrap();
        node.label.clone()
    };
    let edges = graph
        .edges
        .iter()
        .map(|e| {
            format!(
                "{} {} {} [{}]",
                label(&e.from),
                e.kind,
                label(&e.to),
                e.evidence
            )
        })
        .collect();
    (graph, edges)
}

fn has(edges: &[String], text: &str) {
    assert!(
        edges.iter().any(|e| e.contains(text)),
        "{text} not in {edges:#?}"
    );
}

#[test]
fn a_chain_goes_on_into_the_other_process_to_where_its_task_waits() {
    let lock = Resource {
        kind: "mutex",
        address: Some(0xd1),
        ..Resource::default()
    };
    let mut meetings = [
        asks(None),
        // In the other process: one that would not be shown by itself.
        Meeting {
            target: 1,
            ..meeting(
                WaitKind::Mutex,
                0xd1,
                vec![side(None, 0.2, &[40])],
                vec![user(None, &[41], vec![])],
            )
        },
    ];
    let server = user(None, &[40], vec![doing("sync.Mutex.Lock", lock, None)]);
    let (graph, edges) = across(&mut meetings, &mut [connection(vec![server], None)], &[]);
    assert_eq!(meetings[0].users[0].doing[0].peer_target, Some(1));
    assert_eq!(meetings[0].users[0].doing[0].connections, [0]);
    let to_socket = "socket 127.0.0.1:4000 -> 127.0.0.1:5432";
    has(&edges, &format!("{to_socket} connects db (pid 2)"));
    has(
        &edges,
        &format!(
            "goroutine 40 of db (pid 2) (main.uses main.go:7) serves {to_socket} [a frame of its stack holds its other end in 9 of 9 samples]"
        ),
    );
    has(
        &edges,
        "goroutine 40 of db (pid 2) (main.uses main.go:7) waits mutex 0xd1",
    );
    has(
        &edges,
        "goroutine 41 (main.uses main.go:7) holds mutex 0xd1",
    );
    assert!(!edges.iter().any(|e| e.contains("not known")), "{edges:#?}");
    assert!(graph.deadlock_candidates.is_empty());
}

#[test]
fn other_connections_and_descriptors_lead_nowhere() {
    let server = || user(None, &[40], vec![]);
    let changes: [fn(&mut Connection); 3] = [
        |c| c.fd = 6,
        |c| c.target = 1,
        |c| c.peer = Some("127.0.0.1:80".to_owned()),
    ];
    for change in changes {
        let mut connection = connection(vec![server()], None);
        change(&mut connection);
        let (_, edges) = across(&mut [asks(None)], &mut [connection], &[]);
        assert!(
            !edges.iter().any(|e| e.contains(") serves socket")),
            "{edges:#?}"
        );
    }
}

fn group(target: usize, mean: f64, nature: crate::model::view::Nature) -> CensusGroup {
    CensusGroup {
        target,
        state: "waiting".to_owned(),
        wait_reason: Some("sleep".to_owned()),
        cause: None,
        count: mean as u64,
        mean,
        max: mean as u64,
        share: 0.5,
        share_error: None,
        nature,
        oldest_ns: None,
        site: Some(format!("main.slow{mean}")),
        stack: Vec::new(),
        created_by: None,
        resource: None,
        place: None,
        fds: Vec::new(),
        connections: Vec::new(),
        sample_ids: Vec::new(),
    }
}

#[test]
fn who_may_serve_is_told_apart_from_who_does() {
    use crate::model::view::Nature;
    let groups = [
        group(1, 3.0, Nature::Blocked),
        group(1, 9.0, Nature::Blocked),
        group(1, 5.0, Nature::System),
        group(0, 7.0, Nature::Blocked),
    ];
    let nobody = "in 9 samples nobody was";
    let (_, edges) = across(
        &mut [asks(None)],
        &mut [connection(vec![], Some(nobody))],
        &groups,
    );
    has(
        &edges,
        &format!(
            "connects db (pid 2) [the process holds the other end of the connection; who serves it there is not known: {nobody}]"
        ),
    );
    let may: Vec<&String> = edges.iter().filter(|e| e.contains(" has ")).collect();
    assert_eq!(may.len(), 2, "{edges:#?}");
    assert!(may[0].contains("db (pid 2) has 9 goroutines in sleep at main.slow9"));
    assert!(
        may.iter()
            .all(|e| e.contains("whether they have to do with the connection is not known"))
    );
    // Known by its address only.
    let (_, edges) = across(&mut [asks(Some(1))], &mut [], &groups);
    has(&edges, "its descriptor there was not found");
    assert!(
        !edges.iter().any(|e| e.contains(") serves socket")),
        "{edges:#?}"
    );
}

#[test]
fn two_processes_that_wait_for_each_other_end_and_are_no_deadlock() {
    let back = doing("IO wait", socket("127.0.0.1:5432", "127.0.0.1:4000"), None);
    let back = Doing {
        fds: vec![9],
        fds_left_out: 0,
        ..back
    };
    let there = connection(vec![user(None, &[40], vec![back])], None);
    let here = Connection {
        target: 1,
        fd: 9,
        peer_target: 0,
        peer_fd: 5,
        local: there.peer.clone(),
        peer: there.local.clone(),
        users: vec![user(
            None,
            &[7],
            vec![doing(
                "IO wait",
                socket("127.0.0.1:4000", "127.0.0.1:5432"),
                None,
            )],
        )],
        ..there.clone()
    };
    let (graph, edges) = across(&mut [asks(None)], &mut [there, here], &[]);
    // Neither is said to do anything for the other.
    has(
        &edges,
        "goroutine 40 of db (pid 2) (main.uses main.go:7) awaits socket 127.0.0.1:4000 -> 127.0.0.1:5432",
    );
    assert!(
        !edges.iter().any(|e| e.contains(") serves socket")),
        "{edges:#?}"
    );
    assert!(graph.deadlock_candidates.is_empty());
}

#[test]
fn tasks_of_one_function_are_one_with_the_weakest_evidence() {
    let sleeps = |id: u64, evidence| User {
        evidence,
        ..user(None, &[id], vec![doing("sleep", Resource::default(), None)])
    };
    let first = connection(vec![sleeps(40, UserEvidence::SeenWaiting)], None);
    let second = Connection {
        fd: 6,
        peer_fd: 10,
        ..connection(vec![sleeps(41, UserEvidence::StackRefers)], None)
    };
    let mut asks = asks(None);
    asks.users[0].doing[0].fds = vec![5, 6];
    let (_, edges) = across(&mut [asks], &mut [first, second], &[]);
    has(
        &edges,
        "2 goroutines of db (pid 2) (main.uses main.go:7) serves socket 127.0.0.1:4000 -> 127.0.0.1:5432 [a frame of its stack holds its other end in 18 of 18 samples]",
    );
}
