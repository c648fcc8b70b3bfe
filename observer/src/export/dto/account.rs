//! What was seen and what was not, and what observing cost.

use super::share;
use crate::model::view;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was seen: `seen = aggregated + emitted + filtered + unfinished + sum(lost)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completeness {
    /// Off-CPU stretches of target threads that began, or were under way, in the window.
    pub seen: u64,
    /// Counted only: shorter than the threshold, of idle runtime threads, or without room for a record
    /// (`details_lost.record_buffer_full`).
    pub aggregated: u64,
    /// Counted and also recorded one by one.
    pub emitted: u64,
    /// Left out on purpose: the thread exited.
    pub filtered: u64,
    /// Not ended when the window did.
    pub unfinished: u64,
    /// Lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Details lost of waits that are in the sums all the same, by reason.
    pub details_lost: BTreeMap<String, u64>,
    /// Blocked time whose task is not known although the runtime has tasks.
    pub unattributed_ns: u64,
    /// Time of idle runtime threads: counted, not blocking.
    pub idle_ns: u64,
    /// Stacks that could not be taken, by reason.
    pub stacks_lost: BTreeMap<String, u64>,
    /// What the censuses read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub census: Option<CensusCost>,
}

impl Completeness {
    /// Waits lost for any reason.
    pub fn lost_total(&self) -> u64 {
        self.lost.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// `seen` minus everything that accounts for it: 0 when the account adds up.
    pub fn unaccounted(&self) -> i128 {
        let parts = [
            self.aggregated,
            self.emitted,
            self.filtered,
            self.unfinished,
        ];
        let accounted: i128 = parts
            .into_iter()
            .chain(self.lost.values().copied())
            .map(i128::from)
            .sum();
        i128::from(self.seen) - accounted
    }
}

/// What the censuses read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CensusCost {
    /// Number of censuses.
    pub samples: u64,
    /// Bytes read from the targets.
    pub bytes_read: u64,
    /// Task records that changed while they were read and were left out.
    pub torn: u64,
    /// Time of the longest one.
    pub max_ns: u64,
    /// CPU time of all, what was made of them included.
    pub cpu_ns: u64,
}

/// What observing cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overhead {
    /// Time in the kernel programs as a share of the targets' CPU time, when both could be
    /// measured. An upper bound: runs for other processes count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cpu_share: Option<f64>,
    /// CPU time of the observer process.
    pub observer_cpu_ns: u64,
    /// Time in the kernel programs, all CPUs, when the kernel measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_run_ns: Option<u64>,
    /// Number of runs of the kernel programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpf_run_count: Option<u64>,
    /// Peak resident memory of the observer.
    pub rss_bytes: u64,
}

impl From<&view::Completeness> for Completeness {
    fn from(from: &view::Completeness) -> Self {
        let owned = |map: &BTreeMap<&'static str, u64>| {
            map.iter()
                .map(|(reason, n)| ((*reason).to_owned(), *n))
                .collect()
        };
        Self {
            seen: from.seen,
            aggregated: from.aggregated,
            emitted: from.emitted,
            filtered: from.filtered,
            unfinished: from.unfinished,
            lost: owned(&from.lost),
            details_lost: owned(&from.details_lost),
            unattributed_ns: from.unattributed_ns,
            idle_ns: from.idle_ns,
            stacks_lost: owned(&from.stacks_lost),
            census: from.census.map(|cost| CensusCost {
                samples: cost.samples,
                bytes_read: cost.bytes_read,
                torn: cost.torn,
                max_ns: cost.max_ns,
                cpu_ns: cost.cpu_ns,
            }),
        }
    }
}

impl From<&view::Overhead> for Overhead {
    fn from(from: &view::Overhead) -> Self {
        Self {
            target_cpu_share: from
                .target_cpu_share
                .filter(|cpu| cpu.is_finite())
                .map(share),
            observer_cpu_ns: from.observer_cpu_ns,
            bpf_run_ns: from.bpf_run_ns,
            bpf_run_count: from.bpf_run_count,
            rss_bytes: from.rss_bytes,
        }
    }
}
