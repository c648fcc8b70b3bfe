//! Two processes of one fixture, a server and its client, observed together.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::child::Running;
use super::observer;
use super::report::list;
use super::require::fixture;
use super::truth::{Program, Truth, WATCHED};

const START: Duration = Duration::from_secs(20);

/// What was seen of them, and what they say of themselves.
pub struct Pair {
    /// The server is the first target.
    pub report: Value,
    /// The server's tasks.
    pub server: Vec<Truth>,
    /// The client's tasks.
    pub client: Vec<Truth>,
    /// Where the server listens.
    pub address: String,
}

impl Pair {
    /// Runs a fixture that says `serving`, and again with `--connect ADDRESS`; observes both.
    pub fn observe(name: &str) -> Self {
        Self::observe_with(name, &[])
    }

    /// The same with arguments for both.
    pub fn observe_with(name: &str, arguments: &[&str]) -> Self {
        let exe = fixture(name);
        let start = || {
            let mut command = Command::new(&exe);
            command.args(Program::life().split(' ')).args(arguments);
            command
        };
        let server = Running::start(&mut start());
        let serving = server.event("serving", START);
        let address = serving["address"].as_str().expect("an address").to_owned();
        let client = Program::run(start().args(["--connect", &address]));
        server.event("ready", START);
        let other = client.process.pid().to_string();
        let report = observer::report(server.pid(), WATCHED, &["-p", &other]);
        let server = Program { process: server };
        Self {
            report,
            server: server.finish(),
            client: client.finish(),
            address,
        }
    }
}

/// The tasks with these roles.
pub fn ids(truths: &[Truth], roles: &[&str]) -> BTreeSet<u64> {
    truths
        .iter()
        .filter(|truth| roles.contains(&&*truth.kind))
        .map(|truth| truth.id)
        .collect()
}

/// Ids of those who wait at a meeting point: of the first side, bounded.
pub fn waiting(point: &Value) -> BTreeSet<u64> {
    let side = &point["sides"][0];
    let ids = list(side, "sample_ids").iter();
    ids.filter_map(Value::as_u64).collect()
}

/// Ids of users of a place, all of whom must be known in one of these ways.
pub fn owners(place: &Value, list_name: &str, evidence: &[&str]) -> BTreeSet<u64> {
    let users = list(place, list_name);
    for user in users {
        let known = user["evidence"].as_str().unwrap_or_default();
        assert!(evidence.contains(&known), "{user:#}");
    }
    users
        .iter()
        .flat_map(|user| list(user, "ids"))
        .filter_map(Value::as_u64)
        .collect()
}
