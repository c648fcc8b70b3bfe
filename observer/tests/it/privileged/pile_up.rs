//! Thousands of goroutines wait to send on one channel: the report names the channel, both its sites,
//! and the slow server that its receivers wait for, without any probe inside the program.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, list, number};
use crate::support::require::{Need, fixture, require};

const START: Duration = Duration::from_secs(20);

/// The slow server and the program whose consumers ask it.
struct Pile {
    server: Running,
    program: Running,
    address: String,
    ready: Value,
}

fn start(name: &str, handlers: &str) -> Pile {
    start_with(name, handlers, "4", "1")
}

/// Each consumer asks over so many connections of its own.
fn start_with(name: &str, handlers: &str, consumers: &str, connections: &str) -> Pile {
    let exe = fixture(name);
    let server = Running::start(Command::new(&exe).args(["-serve", "-delay", "50ms"]));
    let serving = server.event("serving", START);
    let address = serving["address"].as_str().expect("an address").to_owned();
    let program = Running::start(Command::new(&exe).args([
        "-server",
        &address,
        "-handlers",
        handlers,
        "-consumers",
        consumers,
        "-connections",
        connections,
    ]));
    let ready = program.event("ready", START);
    Pile {
        server,
        program,
        address,
        ready,
    }
}

fn function(site: &Value) -> &str {
    site["function"].as_str().unwrap_or_default()
}

/// The channel of the fixture among the meeting points, which must be the first.
fn check_channel<'a>(report: &'a Value, pile: &Pile, handlers: f64) -> &'a Value {
    let point = &report["meeting_points"][0];
    assert_eq!(point["kind"], "channel", "{point:#}");
    assert_eq!(point["address"], pile.ready["channel"], "{point:#}");
    assert_eq!(
        (&point["capacity"], &point["piled_up"]),
        (&0.into(), &true.into())
    );
    let side = &point["sides"][0];
    assert_eq!(side["direction"], "send");
    let mean = side["mean"].as_f64().expect("a mean");
    assert!(
        (mean - handlers).abs() <= handlers * 0.02,
        "{mean} of {handlers}"
    );
    assert_eq!(function(&side["sites"][0]["site"]), "main.handle");
    point
}

/// The consumers: by id, function, and what they wait for.
fn check_consumers(point: &Value, pile: &Pile) {
    let user = &point["users"][0];
    assert_eq!(function(&user["function"]), "main.consume", "{point:#}");
    assert_eq!(user["direction"], "receive", "{user:#}");
    assert_eq!(list(point, "users").len(), 1, "nobody else: {point:#}");
    let mut truth: Vec<u64> = list(&pile.ready, "consumers")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    truth.sort_unstable();
    let ids: Vec<u64> = list(user, "ids").iter().filter_map(Value::as_u64).collect();
    assert_eq!(ids, truth, "{user:#}");
    // Each of them has a connection of its own to the one server.
    let shares: f64 = list(user, "doing")
        .iter()
        .filter(|doing| doing["what"] == "IO wait")
        .map(|doing| {
            assert_eq!(function(&doing["site"]), "main.ask", "{doing:#}");
            let file = doing["site"]["file"].as_str().unwrap_or_default();
            assert!(file.ends_with("pile_up/main.go"), "{doing:#}");
            assert!(doing["descriptors_left_out"].is_null(), "{doing:#}");
            assert_eq!(
                doing["resource"]["peer"],
                pile.address.as_str(),
                "{doing:#}"
            );
            doing["share"].as_f64().unwrap_or_default()
        })
        .sum();
    assert!(shares > 0.8, "they wait for the server: {user:#}");
}

fn check_texts(report: &Value, pile: &Pile) {
    let verdict = report["verdict"].as_str().unwrap_or_default();
    let channel = pile.ready["channel"].as_str().unwrap_or_default();
    for text in [
        "wait to send on channel",
        channel,
        "main.handle",
        "main.consume",
        "IO wait at main.ask",
        &pile.address,
    ] {
        assert!(verdict.contains(text), "{text:?} is not in: {verdict}");
    }
    let graph = &report["wait_graph"];
    let label = |id: &Value| {
        list(graph, "nodes")
            .iter()
            .find(|node| node["id"] == *id)
            .and_then(|node| node["label"].as_str())
            .unwrap_or_default()
    };
    let has = |from: &str, kind: &str, to: &str| {
        list(graph, "edges").iter().any(|edge| {
            edge["kind"] == kind
                && label(&edge["from"]).contains(from)
                && label(&edge["to"]).contains(to)
        })
    };
    assert!(has("main.handle", "waits", channel), "{graph:#}");
    assert!(has("main.consume", "consumes", channel), "{graph:#}");
    assert!(has("main.consume", "waits", &pile.address), "{graph:#}");
}

#[test]
fn five_thousand_handlers_lead_to_the_slow_server() {
    require!(Need::Privilege, Need::Fixture("go/pile_up"));
    let pile = start("go/pile_up", "5000");
    let report = observer::report(pile.program.pid(), 5.0, &[]);
    let point = check_channel(&report, &pile, 5000.0);
    check_consumers(point, &pile);
    check_texts(&report, &pile);
    // What the program says of itself, less the main goroutine's sleep: nothing was missed.
    let tasks = &report["targets"][0]["tasks"];
    let listed: u64 = ["running", "runnable", "waiting", "in_syscall"]
        .iter()
        .map(|state| number(tasks, state))
        .sum();
    assert_eq!(listed, number(&pile.ready, "num_goroutine"), "{tasks}");
    let cost = &report["completeness"]["census"];
    assert!(number(cost, "samples") >= 3, "{cost}");
    check_completeness(&report);
}

#[test]
fn a_stripped_program_tells_the_same() {
    require!(Need::Privilege, Need::Fixture("go/pile_up-stripped"));
    let pile = start("go/pile_up-stripped", "200");
    let report = observer::report(pile.program.pid(), 3.0, &[]);
    let point = check_channel(&report, &pile, 200.0);
    check_consumers(point, &pile);
    check_texts(&report, &pile);
    let scheduler = &report["targets"][0]["scheduler"];
    let slots = std::thread::available_parallelism().map_or(0, usize::from);
    assert_eq!(
        number(scheduler, "slots"),
        slots as u64,
        "GOMAXPROCS without symbols: {scheduler}"
    );
}

#[test]
fn the_chain_goes_on_into_the_server_when_it_is_a_target_too() {
    require!(Need::Privilege, Need::Fixture("go/pile_up"));
    let pile = start("go/pile_up", "200");
    let server = pile.server.pid().to_string();
    let report = observer::report(pile.program.pid(), 3.0, &["-p", &server]);
    check_consumers(check_channel(&report, &pile, 200.0), &pile);
    let verdict = report["verdict"].as_str().unwrap_or_default();
    let name = format!("pile_up (pid {server})");
    assert!(
        verdict.contains(&format!("At the other end of that socket is {name}.")),
        "{verdict}"
    );
    for text in ["main.answer", "in sleep at main.slow", "by their stacks"] {
        assert!(verdict.contains(text), "{text:?} is not in: {verdict}");
    }
    check_connections(&report, &pile);
    check_chain(&report["wait_graph"], &name);
}

#[test]
fn descriptors_beyond_what_is_kept_of_one_place_are_counted() {
    require!(Need::Privilege, Need::Fixture("go/pile_up"));
    let pile = start_with("go/pile_up", "200", "40", "2");
    let server = pile.server.pid().to_string();
    let report = observer::report(pile.program.pid(), 5.0, &["-p", &server]);
    let point = check_channel(&report, &pile, 200.0);
    let waits: Vec<&Value> = list(&point["users"][0], "doing")
        .iter()
        .filter(|doing| doing["what"] == "IO wait")
        .collect();
    let [wait] = waits[..] else {
        panic!("all ask one server at one place: {point:#}");
    };
    let left_out = number(wait, "descriptors_left_out");
    println!("{left_out} of 80 descriptors left out");
    // 64 are kept; one of the others may have been waited on between two samples only.
    assert!((8..=80 - 64).contains(&left_out), "{wait:#}");
    let said = format!("more descriptors at one place than are kept ({left_out} left out)");
    let mut notes = list(&report, "notes").iter().filter_map(Value::as_str);
    assert!(
        notes.any(|note| note.contains(&said)),
        "{}",
        report["notes"]
    );
}

/// Each consumer's connection, with the one goroutine that the server started for it.
fn check_connections(report: &Value, pile: &Pile) {
    let program = list(report, "targets")
        .iter()
        .position(|target| target["pid"] == pile.program.pid());
    let connections: Vec<&Value> = list(report, "connections")
        .iter()
        .filter(|connection| connection["target"].as_u64() == program.map(|at| at as u64))
        .collect();
    assert_eq!(connections.len(), 4, "{:#}", report["connections"]);
    let mut truth: Vec<(u64, String)> = (0..4)
        .map(|_| accepted(&pile.server.event("accepted", START)))
        .collect();
    let mut found: Vec<(u64, String)> = connections
        .iter()
        .map(|connection| {
            assert_eq!(connection["peer"], pile.address.as_str(), "{connection:#}");
            let users = list(connection, "users");
            assert_eq!(users.len(), 1, "one goroutine: {connection:#}");
            assert_eq!(function(&users[0]["function"]), "main.answer");
            let doing = &users[0]["doing"][0];
            assert_eq!(
                (function(&doing["site"]), &doing["what"]),
                ("main.slow", &"sleep".into())
            );
            let share = doing["share"].as_f64().unwrap_or_default();
            assert!(share > 0.8, "{connection:#}");
            let ids = list(&users[0], "ids");
            assert_eq!(ids.len(), 1, "{connection:#}");
            let client = connection["local"].as_str().unwrap_or_default();
            (ids[0].as_u64().unwrap_or_default(), client.to_owned())
        })
        .collect();
    truth.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, truth, "by what the server says itself");
}

fn accepted(event: &Value) -> (u64, String) {
    let client = event["client"].as_str().unwrap_or_default();
    (number(event, "goroutine"), client.to_owned())
}

/// The edges lead from the consumers' socket over the server's goroutines to their sleep.
fn check_chain(graph: &Value, server: &str) {
    let label = |id: &Value| {
        let mut nodes = list(graph, "nodes").iter();
        nodes
            .find(|node| node["id"] == *id)
            .and_then(|node| node["label"].as_str())
            .unwrap_or_default()
    };
    let edge = |kind: &str, end: &str, id: &Value| {
        let mut edges = list(graph, "edges").iter();
        edges
            .find(|edge| edge["kind"] == kind && edge[end] == *id)
            .unwrap_or_else(|| panic!("no edge {kind} at {id}: {graph:#}"))
    };
    let connects = list(graph, "edges")
        .iter()
        .find(|edge| edge["kind"] == "connects")
        .unwrap_or_else(|| panic!("no way into the server: {graph:#}"));
    assert_eq!(label(&connects["to"]), server);
    let evidence = connects["evidence"].as_str().unwrap_or_default();
    assert!(!evidence.contains("not known"), "{evidence}");
    let serves = edge("serves", "to", &connects["from"]);
    let who = label(&serves["from"]);
    assert!(
        who.starts_with("4 goroutines of") && who.contains("main.answer"),
        "{who}"
    );
    let evidence = serves["evidence"].as_str().unwrap_or_default();
    assert!(
        evidence.contains("stack") && evidence.contains("samples"),
        "{evidence}"
    );
    let sleeps = edge("waits", "from", &serves["from"]);
    let what = label(&sleeps["to"]);
    assert!(what.starts_with("sleep at main.slow"), "{what}");
}
