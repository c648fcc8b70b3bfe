//! What became of each probe.

use super::spec::{Hook, Need, ProbeSpec};
use crate::model::Reason;

/// One probe after attaching was tried.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The probe.
    pub spec: &'static ProbeSpec,
    /// The hook that works, if any.
    pub attached: Option<Hook>,
    /// Hooks that were tried or ruled out before, with the reason.
    pub failed: Vec<(Hook, Reason)>,
}

impl Outcome {
    /// What is lost, when something is: one clause for the report.
    pub fn degradation(&self) -> Option<String> {
        if self.attached.is_some() {
            return None;
        }
        let lost = match self.spec.need {
            Need::Required => "nothing can be observed",
            Need::Optional(lost) => lost,
        };
        let why = self
            .failed
            .iter()
            .map(|(hook, reason)| format!("{}: {reason}", hook.mechanism()))
            .collect::<Vec<_>>()
            .join("; ");
        Some(format!(
            "probe {} is off, so {lost} ({why})",
            self.spec.name
        ))
    }
}
