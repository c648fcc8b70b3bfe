//! The report: golden texts, width, hostile names, and the JSON form against its schema.

use crate::report_samples::go::{go, pile_up};
use crate::report_samples::{empty, samples};
use observer::export::dto::{Frame, Report, json_schema};
use observer::export::report::{FORMATS, TextOptions, format, json, text};
use observer::export::{doctor, ps};
use observer::model::view::View;
use std::fs;
use std::path::{Path, PathBuf};
use unicode_width::UnicodeWidthStr;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares with a committed file; with the environment variable set, rewrites it.
fn compare(path: &Path, actual: &str, rewrite: &str) {
    if std::env::var_os(rewrite).is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}; {rewrite}=1 writes it", path.display()));
    assert!(
        expected == actual,
        "{} differs ({rewrite}=1 rewrites it); now:\n{actual}",
        path.display()
    );
}

fn all_options() -> Vec<TextOptions> {
    let plain = TextOptions::default();
    vec![
        plain,
        TextOptions {
            full: true,
            verbose: true,
            ..plain
        },
    ]
}

#[test]
fn texts_are_as_committed() {
    for (name, view) in samples() {
        let text = text::render(&Report::from(&view), TextOptions::default());
        compare(
            &here(&format!("tests/it/golden/{name}.txt")),
            &text,
            "UPDATE_GOLDEN",
        );
    }
}

#[test]
fn everything_is_shown_on_request() {
    let options = TextOptions {
        full: true,
        verbose: true,
        ..TextOptions::default()
    };
    let text = text::render(&Report::from(&pile_up()), options);
    compare(
        &here("tests/it/golden/pile_up_full.txt"),
        &text,
        "UPDATE_GOLDEN",
    );
}

#[test]
fn every_line_fits_100_columns_and_moves_no_cursor() {
    for (name, view) in samples() {
        for options in all_options() {
            let text = text::render(&Report::from(&view), options);
            for line in text.lines() {
                assert!(
                    line.width() <= 100,
                    "{name}: {} columns: {line}",
                    line.width()
                );
                assert!(!line.ends_with(' '), "{name}: space at the end: {line}");
                let odd =
                    |c: char| c.is_control() || matches!(c, '\u{a0}' | '\u{202a}'..='\u{202e}');
                assert!(!line.contains(odd), "{name}: {line:?}");
            }
        }
    }
}

#[test]
fn a_name_can_not_make_a_second_verdict() {
    let (_, view) = samples().pop().unwrap();
    let text = text::render(&Report::from(&view), TextOptions::default());
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("VERDICT"))
            .count(),
        1
    );
}

/// A function that was inlined has the address of the one that it is in.
#[test]
fn one_frame_of_a_stack_is_marked_as_the_site() {
    let mut report = Report::from(&pile_up());
    let entry = report
        .blocking
        .iter_mut()
        .find(|entry| entry.site.address.is_some());
    let entry = entry.unwrap();
    let is_site = |frame: &Frame| Some(&frame.address) == entry.site.address.as_ref();
    let place = entry.stack.iter().position(is_site).unwrap();
    let mut around = entry.stack[place].clone();
    around.function = Some("main.inlinedInto".to_owned());
    entry.stack.insert(place + 1, around);
    let entry = entry.clone();
    report.blocking = vec![entry];
    let text = text::render(&report, TextOptions::default());
    let marked: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("       > "))
        .collect();
    assert_eq!(marked.len(), 1, "{marked:#?}");
    let line = text.lines().find(|line| line.contains("inlinedInto"));
    assert!(
        line.is_some_and(|line| line.starts_with("         ")),
        "{line:?}"
    );
}

#[test]
fn the_order_of_equal_entries_does_not_depend_on_the_order_of_the_view() {
    let mut one = go();
    for entry in &mut one.blocking {
        entry.total_ns = 1_000_000;
    }
    let mut other = one.clone();
    other.blocking.reverse();
    let last = other.blocking.len() - 1;
    for cause in &mut other.causes {
        cause.representative = last - cause.representative;
    }
    assert_eq!(Report::from(&one), Report::from(&other));
}

#[test]
fn ids_are_unique_in_a_report_and_the_same_in_the_next() {
    let mut next = go();
    next.targets[0].pid += 1;
    next.targets[0].start_time += 1;
    for entry in &mut next.blocking {
        entry.total_ns += 1;
    }
    let ids = |view: &View| {
        Report::from(view)
            .blocking
            .into_iter()
            .map(|e| e.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&go()), ids(&next));

    let mut twins = go();
    twins.blocking.push(twins.blocking[0].clone());
    let ids = ids(&twins);
    assert_eq!(
        ids.iter().collect::<std::collections::BTreeSet<_>>().len(),
        ids.len(),
        "{ids:?}"
    );
}

#[test]
fn the_schema_is_as_committed() {
    compare(
        &here("schema/report.v1.json"),
        &json_schema().unwrap(),
        "UPDATE_SCHEMA",
    );
}

#[test]
fn reports_are_valid_by_the_schema_and_come_back_whole() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema().unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (name, view) in samples() {
        let report = Report::from(&view);
        let json = json::render(&report).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        assert!(
            !json.contains("null"),
            "{name}: what is not known is absent"
        );
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back, report, "{name}");
    }
}

#[test]
fn the_schema_refuses_what_breaks_the_contract_and_takes_what_extends_it() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema().unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = serde_json::to_value(Report::from(&go())).unwrap();

    let mut more = good.clone();
    more["blocking"][0]["a_later_field"] = 1.into();
    assert!(validator.is_valid(&more));

    let mut wrong_cause = good.clone();
    wrong_cause["blocking"][0]["cause"] = "bad_luck".into();
    assert!(!validator.is_valid(&wrong_cause));

    let mut wrong_schema = good.clone();
    wrong_schema["schema"] = "observer.report/v2".into();
    assert!(!validator.is_valid(&wrong_schema));

    let mut missing = good;
    missing.as_object_mut().unwrap().remove("completeness");
    assert!(!validator.is_valid(&missing));
}

#[test]
fn an_empty_report_has_every_list_of_the_contract() {
    let value = serde_json::to_value(Report::from(&empty())).unwrap();
    for list in [
        "targets", "blocking", "census", "causes", "findings", "notes",
    ] {
        assert!(value[list].is_array(), "{list}");
    }
}

#[test]
fn formats_are_found_by_name() {
    assert_eq!(FORMATS[0].name, "text");
    assert!(format("json").is_some() && format("html").is_none());
}

#[test]
fn ps_and_doctor_are_as_committed_and_fit() {
    use crate::report_samples::lists;
    let texts = [
        ("ps", ps::text(&lists::processes())),
        ("doctor", doctor::text(&lists::diagnosis())),
        ("doctor_unusable", doctor::text(&lists::unusable())),
    ];
    for (name, text) in texts {
        compare(
            &here(&format!("tests/it/golden/{name}.txt")),
            &text,
            "UPDATE_GOLDEN",
        );
        for line in text.lines() {
            assert!(
                line.width() <= 100 && !line.contains(char::is_control),
                "{name}: {line:?}"
            );
            assert!(!line.ends_with(' '), "{name}: {line:?}");
        }
    }
    assert!(!lists::unusable().usable() && lists::diagnosis().usable());
    for json in [
        ps::json(&lists::processes()),
        doctor::json(&lists::diagnosis()),
    ] {
        let value: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        assert!(
            value["schema"]
                .as_str()
                .is_some_and(|id| id.ends_with("/v1"))
        );
        assert!(!value.to_string().contains("null"));
    }
}
