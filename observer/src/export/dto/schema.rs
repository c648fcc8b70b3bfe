//! The JSON Schema of the report, generated from the types and committed as `schema/report.v1.json`.

use super::Report;
use crate::model::Cause;
use crate::model::FrameKind;
use crate::model::meeting::{Source, UserEvidence};
use crate::model::task::{Legality, TaskKind};
use crate::model::view::Nature;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema as schema};

/// The value of the field `schema`.
pub const SCHEMA_ID: &str = "observer.report/v1";

/// The schema of [`Report`], as pretty JSON with a final newline.
///
/// # Errors
/// None in practice: a schema is plain JSON.
pub fn json_schema() -> Result<String, serde_json::Error> {
    let mut root = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Report>();
    root.insert("$id".to_owned(), SCHEMA_ID.into());
    root.insert("title".to_owned(), "observer report".into());
    Ok(serde_json::to_string_pretty(&root)? + "\n")
}

pub(super) fn schema_id(_: &mut SchemaGenerator) -> Schema {
    schema!({ "type": "string", "const": SCHEMA_ID })
}

/// The enumerations come from the model, so that a new cause can not be forgotten here.
pub(super) fn cause(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = Cause::ALL.iter().copied().map(Cause::as_str).collect();
    schema!({ "type": "string", "enum": names })
}

pub(super) fn frame_kind(_: &mut SchemaGenerator) -> Schema {
    let names = [FrameKind::User, FrameKind::Kernel, FrameKind::Runtime].map(FrameKind::as_str);
    schema!({ "type": "string", "enum": names })
}

pub(super) fn task_kind(_: &mut SchemaGenerator) -> Schema {
    let names = [TaskKind::Goroutine, TaskKind::TokioTask, TaskKind::Thread].map(TaskKind::as_str);
    schema!({ "type": "string", "enum": names })
}

pub(super) fn legality(_: &mut SchemaGenerator) -> Schema {
    let all = [
        Legality::InPoll,
        Legality::MayBlock,
        Legality::NoRule,
        Legality::Unknown,
    ];
    schema!({ "type": "string", "enum": all.map(Legality::as_str) })
}

pub(super) fn user_evidence(_: &mut SchemaGenerator) -> Schema {
    schema!({ "type": "string", "enum": UserEvidence::ALL.map(UserEvidence::as_str) })
}

pub(super) fn source(_: &mut SchemaGenerator) -> Schema {
    schema!({ "type": "string", "enum": Source::ALL.map(Source::as_str) })
}

pub(super) fn nature(_: &mut SchemaGenerator) -> Schema {
    schema!({ "type": "string", "enum": Nature::ALL.map(Nature::as_str) })
}

pub(super) fn runtime_kind(_: &mut SchemaGenerator) -> Schema {
    schema!({ "type": "string", "enum": ["go", "tokio", "native"] })
}
