//! The report as JSON: pretty, because people read it too, with a final newline.

use crate::export::dto::Report;

/// Renders the report.
///
/// # Errors
/// None in practice: every map has text keys and every number is finite.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}
