//! Each twin with a real Apache Kafka broker: the records that it publishes are read back.
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

use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use support::kafka::Kafka;
use support::twin::{Service, Twin};
use support::{checks, tools};

/// One Java virtual machine at a time is enough for a small machine.
static ONE_BROKER: Mutex<()> = Mutex::new(());

fn twin_with_real_kafka(twin: Twin) {
    let _turn = ONE_BROKER.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka = Kafka::start();
    let start = Instant::now();
    let service = Service::start(
        twin,
        &["--brokers", &kafka.servers, "--topic", "test-clicks"],
    );
    assert_eq!(service.brokers(), kafka.servers);
    let code = checks::clicks_arrive(&service, 50);
    let resolves = checks::load_is_served(&service, &code, 50);
    let truth = service.finish();
    checks::truth_is_plausible(twin, &truth, resolves, start.elapsed());
    // A second run finds the topic there and goes on: everything is still in it.
    let again = Service::start(
        twin,
        &["--brokers", &kafka.servers, "--topic", "test-clicks"],
    );
    let records = support::consume::records(again.brokers(), "test-clicks", resolves as usize);
    assert!(
        records
            .iter()
            .all(|(key, click)| *key == code && click["url"] == checks::URL)
    );
    let last = records.last().and_then(|(_, click)| click["seq"].as_u64());
    assert_eq!(
        last,
        Some(resolves),
        "no click is missing and none is double"
    );
}

#[test]
fn rust_twin_with_real_kafka() {
    if tools::available("rust_twin_with_real_kafka", &[tools::JAVA, tools::MAVEN]) {
        twin_with_real_kafka(Twin::Rust);
    }
}

#[test]
fn go_twin_with_real_kafka() {
    if tools::available(
        "go_twin_with_real_kafka",
        &[tools::GO, tools::JAVA, tools::MAVEN],
    ) {
        twin_with_real_kafka(Twin::Go);
    }
}
