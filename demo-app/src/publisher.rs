//! The publish path to Kafka: one reused producer that batches, and never a wait for an
//! acknowledgement inside a request.

use crate::metrics::{FailedAt, Metrics};
use anyhow::{Context, Result};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a request waits for room in the client's queue before its event counts as lost.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);
const QUEUE_RETRY: Duration = Duration::from_millis(5);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Hands click events to Kafka.
pub struct Publisher {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    metrics: Metrics,
}

impl Publisher {
    /// Connects, and checks that the topic can be reached: a service that cannot publish should
    /// not say that it is ready.
    pub fn connect(servers: &str, topic: &str, metrics: &Metrics) -> Result<Self> {
        let context = Deliveries {
            metrics: metrics.clone(),
            last_error: Mutex::new(None),
        };
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("client.id", "demo-app")
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "100000")
            .set("message.timeout.ms", "30000")
            .create_with_context(context)
            .context("cannot create the Kafka producer")?;
        producer
            .client()
            .fetch_metadata(Some(topic), METADATA_TIMEOUT)
            .with_context(|| {
                format!(
                    "no answer from Kafka at {servers} about the topic {topic:?}; check --brokers"
                )
            })?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            metrics: metrics.clone(),
        })
    }

    /// Queues one event. A full queue holds the request back for a moment (back-pressure) instead
    /// of dropping the event at once.
    pub async fn send(&self, key: &str, event: &[u8]) -> Result<(), KafkaError> {
        let start = Instant::now();
        let opaque = Box::new(Queued { at: start });
        let mut record = BaseRecord::with_opaque_to(&self.topic, opaque)
            .key(key)
            .payload(event);
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.metrics.publishes.inc();
                    self.metrics
                        .publish_only
                        .observe(start.elapsed().as_secs_f64());
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                    if start.elapsed() < QUEUE_PATIENCE =>
                {
                    record = refused;
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until every queued event is acknowledged or lost.
    pub fn flush(&self, limit: Duration) -> Result<()> {
        self.producer.flush(limit).with_context(|| {
            let left = self.producer.in_flight_count();
            format!("{left} click events were not acknowledged within {limit:?}; they are lost")
        })
    }
}

/// What comes back with a delivery report.
#[derive(Debug)]
struct Queued {
    at: Instant,
}

struct Deliveries {
    metrics: Metrics,
    last_error: Mutex<Option<Instant>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // The client repeats itself while a broker is away: one line a second is enough.
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            eprintln!("demo-app: Kafka client: {reason} ({error})");
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Queued>;

    fn delivery(&self, result: &DeliveryResult<'_>, queued: Box<Queued>) {
        if result.is_ok() {
            self.metrics.deliveries.inc();
            self.metrics
                .delivery_seconds
                .observe(queued.at.elapsed().as_secs_f64());
        } else {
            self.metrics.failed(FailedAt::Delivery);
        }
    }
}
