//! Rules on the text of files: their opening, their length, and what published text must not name.

use std::env;
use std::path::Path;

/// Lines that a file may have above its tests.
const LONGEST: usize = 500;

/// Starts of paths that exist on one machine only, and marks of private package mirrors.
const MACHINE: &[&str] = &[
    "/home/",
    "/Users/",
    "/root/",
    "/work/",
    "/builds/",
    "/workspace/",
];
const MIRRORS: &[&str] = &[
    "artifactory",
    "nexus.",
    "mirror.",
    "proxy.internal",
    ".internal/",
    ".corp/",
    ".local/",
];

/// Rules on Rust sources: `(line, rule)`.
pub fn source(content: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    if !content.starts_with("//!") {
        found.push((
            1,
            "opens without `//!`: say in a line what the file is for".to_owned(),
        ));
    }
    let above = content
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .count();
    if above > LONGEST {
        let rule =
            format!("{above} lines above the tests, {LONGEST} are the most: split it by subject");
        found.push((LONGEST + 1, rule));
    }
    found
}

/// Whether readers elsewhere get to see the file as it is.
pub fn is_published(file: &Path) -> bool {
    let document = file
        .extension()
        .is_some_and(|extension| ["md", "html", "txt"].iter().any(|e| extension == *e));
    let place = ["docs", "deploy", "dashboards"]
        .iter()
        .any(|dir| file.starts_with(dir));
    document || place
}

/// Words that name this very machine: where the repository lies, and more from `OBSERVER_TIDY_WORDS`
/// (comma separated), for names that must not leave the house.
pub fn own_words(root: &Path) -> Vec<String> {
    let mut words = vec![root.display().to_string()];
    if let Ok(more) = env::var("OBSERVER_TIDY_WORDS") {
        words.extend(
            more.split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned),
        );
    }
    words
}

/// Rules on published text: `(line, rule)`.
pub fn published(content: &str, own: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in content.lines().enumerate() {
        let lower = line.to_lowercase();
        if let Some(start) = MACHINE.iter().find(|start| names_root(line, start)) {
            found.push((
                at + 1,
                format!(
                    "names a path of one machine ({start}...): write it relative to the repository"
                ),
            ));
        } else if let Some(word) = own.iter().find(|word| lower.contains(&word.to_lowercase())) {
            found.push((
                at + 1,
                format!("names this workplace ({word}): leave it out"),
            ));
        } else if let Some(mark) = MIRRORS
            .iter()
            .find(|mark| lower.contains("://") && lower.contains(**mark))
        {
            found.push((
                at + 1,
                format!("names a private host ({mark}): name the public one"),
            ));
        }
    }
    found
}

/// Whether a path in the line begins so (`a/home/b` and `http://host/home/` do not).
fn names_root(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        line[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !(before.is_alphanumeric() || "._-}~".contains(before)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: usize) {
        let found = published(content, &["acme-lab".to_owned()]);
        assert_eq!(found.len(), expected, "{found:?}");
    }

    #[test]
    fn one_machine_is_not_named() {
        check("run `cargo build` and look in target/home/x", 0);
        check("the file /root/x", 1);
        check("(`/work/observer`)", 1);
        check("see https://example.org/home/x", 0);
        check("built at the Acme-Lab", 1);
        check("from https://artifactory.example.org/cargo", 1);
    }

    #[test]
    fn length_is_counted_above_the_tests() {
        let body = |lines: usize| format!("//! A.\n{}", "fn a() {}\n".repeat(lines - 1));
        assert_eq!(source(&body(500)), []);
        assert_eq!(source(&body(501)).len(), 1);
        assert_eq!(
            source(&format!("{}#[cfg(test)]\n{}", body(400), body(400))),
            []
        );
    }

    #[test]
    fn documents_and_their_directories_are_published() {
        assert!(is_published(Path::new("README.md")));
        assert!(is_published(Path::new("deploy/observer.service")));
        assert!(!is_published(Path::new("observer/src/app.rs")));
    }
}
