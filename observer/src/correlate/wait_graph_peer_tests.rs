//! Ways into the process at the other end of a connection.

use super::tests::{RECEIVE, SEND, doing, frame, meeting, side, targets, user};
use super::*;
use crate::model::meeting::UserEvidence;

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
    groups: &mut [CensusGroup],
) -> (WaitGraph, Vec<String>) {
    crate::correlate::doings::lead_on(meetings, connections, groups);
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
    let (graph, edges) = across(
        &mut meetings,
        &mut [connection(vec![server], None)],
        &mut [],
    );
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
        let (_, edges) = across(&mut [asks(None)], &mut [connection], &mut []);
        assert!(
            !edges.iter().any(|e| e.contains(") serves socket")),
            "{edges:#?}"
        );
    }
}

fn group(target: usize, mean: f64, nature: Nature) -> CensusGroup {
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
        fds_whole: true,
        connections: Vec::new(),
        sample_ids: Vec::new(),
    }
}

#[test]
fn who_may_serve_is_told_apart_from_who_does() {
    let mut groups = [
        group(1, 3.0, Nature::Blocked),
        group(1, 9.0, Nature::Blocked),
        group(1, 5.0, Nature::System),
        group(0, 7.0, Nature::Blocked),
    ];
    let nobody = "in 9 samples nobody was";
    let (_, edges) = across(
        &mut [asks(None)],
        &mut [connection(vec![], Some(nobody))],
        &mut groups,
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
    let (_, edges) = across(&mut [asks(Some(1))], &mut [], &mut groups);
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
    let (graph, edges) = across(&mut [asks(None)], &mut [there, here], &mut []);
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
    let (_, edges) = across(&mut [asks], &mut [first, second], &mut []);
    has(
        &edges,
        "2 goroutines of db (pid 2) (main.uses main.go:7) serves socket 127.0.0.1:4000 -> 127.0.0.1:5432 [a frame of its stack holds its other end in 18 of 18 samples]",
    );
}

/// Tasks that wait on two connections, and what those of the other side do that have these.
fn called(does: Option<&dyn Fn(i32) -> Doing>) -> Vec<String> {
    called_by(2.0, true, does).1
}

/// The same with so many tasks, of whose descriptors these two may be all.
fn called_by(
    tasks: f64,
    fds_whole: bool,
    does: Option<&dyn Fn(i32) -> Doing>,
) -> (WaitGraph, Vec<String>) {
    let callers = CensusGroup {
        wait_reason: Some("socket read".to_owned()),
        place: frame("main.ask").known().cloned(),
        fds: vec![5, 6],
        fds_whole,
        ..group(0, tasks, Nature::Blocked)
    };
    let users = |peer_fd: i32| {
        let doing = does.map(|does| does(peer_fd));
        let owner = doing.map(|doing| User {
            evidence: UserEvidence::Owns,
            ..user(None, &[peer_fd as u64], vec![doing])
        });
        owner.into_iter().collect()
    };
    let first = connection(users(9), None);
    let second = Connection {
        fd: 6,
        peer_fd: 10,
        local: Some("127.0.0.1:4002".to_owned()),
        ..connection(users(10), None)
    };
    across(&mut [], &mut [first, second], &mut [callers])
}

#[test]
fn requests_that_share_connections_count_each() {
    for (fds_whole, wanted) in [(true, 6), (false, 2)] {
        let lock = |_| doing("mutex", Resource::default(), None);
        let (graph, edges) = called_by(6.0, fds_whole, Some(&lock));
        let waits = graph.edges.iter().find(|edge| {
            edge.kind == "waits" && edge.evidence.contains("2 of 2 descriptors looked at")
        });
        let weight = waits.map(|edge| edge.weight);
        assert_eq!(weight, Some(wanted), "{edges:#?}");
    }
}

#[test]
fn tasks_that_wait_on_connections_lead_to_those_who_serve_them() {
    let lock = Resource {
        kind: "mutex",
        address: Some(0xab),
        ..Resource::default()
    };
    let edges = called(Some(&|_| doing("mutex", lock.clone(), None)));
    for text in [
        "2 goroutines at main.ask main.go:7 waits socket to 127.0.0.1:5432",
        "socket to 127.0.0.1:5432 connects db (pid 2)",
        "serves socket to 127.0.0.1:5432 [its future has the other end in",
        "waits mutex 0xab",
    ] {
        has(&edges, text);
    }
}

#[test]
fn idle_connections_and_those_of_nobody_known_are_not_shown_by_themselves() {
    let waits = |peer_fd| Doing {
        fds: vec![peer_fd],
        ..doing(
            "socket read",
            socket("127.0.0.1:5432", "127.0.0.1:4000"),
            None,
        )
    };
    assert!(called(Some(&waits)).is_empty());
    assert!(called(None).is_empty());
}
