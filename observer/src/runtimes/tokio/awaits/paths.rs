//! Names of functions and types, as stacks show them: debug information says in which namespaces
//! something lies, and numbers `impl` blocks; the symbol of a function in the block tells its type.

use std::collections::HashMap;

use super::dies::{Die, Dies, fold};

/// Longer names help nobody.
const MAX_NAME: usize = 512;

/// `impl` blocks, by [`fold`] over their paths.
#[derive(Debug)]
pub(super) struct Names {
    /// A function in it, and how many names deeper it lies.
    functions: HashMap<u64, (Die, usize)>,
    /// Those that were named already.
    blocks: HashMap<u64, Option<String>>,
}

impl Names {
    pub(super) fn new(functions: HashMap<u64, (Die, usize)>) -> Self {
        Self {
            functions,
            blocks: HashMap::new(),
        }
    }

    /// An async function or block: `app::handler::{async_fn#0}`.
    pub(super) fn of_coroutine(&mut self, dies: &Dies<'_>, parts: &[&[u8]], name: &[u8]) -> String {
        let own = text(name);
        // `{async_fn_env#0}<T>` is the type of `{async_fn#0}`.
        let own = without_arguments(&own).replace("_env#", "#");
        self.join(dies, parts, &own)
    }

    /// A type, without its parameters.
    pub(super) fn of_type(&mut self, dies: &Dies<'_>, parts: &[&[u8]], name: &[u8]) -> String {
        let own = text(name);
        self.join(dies, parts, without_arguments(&own))
    }

    fn join(&mut self, dies: &Dies<'_>, parts: &[&[u8]], own: &str) -> String {
        let mut path = String::new();
        let mut folded = 0;
        for part in parts {
            folded = fold(folded, part);
            let functions = &self.functions;
            let block = self.blocks.entry(folded).or_insert_with(|| {
                let (function, steps) = functions.get(&folded)?;
                block_name(dies.node(*function)?.symbol?, *steps)
            });
            match block {
                // A block's name is a whole path.
                Some(block) => path.clone_from(block),
                None => append(&mut path, &text(part)),
            }
        }
        append(&mut path, own);
        cut(path)
    }
}

fn append(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push_str("::");
    }
    path.push_str(name);
}

fn cut(mut name: String) -> String {
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME)
            .rev()
            .find(|&i| name.is_char_boundary(i))
            .unwrap_or(0);
        name.truncate(end);
        name.push('…');
    }
    name
}

pub(super) fn text(name: &[u8]) -> String {
    cut(String::from_utf8_lossy(name).into_owned())
}

/// The path without `impl` blocks: `tokio::sync::mutex::lock`.
pub(super) fn plain(parts: &[&[u8]]) -> String {
    let names: Vec<String> = parts
        .iter()
        .filter(|part| !part.starts_with(b"{impl#"))
        .map(|part| text(part))
        .collect();
    names.join("::")
}

/// The same of a type, without parameters.
pub(super) fn plain_type(parts: &[&[u8]], name: &[u8]) -> String {
    let mut path = plain(parts);
    append(&mut path, without_arguments(&text(name)));
    path
}

/// `Receiver<u64>` -> `Receiver`; a tuple, a function pointer and the like stay as they are.
fn without_arguments(name: &str) -> &str {
    match name.find('<') {
        Some(at) if at > 0 && !name.starts_with(['(', '&', '*', '[']) => {
            name.get(..at).unwrap_or(name)
        }
        _ => name,
    }
}

/// What an `impl` block is of, from the symbol of a function that lies `steps` names deeper:
/// `tokio::sync::mutex::Mutex<T>`, `<app::Service as app::Handle>`.
fn block_name(symbol: &[u8], steps: usize) -> Option<String> {
    let symbol = std::str::from_utf8(symbol).ok()?;
    let name = format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?);
    let mut parts = split(&name);
    for _ in 0..steps {
        // Arguments of a function are a part of their own (v0 mangling).
        while parts.len() > 1 && parts.last().is_some_and(|part| part.starts_with('<')) {
            parts.pop();
        }
        parts.pop()?;
    }
    let block = parts.join("::");
    // v0 writes `<app::Service<T>>` for a block of the type's own.
    let own = block
        .strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .filter(|rest| !rest.contains(" as ") && split(rest).join("::") == *rest);
    let block = own.unwrap_or(&block);
    (!block.is_empty()).then(|| block.to_owned())
}

/// Splits at `::` outside of brackets.
fn split(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    let mut previous = ' ';
    for (at, c) in name.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            // `->` in a function type is no bracket.
            '>' if previous == '-' => {}
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ':' if depth == 0 && previous == ':' && at > start => {
                parts.extend(name.get(start..at - 1));
                start = at + 1;
            }
            _ => {}
        }
        previous = c;
    }
    parts.extend(name.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_named_by_the_symbols_of_their_functions() {
        let legacy = |path: &str| format!("_ZN{path}17h0123456789abcdefE");
        for (symbol, steps, block) in [
            (
                legacy("5tokio4sync5mutex14Mutex$LT$T$GT$4lock28_$u7b$$u7b$closure$u7d$$u7d$"),
                2,
                Some("tokio::sync::mutex::Mutex<T>"),
            ),
            (
                legacy("43_$LT$app..A$u20$as$u20$app..Handle$GT$6handle"),
                1,
                None,
            ),
            (
                legacy("38_$LT$app..A$u20$as$u20$app..Handle$GT$6handle"),
                1,
                Some("<app::A as app::Handle>"),
            ),
            ("no symbol".to_owned(), 1, None),
            (legacy("3app"), 2, None),
        ] {
            let found = block_name(symbol.as_bytes(), steps);
            assert_eq!(found.as_deref(), block, "{symbol}");
        }
        assert_eq!(split("<a::B as c::D>::e::<f::G>::{closure#0}").len(), 4);
        assert_eq!(split(""), [""]);
        assert_eq!(split("::"), ["", ""]);
    }

    #[test]
    fn parameters_are_left_out() {
        assert_eq!(without_arguments("Receiver<u64>"), "Receiver");
        assert_eq!(without_arguments("{async_fn_env#0}<T>"), "{async_fn_env#0}");
        assert_eq!(without_arguments("(A<B>, C)"), "(A<B>, C)");
    }
}
