//! The planted faults: one file and one line in [`REGISTRY`] each.

mod blocking_io_in_task;
mod none;

use crate::truth::Blocked;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// The scenario of `serve` without `--scenario`.
pub const DEFAULT: &str = "blocking-io-in-task";

/// All scenarios, in the order in which the help lists them.
pub static REGISTRY: &[Entry] = &[none::ENTRY, blocking_io_in_task::ENTRY];

/// How a scenario is found and started.
#[derive(Debug)]
pub struct Entry {
    /// The name of the rule that should find it (`none` for the healthy service).
    pub name: &'static str,
    /// One line for the help.
    pub summary: &'static str,
    /// Starts it, with its files in a directory that exists.
    pub open: fn(&Path) -> io::Result<Arc<dyn Scenario>>,
}

/// What a step of a scenario returns.
pub type Step<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// A fault on the publish path.
pub trait Scenario: Send + Sync {
    /// Runs in the request's own task, between encoding the event and handing it to Kafka.
    fn before_publish<'a>(&'a self, event: &'a [u8]) -> Step<'a>;

    /// What the fault did so far; `None` if it plants no blocking.
    fn truth(&self) -> Option<Blocked>;
}

/// Finds a scenario by name.
pub fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_the_default_exists() {
        let names: HashSet<_> = REGISTRY.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), REGISTRY.len());
        assert!(find(DEFAULT).is_some());
        assert!(find("nonsense").is_none());
    }

    #[test]
    fn every_scenario_opens_in_an_empty_directory() {
        for entry in REGISTRY {
            let dir = tempfile::tempdir().expect("tempdir");
            assert!((entry.open)(dir.path()).is_ok(), "{}", entry.name);
        }
    }
}
