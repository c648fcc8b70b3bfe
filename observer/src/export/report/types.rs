//! Names of task types for people: a future's type without what the compiler adds to it.

use crate::export::text::clean::{clean, fit, width};

/// A type's name in at most `max` columns: without the compiler's marks for closures and async
/// blocks; when that is too long, without generic arguments; when that is, without its middle.
pub fn short(name: &str, max: usize) -> String {
    let plain = clean(&without_marks(name));
    if width(&plain) <= max {
        return plain;
    }
    fit(&without_arguments(&plain), max)
}

/// Without path segments in braces: `::{{closure}}`, `::{async_fn_env#0}`, `::{closure#1}`.
fn without_marks(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("::{") {
        let (before, mark) = rest.split_at(at);
        out.push_str(before);
        let mut depth = 0_u32;
        let end = mark.char_indices().find_map(|(i, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (c == '}' && depth == 0).then_some(i + 1)
        });
        // A mark that is not closed was cut: the rest says nothing.
        let Some(end) = end else { return out };
        rest = &mark[end..];
    }
    out.push_str(rest);
    out
}

/// `a::B<C, D<E>>::f` becomes `a::B<..>::f`.
fn without_arguments(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut depth = 0_u32;
    let mut before = ' ';
    for c in name.chars() {
        match c {
            // A type that begins so (`<A as B>::f`) has no other name; `->` closes nothing.
            '<' if depth == 0 && !out.is_empty() => {
                out.push_str("<..");
                depth = 1;
            }
            '<' if depth > 0 => depth += 1,
            '>' if depth > 0 && before != '-' => {
                depth -= 1;
                if depth == 0 {
                    out.push('>');
                }
            }
            c if depth == 0 => out.push(c),
            _ => {}
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_first_then_arguments_then_the_middle() {
        let check = |name: &str, max, expected: &str| assert_eq!(short(name, max), expected);
        check("app::go::{{closure}}", 40, "app::go");
        check("app::go::{{closure}}::{{closure}}", 40, "app::go");
        check("app::go::{async_fn_env#0}<u8>", 40, "app::go<u8>");
        check("app::main::{closure#1}::{closure#2}", 40, "app::main");
        let long = "axum::serve::serve<app::Listener, fn(app::X) -> app::Y>::{async_block_env#0}";
        check(
            long,
            100,
            "axum::serve::serve<app::Listener, fn(app::X) -> app::Y>",
        );
        check(long, 40, "axum::serve::serve<..>");
        check(long, 14, "axum...rve<..>");
        check("<app::A as app::B>::run", 40, "<app::A as app::B>::run");
        check("app::go::{async_fn", 40, "app::go");
        check("\u{1b}[31m", 40, "\\u{1b}[31m");
        check("", 10, "");
        check("><>>::}{", 3, "...");
    }
}
