//! Reading a report (`observer.report/v1`) as a test wants to.

use serde_json::Value;

/// A list in the report; absent is empty.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A number in the report.
#[track_caller]
pub fn number(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

/// One task's share of one entry of `blocking`.
#[derive(Debug)]
pub struct Share<'a> {
    /// The entry.
    pub entry: &'a Value,
    /// The task's part.
    pub task: &'a Value,
}

impl Share<'_> {
    /// The syscall of the entry; empty when it has none.
    pub fn syscall(&self) -> &str {
        self.entry["syscall"].as_str().unwrap_or_default()
    }

    /// The task's time.
    pub fn total_ns(&self) -> u64 {
        number(self.task, "total_ns")
    }
}

/// Every entry of `blocking` in which a task has a part.
pub fn shares<'a>(report: &'a Value, kind: &str, id: u64) -> Vec<Share<'a>> {
    list(report, "blocking")
        .iter()
        .flat_map(|entry| {
            list(entry, "tasks")
                .iter()
                .map(move |task| Share { entry, task })
        })
        .filter(|share| share.task["kind"] == kind && share.task["id"] == id)
        .collect()
}

/// The functions of an entry's stack, nearest first.
pub fn functions(entry: &Value) -> Vec<&str> {
    list(entry, "stack")
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .collect()
}

/// All that the report says was degraded or ended, as one text.
pub fn remarks(report: &Value) -> String {
    let mut text = String::new();
    for note in list(report, "notes") {
        text.push_str(note.as_str().unwrap_or_default());
        text.push('\n');
    }
    for target in list(report, "targets") {
        text.push_str(&target.to_string());
        text.push('\n');
    }
    text
}

/// Every stretch that was seen is in exactly one place.
#[track_caller]
pub fn check_completeness(report: &Value) {
    let completeness = &report["completeness"];
    let lost: u64 = completeness["lost"].as_object().map_or(0, |reasons| {
        reasons.values().filter_map(Value::as_u64).sum()
    });
    let parts: u64 = ["aggregated", "emitted", "filtered", "unfinished"]
        .iter()
        .filter_map(|part| completeness[part].as_u64())
        .sum();
    assert_eq!(number(completeness, "seen"), parts + lost, "{completeness}");
}
