//! The service's own metrics. The Go twin has the same names.

use crate::load::Summary;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};
use std::time::Duration;

/// 50 µs to about 13 s, doubling.
const BUCKETS: [f64; 19] = [
    5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
    0.4096, 0.8192, 1.6384, 3.2768, 6.5536, 13.1072,
];

/// All metrics of the service.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    /// Events handed to the Kafka client.
    pub publishes: IntCounter,
    /// Events acknowledged by the broker.
    pub deliveries: IntCounter,
    failures: IntCounterVec,
    /// Handing the event to the Kafka client.
    pub publish_only: Histogram,
    /// The whole publish path of a request: encoding, the scenario's step, handing over.
    pub publish_all: Histogram,
    /// From handing over to the broker's acknowledgement.
    pub delivery_seconds: Histogram,
    load: LoadMetrics,
}

#[derive(Debug, Clone)]
struct LoadMetrics {
    requests: Gauge,
    errors: Gauge,
    rate: Gauge,
    latency: GaugeVec,
}

/// Where an event was lost.
#[derive(Debug, Clone, Copy)]
pub enum FailedAt {
    /// In the scenario's step.
    Scenario,
    /// The client's queue stayed full, or the client refused the event.
    Queue,
    /// The broker did not acknowledge it.
    Delivery,
}

impl FailedAt {
    fn label(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Queue => "queue",
            Self::Delivery => "delivery",
        }
    }
}

impl Metrics {
    /// Fresh metrics in their own registry.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "demo_requests_total",
                "Requests answered, by route and status.",
            ),
            &["route", "status"],
        )?;
        let request_seconds = HistogramVec::new(
            options(
                "demo_request_duration_seconds",
                "Time to answer a request, by route.",
            ),
            &["route"],
        )?;
        let publishes = IntCounter::new(
            "demo_publishes_total",
            "Click events handed to the Kafka client.",
        )?;
        let deliveries = IntCounter::new(
            "demo_deliveries_total",
            "Click events acknowledged by the broker.",
        )?;
        let failures = IntCounterVec::new(
            Opts::new(
                "demo_publish_failures_total",
                "Click events lost, by stage.",
            ),
            &["stage"],
        )?;
        for stage in [FailedAt::Scenario, FailedAt::Queue, FailedAt::Delivery] {
            failures.with_label_values(&[stage.label()]);
        }
        let publish_seconds = HistogramVec::new(
            options(
                "demo_publish_duration_seconds",
                "Publish path of a request: part=publish is handing the event to the Kafka \
                 client, part=all is all of it.",
            ),
            &["part"],
        )?;
        let delivery_seconds = Histogram::with_opts(options(
            "demo_delivery_duration_seconds",
            "From handing an event to the Kafka client to the broker's acknowledgement.",
        ))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(request_seconds.clone()))?;
        registry.register(Box::new(publishes.clone()))?;
        registry.register(Box::new(deliveries.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(publish_seconds.clone()))?;
        registry.register(Box::new(delivery_seconds.clone()))?;
        Ok(Self {
            requests,
            request_seconds,
            publishes,
            deliveries,
            failures,
            publish_only: publish_seconds.with_label_values(&["publish"]),
            publish_all: publish_seconds.with_label_values(&["all"]),
            delivery_seconds,
            load: LoadMetrics::register(&registry)?,
            registry,
        })
    }

    /// Counts one answered request; `route` is the pattern, never the path that was asked for.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
        self.request_seconds
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    /// Counts one lost event.
    pub fn failed(&self, at: FailedAt) {
        self.failures.with_label_values(&[at.label()]).inc();
    }

    /// Shows the load generator's last summary.
    pub fn load_result(&self, summary: &Summary) {
        self.load.set(summary);
    }

    /// The Prometheus text format.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl LoadMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let latency = GaugeVec::new(
            Opts::new(
                "demo_load_latency_seconds",
                "Latency seen by the last load run.",
            ),
            &["quantile"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Self {
            requests: gauge(
                "demo_load_requests",
                "Requests answered in the last load run.",
            )?,
            errors: gauge(
                "demo_load_errors",
                "Requests that failed in the last load run.",
            )?,
            rate: gauge(
                "demo_load_requests_per_second",
                "Throughput of the last load run.",
            )?,
            latency,
        })
    }

    fn set(&self, summary: &Summary) {
        self.requests.set(summary.requests as f64);
        self.errors.set(summary.errors as f64);
        self.rate.set(summary.rps);
        let quantiles = [
            ("0.5", summary.p50_ns),
            ("0.99", summary.p99_ns),
            ("1", summary.max_ns),
        ];
        for (quantile, ns) in quantiles {
            self.latency
                .with_label_values(&[quantile])
                .set(ns as f64 / 1e9);
        }
    }
}

fn options(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(BUCKETS.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_both_parts_and_every_stage() {
        let metrics = Metrics::new().expect("metrics");
        metrics.request("/resolve/{code}", 302, Duration::from_millis(1));
        metrics.failed(FailedAt::Queue);
        let text = metrics.render().expect("text");
        for wanted in [
            "demo_requests_total{route=\"/resolve/{code}\",status=\"302\"} 1",
            "demo_publish_duration_seconds_count{part=\"all\"} 0",
            "demo_publish_duration_seconds_count{part=\"publish\"} 0",
            "demo_publish_failures_total{stage=\"queue\"} 1",
            "demo_publish_failures_total{stage=\"delivery\"} 0",
            "demo_deliveries_total 0",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }

    #[test]
    fn a_load_result_is_shown() {
        let metrics = Metrics::new().expect("metrics");
        let summary = Summary {
            requests: 10,
            rps: 5.0,
            p99_ns: 2_000_000,
            ..Summary::default()
        };
        metrics.load_result(&summary);
        let text = metrics.render().expect("text");
        assert!(
            text.contains("demo_load_latency_seconds{quantile=\"0.99\"} 0.002"),
            "{text}"
        );
        assert!(text.contains("demo_load_requests_per_second 5"), "{text}");
    }
}
