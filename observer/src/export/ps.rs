//! `observer ps`: processes, their runtime, and what can be seen in each.

use super::text::clean::fit;
use super::text::table::{Column, Table};
use super::text::units::count;
use super::text::wrap::paragraph;
use crate::model::ps::{ProcessRow, Sees};
use serde::Serialize;

/// The JSON form; schema `observer.ps/v1`, fields are only ever added.
#[derive(Debug, Serialize)]
struct List<'a> {
    schema: &'static str,
    processes: Vec<Process<'a>>,
}

#[derive(Debug, Serialize)]
struct Process<'a> {
    pid: u32,
    start_time: u64,
    comm: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_unknown_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_unknown_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripped: Option<bool>,
    threads: u32,
    sees: &'static str,
    limits: Vec<String>,
}

/// Renders the list as JSON.
///
/// # Errors
/// None in practice: it is plain data.
pub fn json(rows: &[ProcessRow]) -> Result<String, serde_json::Error> {
    let processes = rows.iter().map(|row| Process {
        pid: row.pid,
        start_time: row.start_time,
        comm: &row.comm,
        exe: row.exe.known().map(String::as_str),
        runtime: row.runtime.known().copied(),
        runtime_unknown_reason: row.runtime.reason().map(ToString::to_string),
        version: row.version.known().map(String::as_str),
        version_unknown_reason: row.version.reason().map(ToString::to_string),
        stripped: row.stripped.known().copied(),
        threads: row.threads,
        sees: row.sees.as_str(),
        limits: row.limits.iter().map(ToString::to_string).collect(),
    });
    let list = List {
        schema: "observer.ps/v1",
        processes: processes.collect(),
    };
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

/// Renders the list as a table. Limits stand under it, so that the table stays one row each.
pub fn text(rows: &[ProcessRow]) -> String {
    if rows.is_empty() {
        return "No process to show.\n".to_owned();
    }
    let mut table = Table::new(&[
        ("pid", Column::Number),
        ("comm", Column::Text),
        ("runtime", Column::Text),
        ("symbols", Column::Text),
        ("threads", Column::Number),
        ("can see", Column::Text),
        ("limits", Column::Text),
    ]);
    let mut limits: Vec<String> = Vec::new();
    for row in rows {
        // Many processes share their limits: each is written once and referred to by a letter.
        let marks = row.limits.iter().map(|limit| {
            let limit = limit.to_string();
            let at = limits
                .iter()
                .position(|known| *known == limit)
                .unwrap_or_else(|| {
                    limits.push(limit);
                    limits.len() - 1
                });
            format!("[{}]", at + 1)
        });
        table.row([
            row.pid.to_string(),
            fit(&row.comm, 20),
            runtime(row),
            symbols(row).to_owned(),
            count(u64::from(row.threads)),
            match row.sees {
                Sees::TokioTasks => "tokio tasks".to_owned(),
                other => other.as_str().to_owned(),
            },
            marks.collect::<Vec<_>>().join(" "),
        ]);
    }
    let mut out = table.render();
    if !limits.is_empty() {
        out.push('\n');
    }
    for (i, limit) in limits.iter().enumerate() {
        out += &paragraph(&fit(limit, 300), &format!("  [{}] ", i + 1), "      ");
    }
    out
}

fn runtime(row: &ProcessRow) -> String {
    match (row.runtime.known(), row.version.known()) {
        (Some(&"native"), _) => "native".to_owned(),
        (Some(kind), Some(version)) => format!("{kind} {version}"),
        (Some(kind), None) => format!("{kind}, version unknown"),
        (None, _) => "unknown".to_owned(),
    }
}

fn symbols(row: &ProcessRow) -> &'static str {
    match row.stripped.known() {
        Some(true) => "stripped",
        Some(false) => "yes",
        None => "unknown",
    }
}
