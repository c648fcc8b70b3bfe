//! What the integration tests share: the twins as child processes, a small HTTP client, a consumer,
//! and a real Kafka broker. Everything is on loopback and bounded in time, and every process that
//! is started here is ended here, by its own handle, also when a test panics.

pub mod checks;
pub mod child;
pub mod consume;
pub mod http;
pub mod kafka;
pub mod tools;
pub mod twin;
