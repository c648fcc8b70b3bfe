//! Connections of hyper, which are futures written by hand: who waits for the other side, and what those do who
//! serve them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::pair::{Pair, ids, owners, waiting};
use crate::support::report::list;
use crate::support::require::{Need, require};

const FIXTURE: &str = "http/dwarf/http-fixture";
const CONNECTIONS: u64 = 3;

fn sample_ids(group: &Value) -> BTreeSet<u64> {
    let ids = list(group, "sample_ids").iter();
    ids.filter_map(Value::as_u64).collect()
}

/// Of the client's connections: the server's tasks that serve them, which must want the lock, and those that
/// wait for the client.
fn far_ends(report: &Value) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let connections = list(report, "connections")
        .iter()
        .filter(|connection| connection["target"] == 1);
    let (mut serve, mut wait) = (BTreeSet::new(), BTreeSet::new());
    for connection in connections {
        serve.extend(owners(connection, "users", &["owns"]));
        wait.extend(owners(connection, "waiting", &["owns", "seen_waiting"]));
        for user in list(connection, "users") {
            assert_eq!(user["doing"][0]["what"], "mutex", "{connection:#}");
        }
    }
    (serve, wait)
}

/// The answers that the client's requests wait for.
fn answers(pair: &Pair) -> &Value {
    let points = list(&pair.report, "meeting_points");
    let answers = points
        .iter()
        .find(|point| point["target"] == 1 && point["kind"] == "oneshot");
    let answers = answers.unwrap_or_else(|| panic!("nobody waits for an answer: {points:#?}"));
    assert_eq!(waiting(answers), ids(&pair.client, &["asks"]));
    answers
}

#[test]
fn connections_of_hyper_lead_to_their_handlers() {
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    let pair = Pair::observe(FIXTURE);
    let report = &pair.report;
    let group_of = |target: u64, wanted: &BTreeSet<u64>| {
        let census = list(report, "census").iter();
        let mut groups = census
            .filter(|census| census["target"] == target)
            .flat_map(|census| list(census, "groups"));
        groups
            .find(|group| sample_ids(group) == *wanted)
            .unwrap_or_else(|| panic!("no group of {wanted:?}: {:#}", report["census"]))
    };
    // Those without a request wait for their sockets, and that is told from the sockets that they own; those
    // with one do not, but for their handlers.
    for (target, truths, role, reason) in [
        (0, &pair.server, "idle", "socket"),
        (0, &pair.server, "busy", "mutex"),
        (1, &pair.client, "idle", "socket"),
        (1, &pair.client, "busy", "socket"),
    ] {
        let wanted = if reason == "socket" && target == 1 {
            // They are alike: of a client's connection both wait for the other side.
            ids(truths, &["idle", "busy"])
        } else {
            ids(truths, &[role])
        };
        let group = group_of(target, &wanted);
        assert_eq!(group["wait_reason"], reason, "{role}: {group:#}");
        if reason == "socket" {
            let resource = &group["resource"];
            assert_eq!(resource["kind"], "socket", "{group:#}");
            let end = if target == 0 { "local" } else { "peer" };
            assert_eq!(resource[end], pair.address.as_str(), "{group:#}");
        }
    }
    // Into the server: a connection with a request leads to its handler, an idle one to nobody.
    let (serve, wait) = far_ends(report);
    assert_eq!(serve, ids(&pair.server, &["busy"]));
    assert_eq!(wait, ids(&pair.server, &["idle"]));
    // Who asks waits for an answer, which the connection's task is to give.
    let answers = answers(&pair);
    let found = owners(answers, "users", &["owns"]);
    assert_eq!(found, ids(&pair.client, &["busy"]), "{answers:#}");
    // It was spawned in a box, which is not what it is called.
    let function = &answers["users"][0]["function"];
    let name = function["function"].as_str().unwrap_or_default();
    assert!(name.contains("http_fixture::drive"), "{answers:#}");
    let doing = &answers["users"][0]["doing"][0];
    assert_eq!(doing["what"], "socket", "{answers:#}");
    assert_eq!(doing["peer_target"], 0, "{answers:#}");
    // In the graph nobody waits for an idle connection.
    let edges = list(&report["wait_graph"], "edges");
    let connects: Vec<&Value> = edges
        .iter()
        .filter(|edge| edge["kind"] == "connects")
        .collect();
    assert_eq!(connects.len(), 1, "{edges:#?}");
    assert_eq!(connects[0]["to"], "process/0", "{edges:#?}");
    let serves: u64 = edges
        .iter()
        .filter(|edge| edge["kind"] == "serves")
        .filter_map(|edge| edge["weight"].as_u64())
        .sum();
    assert_eq!(serves, CONNECTIONS, "{edges:#?}");
}

#[test]
fn streams_of_http2_lead_to_their_handlers() {
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    let pair = Pair::observe_with(FIXTURE, &["--http2"]);
    let report = &pair.report;
    // A request waits for its answer, which a task of the library is to give that waits for its stream.
    let answers = answers(&pair);
    let library = ids(&pair.client, &["library"]);
    let senders = owners(answers, "users", &["owns"]);
    assert_eq!(senders.len(), waiting(answers).len(), "{answers:#}");
    assert!(senders.is_subset(&library), "{answers:#}");
    let doing = &answers["users"][0]["doing"][0];
    assert_eq!(doing["what"], "socket read", "{answers:#}");
    assert_eq!(doing["peer_target"], 0, "{answers:#}");
    // They wait on the sockets of their connections, of which there are fewer.
    let census = list(report, "census").iter();
    let mut groups = census
        .filter(|census| census["target"] == 1)
        .flat_map(|census| list(census, "groups"));
    let streams = groups.find(|group| sample_ids(group).is_subset(&senders));
    let resource = &streams.expect("they are listed")["resource"];
    assert_eq!(resource["peer"], pair.address.as_str());
    assert_eq!(resource["state"], "2 different ones");
    // On the other side handlers are there for that, and the connections' own tasks wait for this side.
    let (serve, wait) = far_ends(report);
    assert_eq!(serve, ids(&pair.server, &["handler"]));
    assert_eq!(wait, ids(&pair.server, &["connection"]));
}
