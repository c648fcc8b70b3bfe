//! Root causes that rules found, as the contract names them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One root cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Id of the rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Combined weight of the evidence times the share of blocked time.
    pub score: f64,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// One line.
    pub title: String,
    /// One paragraph.
    pub summary: String,
    /// From symptom to cause, one step each.
    pub chain: Vec<String>,
    /// What speaks for it.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub suggestion: String,
    /// Where to read more.
    pub docs: String,
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// `metric`, `related` or `pattern`.
    pub kind: String,
    /// 3, 7 or 9.
    pub weight: u32,
    /// What a person reads.
    pub text: String,
    /// JSON pointer to the part of the report that it rests on.
    #[serde(rename = "ref")]
    pub reference: String,
}
