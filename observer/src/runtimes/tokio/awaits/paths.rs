//! Names of functions and types, as stacks show them: debug information says in which namespaces
//! something lies, and numbers `impl` blocks; the symbol of a function in the block tells its type.

use std::collections::HashMap;

use super::dies::{Die, Dies, fold};

/// Longer names help nobody.
const MAX_NAME: usize = 512;

/// `impl` blocks, by [`fold`] over their paths.
#[derive(Debug)]
pub(super) struct Names {
    /// Functions in it, and how many names deeper they lie.
    functions: HashMap<u64, Vec<(Die, usize)>>,
    /// Those that were named already.
    blocks: HashMap<u64, Option<Block>>,
}

/// What an `impl` block is of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    /// As the function's symbol says it.
    exact: String,
    /// True of everything in the block, when that has parameters: a v0 symbol names those of one
    /// function, and in a block for any type also that type.
    general: String,
}

impl Names {
    pub(super) fn new(functions: HashMap<u64, Vec<(Die, usize)>>) -> Self {
        Self {
            functions,
            blocks: HashMap::new(),
        }
    }

    /// An async function or block: `app::handler::{async_fn#0}`.
    pub(super) fn of_coroutine(&mut self, dies: &Dies<'_>, parts: &[&[u8]], name: &[u8]) -> String {
        let whole = text(name);
        // `{async_fn_env#0}<T>` is the type of `{async_fn#0}`.
        let own = without_arguments(&whole);
        let has_parameters = own != whole;
        self.join(dies, parts, (&own.replace("_env#", "#"), has_parameters))
    }

    /// A type, without its parameters.
    pub(super) fn of_type(&mut self, dies: &Dies<'_>, parts: &[&[u8]], name: &[u8]) -> String {
        let whole = text(name);
        let own = without_arguments(&whole);
        self.join(dies, parts, (own, own != whole))
    }

    fn join(
        &mut self,
        dies: &Dies<'_>,
        parts: &[&[u8]],
        (own, has_parameters): (&str, bool),
    ) -> String {
        let mut path = String::new();
        let mut folded = 0;
        for part in parts {
            folded = fold(folded, part);
            let functions = &self.functions;
            let block = self.blocks.entry(folded).or_insert_with(|| {
                let samples = functions.get(&folded)?.iter();
                let mut found = samples.filter_map(|(function, steps)| {
                    block_name(dies.node(*function)?.symbol?, *steps)
                });
                let first = found.next()?;
                // Of two versions of a crate: which one it is is not known.
                found
                    .all(|other| other.general == first.general)
                    .then_some(first)
            });
            match block {
                // A block's name is a whole path.
                Some(block) if has_parameters => path.clone_from(&block.general),
                Some(block) => path.clone_from(&block.exact),
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
fn block_name(symbol: &[u8], steps: usize) -> Option<Block> {
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
    let exact = own.unwrap_or(&block).to_owned();
    if exact.is_empty() {
        return None;
    }
    let general = if !symbol.starts_with("_R") {
        exact.clone()
    } else if let Some((_, of)) = exact.rsplit_once(" as ") {
        format!("<_ as {}>", without_brackets(of))
    } else {
        without_brackets(&exact)
    };
    Some(Block { exact, general })
}

/// `app::Service<a::B<c::D>>` -> `app::Service`.
fn without_brackets(name: &str) -> String {
    let (mut kept, mut depth) = (String::new(), 0_u32);
    let mut previous = ' ';
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' if previous != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
        previous = c;
    }
    kept
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
            let exact = found.as_ref().map(|block| block.exact.as_str());
            assert_eq!(exact, block, "{symbol}");
            assert!(found.is_none_or(|block| block.exact == block.general));
        }
        assert_eq!(split("<a::B as c::D>::e::<f::G>::{closure#0}").len(), 4);
        assert_eq!(split(""), [""]);
        assert_eq!(split("::"), ["", ""]);
    }

    #[test]
    fn what_one_instance_says_is_not_said_of_others() {
        // app::Service<u8>::call::{closure#0}, <app::Service<u8> as app::Handle>::handle::{closure#0}
        for (symbol, exact, general) in [
            (
                "_RNCNvMCs1_3appINtB4_7ServicehE4call0B4_",
                "app::Service<u8>",
                "app::Service",
            ),
            (
                "_RNCNvXCs1_3appINtB4_7ServicehENtB4_6Handle6handle0B4_",
                "<app::Service<u8> as app::Handle>",
                "<_ as app::Handle>",
            ),
        ] {
            let block = block_name(symbol.as_bytes(), 2).unwrap();
            assert_eq!(
                (block.exact.as_str(), block.general.as_str()),
                (exact, general)
            );
        }
    }

    #[test]
    fn parameters_are_left_out() {
        assert_eq!(without_arguments("Receiver<u64>"), "Receiver");
        assert_eq!(without_arguments("{async_fn_env#0}<T>"), "{async_fn_env#0}");
        assert_eq!(without_arguments("(A<B>, C)"), "(A<B>, C)");
    }
}
