//! The digest that ties the committed objects to what they were built from.
//!
//! A text file in the manner of `sha256sum`: one line per input and per object, one for the flags,
//! and a total over all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::BYTECODE;
use super::compile::{FLAGS, VARIANTS};
use crate::project::Project;

/// Where it lies.
pub const FILE: &str = "observer-ebpf/bytecode/inputs.sha256";

/// Inputs that must exist; directories count with everything under them.
const INPUTS: &[&str] = &[
    "observer-common/Cargo.toml",
    "observer-common/src",
    "observer-ebpf/Cargo.lock",
    "observer-ebpf/Cargo.toml",
    "observer-ebpf/src",
    "rust-toolchain.toml",
];

/// Inputs that count when they exist.
const OPTIONAL: &[&str] = &["observer-ebpf/.cargo/config.toml", "observer-ebpf/build.rs"];

/// Hash by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Digest {
    lines: BTreeMap<String, String>,
}

impl Digest {
    /// Hashes the inputs as they are now, and the committed objects.
    pub fn of(project: &Project) -> Result<Self> {
        let mut lines = BTreeMap::new();
        for input in INPUTS {
            add(&mut lines, &project.root, Path::new(input))?;
        }
        for input in OPTIONAL.iter().filter(|input| project.path(input).exists()) {
            add(&mut lines, &project.root, Path::new(input))?;
        }
        let objects = fs::read_dir(project.path(BYTECODE))
            .into_iter()
            .flatten()
            .flatten();
        for object in objects.filter(|entry| entry.path().extension().is_some_and(|e| e == "o")) {
            add(
                &mut lines,
                &project.root,
                &Path::new(BYTECODE).join(object.file_name()),
            )?;
        }
        let flags = format!("{} variants {}", FLAGS.join(" "), VARIANTS.join(" "));
        lines.insert(format!("(flags) {flags}"), hash(flags.as_bytes()));
        Ok(Self { lines })
    }

    /// The digest over all of it.
    pub fn total(&self) -> String {
        hash(self.body().as_bytes())
    }

    /// The file's content.
    pub fn text(&self) -> String {
        format!("{}{}  (total)\n", self.body(), self.total())
    }

    /// What differs from a stored digest file, one clause each; empty when nothing does.
    pub fn differences(&self, stored: &str) -> Vec<String> {
        let old: BTreeMap<&str, &str> = stored
            .lines()
            .filter_map(|line| line.split_once("  ").map(|(hash, name)| (name, hash)))
            .collect();
        let mut differences: Vec<String> = self
            .lines
            .iter()
            .filter_map(|(name, hash)| match old.get(name.as_str()) {
                None => Some(format!("{name} is new")),
                Some(old) if old != hash => Some(format!("{name} changed")),
                Some(_) => None,
            })
            .collect();
        let gone = old
            .keys()
            .filter(|&&name| name != "(total)" && !self.lines.contains_key(name));
        differences.extend(gone.map(|name| format!("{name} is gone")));
        if differences.is_empty() && self.text() != stored {
            differences.push(format!("{FILE} was edited by hand"));
        }
        differences
    }

    fn body(&self) -> String {
        self.lines.iter().fold(String::new(), |text, (name, hash)| {
            text + hash + "  " + name + "\n"
        })
    }
}

fn add(lines: &mut BTreeMap<String, String>, root: &Path, relative: &Path) -> Result<()> {
    let path = root.join(relative);
    let unreadable = || {
        format!(
            "{} can not be read: it is an input of the kernel programs",
            relative.display()
        )
    };
    if path.is_dir() {
        for entry in fs::read_dir(&path).with_context(unreadable)? {
            add(
                lines,
                root,
                &relative.join(entry.with_context(unreadable)?.file_name()),
            )?;
        }
    } else {
        let content = fs::read(&path).with_context(unreadable)?;
        lines.insert(relative.display().to_string(), hash(&content));
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        let project = Project {
            root: dir.path().to_owned(),
            target: dir.path().join("target"),
        };
        for file in [
            "observer-common/Cargo.toml",
            "observer-common/src/lib.rs",
            "observer-ebpf/Cargo.lock",
            "observer-ebpf/Cargo.toml",
            "observer-ebpf/src/main.rs",
            "observer-ebpf/bytecode/observer.ring.o",
            "rust-toolchain.toml",
        ] {
            let path = project.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        (dir, project)
    }

    #[test]
    fn an_unchanged_tree_does_not_differ() {
        let (_dir, project) = project();
        let stored = Digest::of(&project).unwrap().text();
        assert_eq!(
            Digest::of(&project).unwrap().differences(&stored),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_kind_of_change_is_named() {
        let (_dir, project) = project();
        let stored = Digest::of(&project).unwrap().text();
        let check = |expected: &str| {
            assert_eq!(
                Digest::of(&project).unwrap().differences(&stored),
                [expected]
            );
        };
        fs::write(project.path("observer-ebpf/src/new.rs"), "x").unwrap();
        check("observer-ebpf/src/new.rs is new");
        fs::remove_file(project.path("observer-ebpf/src/new.rs")).unwrap();
        fs::write(
            project.path("observer-ebpf/bytecode/observer.ring.o"),
            "other",
        )
        .unwrap();
        check("observer-ebpf/bytecode/observer.ring.o changed");
        fs::remove_file(project.path("observer-ebpf/bytecode/observer.ring.o")).unwrap();
        check("observer-ebpf/bytecode/observer.ring.o is gone");
    }

    #[test]
    fn a_forged_total_is_noticed() {
        let (_dir, project) = project();
        let digest = Digest::of(&project).unwrap();
        let forged = digest.text().replace(&digest.total(), &"0".repeat(64));
        assert_eq!(digest.differences(&forged).len(), 1);
    }
}
