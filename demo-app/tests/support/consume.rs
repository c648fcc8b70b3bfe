//! Reads click events back from a broker.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A consumed record: its key and its JSON value.
pub type Record = (String, Value);

/// Reads the topic from its beginning until there are `count` records, ordered by their `seq`.
pub fn records(servers: &str, topic: &str, count: usize) -> Vec<Record> {
    let limit = Duration::from_secs(30);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "demo-app-test")
        .set("enable.auto.commit", "false")
        .create()
        .expect("consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), limit)
        .expect("metadata");
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        partitions
            .add_partition_offset(topic, partition.id(), Offset::Beginning)
            .expect("partition");
    }
    consumer.assign(&partitions).expect("assign");

    let deadline = Instant::now() + limit;
    let mut records: Vec<Record> = Vec::with_capacity(count);
    while records.len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count} records in {limit:?}",
            records.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        // A client that is still finding its broker reports errors that pass.
        let Ok(message) = message else { continue };
        let key = String::from_utf8(message.key().expect("key").to_vec()).expect("UTF-8");
        let value = serde_json::from_slice(message.payload().expect("payload")).expect("JSON");
        records.push((key, value));
    }
    records.sort_by_key(|(_, value)| value["seq"].as_u64());
    records
}
