//! Each twin with the broker that it embeds: routes, events, load, shutdown and ground truth.
#![allow(
    dead_code,
    reason = "no single test file uses all of the support module"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on stdout that it is skipped"
)]

mod support;

use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use support::twin::{Service, Twin};
use support::{checks, tools};

fn twin_with_its_own_broker(twin: Twin) {
    let start = Instant::now();
    let service = Service::start(twin, &["--truth-every", "1"]);
    assert_eq!(service.ready["scenario"], twin.default_scenario());
    checks::routes(&service);
    let code = checks::clicks_arrive(&service, 20);
    let resolves = checks::load_is_served(&service, &code, 20);
    let running = service.process.event("truth", Duration::from_secs(5));
    assert_eq!(running["final"], false, "{running}");
    let truth = service.finish();
    checks::truth_is_plausible(twin, &truth, resolves, start.elapsed());
}

fn healthy_twin(twin: Twin) {
    let service = Service::start(twin, &["--scenario", "none"]);
    checks::clicks_arrive(&service, 5);
    let truth = service.finish();
    assert_eq!(
        (&truth["scenario"], &truth["blocked"]),
        (&"none".into(), &Value::Null)
    );
}

#[test]
fn rust_twin() {
    twin_with_its_own_broker(Twin::Rust);
}

#[test]
fn go_twin() {
    if tools::available("go_twin", &[tools::GO]) {
        twin_with_its_own_broker(Twin::Go);
    }
}

#[test]
fn rust_twin_without_a_fault() {
    healthy_twin(Twin::Rust);
}

#[test]
fn go_twin_without_a_fault() {
    if tools::available("go_twin_without_a_fault", &[tools::GO]) {
        healthy_twin(Twin::Go);
    }
}

#[test]
fn a_rate_is_kept() {
    let service = Service::start(Twin::Rust, &["--scenario", "none"]);
    let code = service.create_link(checks::URL);
    let arguments = ["--connections", "4", "--duration", "2s", "--rate", "100"];
    let summary = support::twin::load(&service, &code, &arguments);
    let requests = summary["requests"].as_u64().expect("requests");
    assert!((190..=201).contains(&requests), "{summary}");
}

#[test]
fn failures_say_what_and_end_with_the_right_code() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_demo-app"))
            .args(arguments)
            .output()
            .expect("run");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("UTF-8"),
        )
    };
    let (code, _) = run(&["serve", "--scenario", "nonsense"]);
    assert_eq!(code, Some(2));
    // Nobody can listen on port 1 of an address that is not this machine's (TEST-NET-1).
    let (code, text) = run(&["serve", "--listen", "192.0.2.1:1"]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(
        text.contains("192.0.2.1:1") && text.contains("--listen"),
        "{text}"
    );
    let (code, text) = run(&[
        "load",
        "--url",
        "http://127.0.0.1:1/",
        "--duration",
        "200ms",
        "--connections",
        "2",
    ]);
    assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}
