//! What a descriptor stood for while it was open, as it is told after it was closed.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Running;
use crate::support::observer;
use crate::support::report::{check_completeness, functions, list, number};
use crate::support::require::{Need, fixture, require};
use crate::support::truth::{Program, WATCHED};

const START: Duration = Duration::from_secs(20);

/// The waits for an answer in a function.
fn asking<'a>(report: &'a Value, function: &str) -> Vec<&'a Value> {
    list(report, "blocking")
        .iter()
        .filter(|entry| {
            let within = |name: &&str| name.ends_with(function);
            entry["syscall"] == "recvfrom" && functions(entry).iter().any(within)
        })
        .collect()
}

#[test]
fn a_connection_that_ended_is_shown_and_several_by_one_number_are_not_called_one() {
    require!(Need::Privilege, Need::Fixture("native/connections"));
    let exe = fixture("native/connections");
    let server = Running::start(Command::new(&exe).arg("--serve"));
    let serving = server.event("serving", START);
    let address = serving["address"].as_str().expect("an address");
    let mut command = Command::new(&exe);
    command.args(Program::life().split(' '));
    let program = Program::run(command.args(["--server", address]));
    let report = observer::report(program.process.pid(), WATCHED, &[]);
    let truth = program.process.event("truth", START);
    check_completeness(&report);

    for (function, several) in [("talk_once", false), ("talk_anew", true)] {
        let entries = asking(&report, function);
        let [entry] = entries[..] else {
            panic!("one place, one thing: {entries:#?}");
        };
        let asked = number(&truth, function);
        let count = number(entry, "count");
        assert!(
            count >= 20 && count <= asked,
            "{count} of {asked}: {entry:#}"
        );
        let resource = &entry["resource"];
        assert_eq!(resource["kind"], "socket", "{entry:#}");
        assert_eq!(resource["peer"], address, "{entry:#}");
        let said = resource["state"].as_str().unwrap_or_default();
        let said = said.contains("several, one after the other");
        assert_eq!(said, several, "{entry:#}");
        assert_eq!(resource["local"].is_null(), several, "{entry:#}");
    }
}
