//! The report in its formats. Each is rendered from [`Report`], the JSON form, and from nothing
//! else: what a person reads is what a program can read.

#![allow(
    clippy::format_push_string,
    reason = "a report is rendered once, and `+=` has no error to handle as `write!` has"
)]

mod beside;
pub mod json;
mod own;
mod peer;
pub mod phrase;
pub mod pile;
pub mod text;
pub mod types;
pub mod verdict;
pub mod weight;

use super::dto::Report;

/// How much the text form shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// Every site, frame, task and edge.
    pub full: bool,
    /// Evidence: how runtimes and legality are known.
    pub verbose: bool,
    /// Which stacks.
    pub stacks: Stacks,
}

/// Which part of the stacks is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stacks {
    /// User and kernel frames.
    #[default]
    Both,
    /// User frames only (`-U`).
    User,
    /// Kernel frames only (`-K`).
    Kernel,
}

/// One report format.
#[derive(Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// Renders a report.
    pub render: fn(&Report, &TextOptions) -> Result<String, serde_json::Error>,
}

/// Every format; the first is the default.
pub const FORMATS: &[Format] = &[
    Format {
        name: "text",
        render: |report, options| Ok(text::render(report, *options)),
    },
    Format {
        name: "json",
        render: |report, _| json::render(report),
    },
];

/// Looks a format up by its name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
