//! Rust sources as tokens: which paths a file names and which string literals it holds.
//!
//! Tokens instead of a syntax tree, so that the inside of `format!` and other macros counts too.
//! What stands under `#[cfg(test)]`, and attributes (doc comments are attributes), are left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a file names.
#[derive(Debug, Default)]
pub struct Named {
    /// Paths of two segments or more, `use` trees flattened, with their line and the inline modules
    /// around them.
    pub paths: Vec<NamedPath>,
    /// String literals with their line, as written.
    pub strings: Vec<(usize, String)>,
    /// Modules declared in the file.
    pub modules: Vec<String>,
}

/// One path.
#[derive(Debug)]
pub struct NamedPath {
    /// Line, from 1.
    pub line: usize,
    /// Its segments.
    pub segments: Vec<String>,
    /// How many inline modules stand around it.
    pub depth: usize,
}

/// Reads a file.
pub fn read(content: &str) -> Result<Named> {
    let tokens: TokenStream = content.parse().map_err(|error| anyhow!("{error}"))?;
    let mut named = Named::default();
    walk(tokens, &[], 0, &mut named);
    Ok(named)
}

/// The files that are compiled for tests only: a module above them says so.
pub fn test_modules(root: &Path, files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
    {
        // What can not be read is said elsewhere.
        let content = fs::read_to_string(root.join(file)).unwrap_or_default();
        let dir = match file.file_stem() {
            Some(stem) if stem != "mod" && stem != "lib" && stem != "main" => {
                file.with_extension("")
            }
            _ => file.parent().unwrap_or(Path::new("")).to_owned(),
        };
        for (name, path) in test_declarations(&content) {
            if let Some(path) = path {
                found.insert(file.with_file_name(path));
            } else {
                found.insert(dir.join(format!("{name}.rs")));
                found.insert(dir.join(name).join("mod.rs"));
            }
        }
    }
    found
}

/// Each `#[cfg(test)] mod name;` with the value of its `#[path]`, if any.
fn test_declarations(content: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    content.split("#[cfg(test)]").skip(1).filter_map(|after| {
        let mut path = None;
        for line in after.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(value) = line.strip_prefix("#[path = \"") {
                path = value.strip_suffix("\"]");
            } else if !line.starts_with("#[") {
                let (visibility, name) = line.split_once("mod ")?;
                let is_module = visibility.is_empty() || visibility.starts_with("pub");
                return is_module.then_some((name.strip_suffix(';')?, path));
            }
        }
        None
    })
}

/// Walks a group; `prefix` is the path before it when it is the `{}` of a `use` tree.
fn walk(tokens: TokenStream, prefix: &[String], depth: usize, named: &mut Named) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        at = match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => attribute(&tokens, at),
            TokenTree::Ident(word) if word == "mod" => module(&tokens, at, depth, named),
            TokenTree::Ident(_) => path(&tokens, at, prefix, depth, named),
            TokenTree::Group(group) => {
                walk(group.stream(), &[], depth, named);
                at + 1
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if text.contains('"') {
                    named.strings.push((literal.span().start().line, text));
                }
                at + 1
            }
            TokenTree::Punct(_) => at + 1,
        };
    }
}

/// Steps over an attribute, and over the item it stands before when that is for tests only.
fn attribute(tokens: &[TokenTree], at: usize) -> usize {
    let bang = usize::from(is_punct(tokens.get(at + 1), '!'));
    let Some(TokenTree::Group(group)) = tokens.get(at + 1 + bang) else {
        return at + 1;
    };
    let text: String = group.stream().to_string().split_whitespace().collect();
    let mut next = at + 2 + bang;
    if text != "cfg(test)" {
        return next;
    }
    while let Some(token) = tokens.get(next) {
        next += 1;
        let ends = match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        };
        if ends {
            break;
        }
    }
    next
}

fn module(tokens: &[TokenTree], at: usize, depth: usize, named: &mut Named) -> usize {
    let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else {
        return at + 1;
    };
    named.modules.push(name.to_string());
    if let Some(TokenTree::Group(group)) = tokens.get(at + 2) {
        walk(group.stream(), &[], depth + 1, named);
        return at + 3;
    }
    at + 2
}

/// Collects the path that begins at a word, with the `use` tree that may end it.
fn path(
    tokens: &[TokenTree],
    at: usize,
    prefix: &[String],
    depth: usize,
    named: &mut Named,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = 0;
    let mut next = at;
    loop {
        match tokens.get(next) {
            Some(TokenTree::Ident(word)) => {
                line = word.span().start().line;
                segments.push(word.to_string());
                next += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && next > at => {
                walk(group.stream(), &segments, depth, named);
                return next + 1;
            }
            _ => break,
        }
        if is_punct(tokens.get(next), ':') && is_punct(tokens.get(next + 1), ':') {
            next += 2;
        } else {
            break;
        }
    }
    let is_use = at > 0
        && matches!(&tokens[at - 1], TokenTree::Ident(word) if word == "use" || word == "crate");
    if segments.len() > 1 || is_use {
        named.paths.push(NamedPath {
            line,
            segments,
            depth,
        });
    }
    next.max(at + 1)
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: &[&str]) {
        let named = read(content).unwrap();
        let paths: Vec<String> = named
            .paths
            .iter()
            .map(|path| format!("{} {}", path.line, path.segments.join("::")))
            .collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn modules_for_tests_are_found() {
        let content = "#[cfg(test)]\npub(crate) mod live;\nmod a;\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod b;\n#[cfg(test)]\nmod c {}";
        assert_eq!(
            test_declarations(content).collect::<Vec<_>>(),
            [("live", None), ("b", Some("b.rs"))]
        );
    }

    #[test]
    fn use_trees_are_flattened() {
        check(
            "use crate::{model::{Pid, Tid}, sys};\nuse std::fs;\nuse aya;",
            &[
                "1 crate::model::Pid",
                "1 crate::model::Tid",
                "1 crate::sys",
                "2 std::fs",
                "3 aya",
            ],
        );
    }

    #[test]
    fn paths_in_expressions_types_and_macros_count() {
        check(
            "fn f(a: crate::sys::A) { vec![crate::intake::b()]; x.fs.y; }",
            &["1 crate::sys::A", "1 crate::intake::b"],
        );
    }

    #[test]
    fn tests_and_documentation_do_not_count() {
        let content = "/// See \"/proc\" and crate::x::y.\n#[cfg(test)]\nmod tests { use crate::app::x; }\n\
                       #[cfg(test)]\nuse crate::app::y;\nfn f() { g(\"/proc/self\"); }";
        check(content, &[]);
        assert_eq!(
            read(content).unwrap().strings,
            [(6, "\"/proc/self\"".to_owned())]
        );
    }
}
