//! Which Kafka to use: a named one, or librdkafka's mock cluster inside this process.

use anyhow::{Context, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A Kafka that has the topic. An embedded one ends when this is dropped.
pub struct Broker {
    servers: String,
    _embedded: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Broker {
    /// Starts the embedded broker: real protocol over loopback TCP, records kept in memory (at
    /// most 5 MB in each partition, older ones are dropped).
    pub fn embedded(topic: &str, partitions: u16) -> Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the embedded Kafka broker")?;
        cluster
            .create_topic(topic, i32::from(partitions), 1)
            .with_context(|| format!("the embedded Kafka broker refused the topic {topic:?}"))?;
        Ok(Self {
            servers: cluster.bootstrap_servers(),
            _embedded: Some(cluster),
        })
    }

    /// Uses a running Kafka and creates the topic there if it is missing.
    pub async fn external(servers: &str, topic: &str, partitions: u16) -> Result<Self> {
        let advice = || {
            format!(
                "cannot use Kafka at {servers}; check --brokers, or leave it out to use the embedded broker"
            )
        };
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .create()
            .with_context(advice)?;
        // Replication -1 is the broker's own default.
        let new = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(-1));
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .operation_timeout(Some(ADMIN_TIMEOUT));
        for result in admin
            .create_topics([&new], &options)
            .await
            .with_context(advice)?
        {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    anyhow::bail!(
                        "Kafka at {servers} refused to create the topic {name:?}: {code}; create it there or choose another --topic"
                    )
                }
            }
        }
        Ok(Self {
            servers: servers.to_owned(),
            _embedded: None,
        })
    }

    /// The bootstrap servers.
    pub fn servers(&self) -> &str {
        &self.servers
    }
}
