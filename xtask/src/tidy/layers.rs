//! Who may import whom in `observer/src`: the table of ARCHITECTURE.md.

use std::path::Path;

use anyhow::Result;

use super::source::{self, NamedPath};

/// A top-level module and what it may import of the others. `*`: everything, being where all is wired.
struct Layer {
    module: &'static str,
    imports: &'static [&'static str],
}

const LAYERS: &[Layer] = &[
    layer("model", &[]),
    layer("sys", &["model"]),
    layer("probes", &["model", "sys"]),
    layer("runtimes", &["model", "sys", "probes::spec"]),
    layer("intake", &["model", "sys"]),
    layer("decode", &["model"]),
    layer("resolve", &["model", "sys", "runtimes"]),
    layer("correlate", &["model"]),
    layer("aggregate", &["model"]),
    layer("diagnose", &["model"]),
    layer("export", &["model"]),
    layer("config", &["model"]),
    layer("cli", &["config", "export", "model"]),
    layer("app", &["*"]),
    layer("lib", &["*"]),
    layer("main", &["*"]),
];

/// External crates that only some modules may name. `observer_common` is the wire: what comes from the
/// kernel stops at `decode`; `probes` and `intake` hold the maps, `app` hands settings to them.
const CRATES: &[(&str, &[&str])] = &[
    ("aya", &["probes", "intake"]),
    ("aya_log", &["probes", "intake"]),
    ("axum", &["export"]),
    ("blazesym", &["resolve"]),
    ("bytes", &["intake"]),
    ("cel", &["diagnose"]),
    ("clap", &["cli", "config"]),
    ("humantime", &["cli", "config"]),
    ("comfy_table", &["export"]),
    ("observer_common", &["probes", "intake", "decode", "app"]),
    ("prometheus", &["export"]),
    ("schemars", &["export"]),
    ("serde", &["export", "config"]),
    ("serde_json", &["export", "config"]),
    ("tokio", &["intake", "export", "app", "main"]),
];

/// Modules that may open files and name paths of the system.
const FILES: &[&str] = &["sys", "intake", "export", "config", "app"];

/// Crates that belong to the language.
const LANGUAGE: &[&str] = &["std", "core", "alloc"];

const fn layer(module: &'static str, imports: &'static [&'static str]) -> Layer {
    Layer { module, imports }
}

/// Checks one file, given by its path below `observer/src`.
pub fn check(file: &Path, content: &str) -> Result<Vec<(usize, String)>> {
    let place = place(file);
    let Some(own) = place.first() else {
        return Ok(Vec::new());
    };
    let Some(layer) = LAYERS.iter().find(|layer| layer.module == own) else {
        let rule = format!(
            "{own} is not in the table of xtask/src/tidy/layers.rs: say there what it may import"
        );
        return Ok(vec![(1, rule)]);
    };
    let named = source::read(content)?;
    let mut found = Vec::new();
    for path in &named.paths {
        if let Some(inner) = inside(&place, path) {
            found.extend(import(layer, &inner).map(|rule| (path.line, rule)));
        } else if !named.modules.contains(&path.segments[0]) {
            found.extend(external(layer, &path.segments).map(|rule| (path.line, rule)));
        }
    }
    if !FILES.contains(&layer.module) {
        for (line, text) in &named.strings {
            if ["\"/proc", "\"/sys/"]
                .iter()
                .any(|start| text.contains(start))
            {
                found.push((
                    *line,
                    format!(
                        "{own} names a system path: only sys, intake, export and config open files"
                    ),
                ));
            }
        }
    }
    found.dedup();
    Ok(found)
}

/// The module that a file is, from the crate's root.
fn place(file: &Path) -> Vec<String> {
    let mut place: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if place.len() > 1 && place.last().is_some_and(|last| last == "mod") {
        place.pop();
    }
    place
}

/// A path into this crate, from its root: `crate::`, `observer::` (in main.rs) or enough `super::`.
fn inside(place: &[String], path: &NamedPath) -> Option<Vec<String>> {
    match path.segments[0].as_str() {
        "crate" | "observer" => Some(path.segments[1..].to_vec()),
        "super" => {
            let ups = path
                .segments
                .iter()
                .take_while(|&segment| segment == "super")
                .count();
            let base = (place.len() + path.depth)
                .checked_sub(ups)?
                .min(place.len());
            Some([&place[..base], &path.segments[ups..]].concat())
        }
        _ => None,
    }
}

fn import(layer: &Layer, path: &[String]) -> Option<String> {
    let to = path.first()?;
    let joined = path.join("::");
    let fits = |allowed: &&str| {
        **allowed == *"*" || joined == **allowed || joined.starts_with(&format!("{allowed}::"))
    };
    if to == layer.module || layer.imports.iter().any(fits) {
        return None;
    }
    let from = layer.module;
    let meet = if layer.imports.is_empty() {
        "nothing".to_owned()
    } else {
        layer.imports.join(", ")
    };
    Some(format!(
        "{from} may not import {to} (it may import {meet}): stages meet in model and are wired in app"
    ))
}

fn external(layer: &Layer, path: &[String]) -> Option<String> {
    let name = path[0].as_str();
    let own = layer.module;
    if name == "std" && path.get(1).is_some_and(|second| second == "fs") && !FILES.contains(&own) {
        return Some(format!(
            "{own} uses std::fs: only sys, intake, export and config open files"
        ));
    }
    if own == "model" && !LANGUAGE.contains(&name) && is_dependency(name) {
        return Some(format!("model names the crate {name}: model is std only"));
    }
    let (_, allowed) = CRATES.iter().find(|(restricted, _)| *restricted == name)?;
    if allowed.contains(&own) {
        return None;
    }
    Some(format!(
        "{own} may not name the crate {name}: only {} may",
        allowed.join(", ")
    ))
}

/// Whether a path's first word is one of our dependencies (and not a type or a local module).
fn is_dependency(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "anyhow",
        "cpp_demangle",
        "framehop",
        "gimli",
        "iced_x86",
        "libc",
        "memmap2",
        "object",
        "procfs",
        "rustc_demangle",
        "sha2",
        "thiserror",
        "tracing",
    ];
    OTHERS.contains(&name) || CRATES.iter().any(|(restricted, _)| *restricted == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, content: &str, expected: &[&str]) {
        let found: Vec<String> = super::check(Path::new(file), content)
            .unwrap()
            .into_iter()
            .map(|(_, rule)| rule)
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.starts_with(expected),
                "{found:?} instead of {expected:?}"
            );
        }
    }

    #[test]
    fn modules_import_only_what_is_listed() {
        check("decode/wait.rs", "use crate::model::Pid;", &[]);
        check(
            "decode/wait.rs",
            "use crate::aggregate::Ledger;",
            &["decode may not import aggregate"],
        );
        check("runtimes/go/mod.rs", "use crate::probes::spec::Hook;", &[]);
        check(
            "runtimes/go/mod.rs",
            "use crate::probes::plan::Plan;",
            &["runtimes may not import probes"],
        );
        check(
            "model/ids.rs",
            "fn f() { crate::sys::now() }",
            &["model may not import sys"],
        );
        check("app.rs", "use crate::{decode, export, intake};", &[]);
    }

    #[test]
    fn a_way_out_through_super_is_seen() {
        check("export/report/text.rs", "use super::super::dto::Row;", &[]);
        check(
            "export/report/text.rs",
            "use super::super::super::resolve::Row;",
            &["export may not import resolve"],
        );
        check(
            "resolve/mod.rs",
            "use super::export::Row;",
            &["resolve may not import export"],
        );
        check(
            "resolve/mod.rs",
            "mod inner { use super::export::Row; }",
            &[],
        );
    }

    #[test]
    fn a_new_module_must_be_listed() {
        check("attic/mod.rs", "", &["attic is not in the table"]);
    }

    #[test]
    fn restricted_crates_are_seen() {
        check("probes/attach.rs", "use aya::Ebpf;", &[]);
        check(
            "resolve/symbols.rs",
            "use aya::Ebpf;",
            &["resolve may not name the crate aya"],
        );
        check(
            "aggregate/mod.rs",
            "use serde::Serialize;",
            &["aggregate may not name the crate serde"],
        );
        check(
            "model/mod.rs",
            "use thiserror::Error;",
            &["model names the crate thiserror"],
        );
        check("runtimes/mod.rs", "pub mod tokio; use tokio::detect;", &[]);
        check(
            "runtimes/mod.rs",
            "use tokio::spawn;",
            &["runtimes may not name the crate tokio"],
        );
    }

    #[test]
    fn the_wire_stops_at_decode() {
        check(
            "decode/wait.rs",
            "use observer_common::events::wait::Wait;",
            &[],
        );
        check(
            "export/dto.rs",
            "use observer_common::events::wait::Wait;",
            &["export may not name the crate observer_common"],
        );
        check(
            "model/event.rs",
            "const BUCKETS: usize = observer_common::events::wait::BUCKETS;",
            &["model names the crate observer_common"],
        );
    }

    #[test]
    fn files_are_opened_in_few_places() {
        check(
            "sys/process.rs",
            "use std::fs; fn f() { g(\"/proc/1\") }",
            &[],
        );
        check("resolve/mod.rs", "use std::fs;", &["resolve uses std::fs"]);
        check(
            "resolve/mod.rs",
            "use std::{fmt, fs::File};",
            &["resolve uses std::fs"],
        );
        check(
            "resolve/mod.rs",
            "fn f() { format!(\"/proc/{pid}/exe\") }",
            &["resolve names a system path"],
        );
    }
}
