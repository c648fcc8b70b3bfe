//! `none`: the healthy service. Nothing blocks a worker; events go to Kafka in batches.

use super::{Entry, Scenario, Step};
use crate::truth::Blocked;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Its place in the registry.
pub const ENTRY: Entry = Entry {
    name: "none",
    summary: "healthy: no fault is planted",
    open,
};

struct Healthy;

#[expect(
    clippy::unnecessary_wraps,
    reason = "the registry holds one kind of function"
)]
fn open(_data_dir: &Path) -> io::Result<Arc<dyn Scenario>> {
    Ok(Arc::new(Healthy))
}

impl Scenario for Healthy {
    fn before_publish<'a>(&'a self, _event: &'a [u8]) -> Step<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn truth(&self) -> Option<Blocked> {
        None
    }
}
