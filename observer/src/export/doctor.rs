//! `observer doctor`: what works here, what does not, why, and what to do.

use super::text::clean::fit;
use super::text::units::counted;
use super::text::wrap::paragraph;
use crate::model::doctor::{Check, Diagnosis, Status};
use serde::Serialize;

/// The JSON form; schema `observer.doctor/v1`, fields are only ever added.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: &'static str,
    usable: bool,
    observer_version: &'a str,
    kernel: &'a str,
    arch: &'a str,
    cpus: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    checks: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    group: &'static str,
    name: &'a str,
    status: &'static str,
    needed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<&'a str>,
}

/// Renders the checks as JSON.
///
/// # Errors
/// None in practice: it is plain data.
pub fn json(diagnosis: &Diagnosis) -> Result<String, serde_json::Error> {
    let checks = diagnosis.checks.iter().map(|check| Row {
        group: check.group,
        name: &check.name,
        status: check.status.as_str(),
        needed: check.needed,
        found: check.found.as_deref(),
        why: check.why.as_ref().map(ToString::to_string),
        cure: check.cure.as_deref(),
    });
    let document = Document {
        schema: "observer.doctor/v1",
        usable: diagnosis.usable(),
        observer_version: &diagnosis.version,
        kernel: &diagnosis.host.kernel,
        arch: &diagnosis.host.arch,
        cpus: diagnosis.host.cpus,
        pid: diagnosis.pid,
        checks: checks.collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Renders the checks as text: the answer first, then each check, worst news not hidden.
pub fn text(diagnosis: &Diagnosis) -> String {
    let host = &diagnosis.host;
    let of = match diagnosis.pid {
        Some(pid) => format!("For pid {pid}: "),
        None => String::new(),
    };
    let head = format!(
        "observer {} on Linux {} {}, {}",
        fit(&diagnosis.version, 40),
        fit(&host.kernel, 40),
        fit(&host.arch, 20),
        counted(u64::from(host.cpus), "CPU", "CPUs")
    );
    let mut out = paragraph(&head, "", "  ");
    out += &paragraph(&format!("{of}{}.", answer(diagnosis)), "", "  ");
    let mut group = "";
    for check in &diagnosis.checks {
        if check.group != group {
            group = check.group;
            out.push('\n');
            out += &paragraph(&group.to_uppercase(), "", "");
        }
        out += &line(check);
    }
    out
}

fn answer(diagnosis: &Diagnosis) -> String {
    let number = |status| {
        diagnosis
            .checks
            .iter()
            .filter(|c| c.status == status)
            .count() as u64
    };
    if !diagnosis.usable() {
        let needed: Vec<_> = diagnosis
            .checks
            .iter()
            .filter(|c| c.needed && c.status == Status::Missing)
            .map(|c| fit(&c.name, 40))
            .collect();
        return format!(
            "`observer report` can NOT work here: {} missing",
            needed.join(", ")
        );
    }
    match (number(Status::Degraded), number(Status::Missing)) {
        (0, 0) => "Everything works".to_owned(),
        (degraded, missing) => format!(
            "`observer report` works; {} degraded, {} missing",
            counted(degraded, "part", "parts"),
            counted(missing, "part", "parts")
        ),
    }
}

fn line(check: &Check) -> String {
    let found = check
        .found
        .as_deref()
        .map(|found| format!("  {}", fit(found, 60)));
    let status = check.status.as_str();
    let name = fit(&check.name, 26);
    let start = format!("  {status:<8}  {name:<26}");
    let mut out = paragraph(
        found.unwrap_or_default().trim(),
        &format!("{start}  "),
        &" ".repeat(40),
    );
    let indent = " ".repeat(12);
    if let Some(why) = &check.why {
        out += &paragraph(
            &format!("why: {}", fit(&why.to_string(), 300)),
            &indent,
            &format!("{indent}     "),
        );
    }
    if let Some(cure) = &check.cure {
        out += &paragraph(
            &format!("do:  {}", fit(cure, 300)),
            &indent,
            &format!("{indent}     "),
        );
    }
    out
}
