//! What is asked of both twins alike.

use super::consume;
use super::http;
use super::twin::{Service, Twin, load};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A link whose URL has characters that JSON and headers may treat specially.
pub const URL: &str = "https://example.com/shop?item=1&from=%22mail%22#top";

/// The routes that need no Kafka.
pub fn routes(service: &Service) {
    let health = http::get(&service.address, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!(service.resolve("nope").status, 404);
    assert_eq!(http::get(&service.address, "/nowhere").status, 404);
    for (body, status) in [
        (r#"{"url":"ftp://example.com/"}"#, 400),
        (r#"{"url":"http://example.com/\r\nX: y"}"#, 400),
        ("{", 400),
        ("{}", 422),
    ] {
        let answer = http::post(&service.address, "/links", body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        let error: Value = serde_json::from_str(&answer.body).expect("a JSON error");
        assert!(
            error["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{error}"
        );
    }
    let large = format!(r#"{{"url":"http://example.com/{}"}}"#, "x".repeat(20_000));
    assert_eq!(http::post(&service.address, "/links", &large).status, 413);
}

/// Resolves a link `count` times and reads the click events back from the broker.
pub fn clicks_arrive(service: &Service, count: u64) -> String {
    let before = now_ms();
    let code = service.create_link(URL);
    for _ in 0..count {
        let answer = service.resolve(&code);
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some(URL)),
            "{answer:?}"
        );
    }
    let metrics = service.metrics_with("demo_deliveries_total", count as f64);
    for series in [
        r#"demo_requests_total{route="/resolve/{code}",status="302"}"#,
        "demo_publishes_total",
        r#"demo_publish_duration_seconds_count{part="publish"}"#,
        r#"demo_publish_duration_seconds_count{part="all"}"#,
        "demo_delivery_duration_seconds_count",
    ] {
        assert!(
            (metrics.metric(series) - count as f64).abs() < f64::EPSILON,
            "{series}"
        );
    }
    let topic = service.ready["topic"].as_str().expect("topic");
    let records = consume::records(service.brokers(), topic, count as usize);
    for ((key, click), seq) in records.iter().zip(1..) {
        assert_eq!(key, &code);
        assert_eq!(click["code"], code.as_str());
        assert_eq!(click["url"], URL);
        assert_eq!(click["seq"], seq, "every click once, none missing");
        let at = click["at_ms"].as_u64().expect("a time");
        assert!((before..=now_ms()).contains(&at), "{at}");
    }
    code
}

/// Two seconds of load, after `resolved` single requests; returns the number of all resolves.
pub fn load_is_served(service: &Service, code: &str, resolved: u64) -> u64 {
    let summary = load(
        service,
        code,
        &["--connections", "20", "--duration", "2s", "--push"],
    );
    let requests = summary["requests"].as_u64().expect("requests");
    assert!(requests > 20, "{summary}");
    assert_eq!(summary["errors"], 0, "{summary}");
    let (p50, p99, max) = (&summary["p50_ns"], &summary["p99_ns"], &summary["max_ns"]);
    assert!(0 < p50.as_u64().expect("p50"), "{summary}");
    assert!(
        p50.as_u64() <= p99.as_u64() && p99.as_u64() <= max.as_u64(),
        "{summary}"
    );
    let all = resolved + requests;
    let metrics = service.metrics_with("demo_deliveries_total", all as f64);
    assert!((metrics.metric("demo_load_requests") - requests as f64).abs() < f64::EPSILON);
    for stage in ["scenario", "queue", "delivery"] {
        let series = format!("demo_publish_failures_total{{stage=\"{stage}\"}}");
        assert!(metrics.metric(&series) == 0.0, "{series}");
    }
    all
}

/// The truth of a service that has resolved `resolves` links in a run of `lasted`.
pub fn truth_is_plausible(twin: Twin, truth: &Value, resolves: u64, lasted: Duration) {
    assert_eq!(truth["scenario"], twin.default_scenario());
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("no number in {truth}"))
    };
    let blocked = &truth["blocked"];
    let (total, max) = (number(&blocked["total_ns"]), number(&blocked["max_ns"]));
    let lasted = u64::try_from(lasted.as_nanos()).expect("short");
    assert_eq!(blocked["syscall"], "fsync");
    assert!(
        blocked["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("/clicks.log")),
        "{truth}"
    );
    assert_eq!(
        number(&blocked["count"]),
        resolves,
        "one fsync for each click: {truth}"
    );
    assert!(0 < max && max <= total, "{truth}");
    match twin {
        Twin::Rust => {
            assert_eq!(blocked["function"], "append_click_log");
            // Each connection is a task: 20 of the load, and one for each single request.
            assert!(
                (20..=resolves).contains(&number(&blocked["tasks"])),
                "{truth}"
            );
            let workers = blocked["thread_ids"].as_array().expect("threads").len() as u64;
            assert!(workers > 0 && total <= lasted * workers, "{truth}");
        }
        Twin::Go => {
            assert_eq!(blocked["function"], "main.appendClickLog");
            assert!(number(&blocked["goroutine"]) > 0, "{truth}");
            assert!(
                total <= lasted,
                "one goroutine makes all the calls: {truth}"
            );
            let channel = &truth["channel"];
            assert_eq!(number(&channel["sends"]), resolves);
            assert_eq!(number(&channel["waiting"]), 0, "{truth}");
            // All 20 connections but the one being served wait in the send, sooner or later.
            assert!(
                (10..=21).contains(&number(&channel["max_waiting"])),
                "{truth}"
            );
            assert!(
                number(&channel["total_wait_ns"]) > total,
                "they queue: {truth}"
            );
        }
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    u64::try_from(since_epoch.as_millis()).expect("not that late")
}
