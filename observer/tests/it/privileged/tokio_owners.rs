//! Tasks of tokio on which others depend because of what they keep: the other end of a channel, a
//! connection.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::pair::{Pair, ids, owners, waiting};
use crate::support::report::list;
use crate::support::require::{Need, require};

const FIXTURE: &str = "tokio/dwarf/async_owners";
/// Tasks that wait at each channel.
const CROWD: f64 = 20.0;
/// Connections to the server.
const CONNECTIONS: usize = 8;

#[test]
fn who_has_the_other_end_of_a_channel_or_connection_is_told() {
    require!(Need::Privilege, Need::Fixture(FIXTURE));
    let pair = Pair::observe(FIXTURE);
    let (report, truths) = (&pair.report, &pair.server);

    let points = list(report, "meeting_points");
    for (sender, receiver) in [
        ("send_click", "blocking_consumer"),
        ("send_view", "sleeping_consumer"),
    ] {
        let waiting = ids(truths, &[sender]);
        let is_of = |point: &&Value| {
            let mut ids = list(&point["sides"][0], "sample_ids").iter();
            ids.any(|id| id.as_u64().is_some_and(|id| waiting.contains(&id)))
        };
        let point = points.iter().find(is_of);
        let point = point.unwrap_or_else(|| panic!("no crowd of {sender}: {points:#?}"));
        assert_eq!(
            (&point["kind"], &point["piled_up"]),
            (&"channel".into(), &true.into())
        );
        let mean = point["sides"][0]["mean"].as_f64().unwrap_or_default();
        assert!(mean > 0.8 * CROWD && mean <= CROWD, "{point:#}");
        let found = owners(point, "users", &["owns", "seen_waiting"]);
        assert_eq!(found, ids(truths, &[receiver]), "{point:#}");
        let user = &list(point, "users")[0];
        assert_eq!(user["direction"], "receive", "{point:#}");
        let doing = &user["doing"][0];
        let what = doing["what"].as_str().unwrap_or_default();
        let expected: &[&str] = match receiver {
            "blocking_consumer" => &["nanosleep", "clock_nanosleep"],
            _ => &["sleep"],
        };
        assert!(expected.contains(&what), "{point:#}");
    }

    let answers = points.iter().find(|point| point["kind"] == "oneshot");
    let answers = answers.unwrap_or_else(|| panic!("nobody waits for an answer: {points:#?}"));
    assert_eq!(waiting(answers), ids(truths, &["wait_for_reply"]));
    let found = owners(answers, "users", &["owns"]);
    assert_eq!(found, ids(truths, &["reply_late"]), "{answers:#}");
    assert_eq!(answers["users"][0]["doing"][0]["what"], "notify");

    let connections: Vec<&Value> = list(report, "connections")
        .iter()
        .filter(|connection| !list(connection, "users").is_empty())
        .collect();
    assert_eq!(
        connections.len(),
        CONNECTIONS,
        "{:#}",
        report["connections"]
    );
    let mut servers = BTreeSet::new();
    for connection in connections {
        let found = owners(connection, "users", &["owns"]);
        assert_eq!(found.len(), 1, "one task has it: {connection:#}");
        servers.extend(found);
        let doing = &connection["users"][0]["doing"][0];
        assert_eq!(doing["what"], "mutex", "{connection:#}");
    }
    assert_eq!(servers, ids(truths, &["serve_whole", "serve_halves"]));
    // From those who serve, on to the lock and the one who keeps it.
    let keeper = ids(truths, &["keep_lock"]);
    let nodes = list(&report["wait_graph"], "nodes");
    let label = |id: &Value| {
        let node = nodes.iter().find(|node| node["id"] == *id);
        node.and_then(|node| node["label"].as_str())
            .unwrap_or_default()
    };
    let edges = list(&report["wait_graph"], "edges");
    let serves = edges.iter().find(|edge| edge["kind"] == "serves");
    let serves = serves.unwrap_or_else(|| panic!("nobody serves: {edges:#?}"));
    let waits = edges
        .iter()
        .find(|edge| edge["kind"] == "waits" && edge["from"] == serves["from"])
        .unwrap_or_else(|| panic!("those who serve wait for nothing: {edges:#?}"));
    let holds = edges
        .iter()
        .find(|edge| edge["kind"] == "holds" && edge["to"] == waits["to"])
        .unwrap_or_else(|| panic!("nobody holds {}: {edges:#?}", label(&waits["to"])));
    let who = label(&holds["from"]);
    assert!(
        keeper.iter().all(|id| who.contains(&format!("task {id}"))),
        "{who}: {keeper:?}"
    );
}
