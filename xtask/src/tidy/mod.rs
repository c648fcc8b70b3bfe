//! `cargo xtask tidy`: the architecture's invariants and the house rules, as a check.
//!
//! Every violation is printed as `file:line: rule`, so that an editor can jump to it.

mod layers;
mod source;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::project::Project;
use crate::ui;

/// Directories that hold nothing of ours.
const SKIPPED: &[&str] = &[".git", "target", "artifacts", "corpus", "node_modules"];

/// A rule that a line does not keep.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path in the repository.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// The rule, and what to do.
    pub rule: String,
}

/// Runs the task.
pub fn run(project: &Project) -> Result<()> {
    let files = files(&project.root)?;
    let tests = source::test_modules(&project.root, &files);
    let mut violations = Vec::new();
    for file in &files {
        violations.extend(check_file(&project.root, file, tests.contains(file))?);
    }
    violations.sort();
    for Violation { file, line, rule } in &violations {
        ui::print(format!("{file}:{line}: {rule}"));
    }
    if !violations.is_empty() {
        bail!(
            "{} places break the rules: see the lines above and ARCHITECTURE.md",
            violations.len()
        );
    }
    ui::note(format!("tidy: {} files keep the rules", files.len()));
    Ok(())
}

fn check_file(root: &Path, file: &Path, is_test: bool) -> Result<Vec<Violation>> {
    let name = file.display().to_string();
    let bytes = fs::read(root.join(file)).with_context(|| format!("{name} can not be read"))?;
    let Ok(content) = String::from_utf8(bytes) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if file.extension().is_some_and(|extension| extension == "rs") {
        found.extend(text::source(&content));
        if let Ok(inner) = file.strip_prefix("observer/src")
            && !is_test
        {
            match layers::check(inner, &content) {
                Ok(more) => found.extend(more),
                Err(error) => found.push((1, format!("can not be read as Rust: {error:#}"))),
            }
        }
    }
    if text::is_published(file) {
        found.extend(text::published(&content, &text::own_words(root)));
    }
    let violation = |(line, rule)| Violation {
        file: name.clone(),
        line,
        rule,
    };
    Ok(found.into_iter().map(violation).collect())
}

/// Every file of the repository, relative to its root, in order.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("{} can not be listed", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("{} can not be listed", dir.display()))?;
            let kind = entry
                .file_type()
                .with_context(|| format!("{} vanished", entry.path().display()))?;
            if kind.is_dir() {
                if !SKIPPED.iter().any(|&skipped| entry.file_name() == skipped) {
                    open.push(entry.path());
                }
            } else if kind.is_file() {
                files.extend(entry.path().strip_prefix(root).map(Path::to_owned));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes one made-up file and gives what tidy says of it.
    fn check(file: &str, content: &str, expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        assert_eq!(files(dir.path()).unwrap(), [Path::new(file)]);
        let found: Vec<String> = check_file(dir.path(), Path::new(file), false)
            .unwrap()
            .into_iter()
            .map(|violation| format!("{}: {}", violation.line, violation.rule))
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
    fn a_file_that_keeps_the_rules_is_not_named() {
        check(
            "observer/src/decode/wait.rs",
            "//! Waits.\nuse crate::model::Pid;\n",
            &[],
        );
    }

    #[test]
    fn a_stage_that_imports_another_is_named() {
        check(
            "observer/src/decode/wait.rs",
            "//! Waits.\n\nuse crate::intake::Record;\n",
            &["3: decode may not import intake"],
        );
    }

    #[test]
    fn a_file_without_an_opening_line_is_named() {
        check(
            "demo-app/src/a.rs",
            "fn a() {}\n",
            &["1: opens without `//!`"],
        );
    }

    #[test]
    fn a_document_that_names_the_machine_is_named() {
        check(
            "docs/a.md",
            "text\nsee /home/someone/x\n",
            &["2: names a path of one machine"],
        );
        check("observer/src/model/a.rs", "//! See /home/someone/x\n", &[]);
    }

    #[test]
    fn a_file_that_is_not_rust_is_named() {
        check(
            "observer/src/model/a.rs",
            "//! A.\nfn a( {\n",
            &["1: can not be read as Rust"],
        );
    }
}
