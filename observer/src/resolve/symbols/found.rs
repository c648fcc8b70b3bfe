//! What blazesym found at an address, as frames.

use blazesym::symbolize::source::Source;
use blazesym::symbolize::{Input, Reason as SymReason, Sym, Symbolized, Symbolizer};

use super::demangle::demangle;
use super::plugin::ResolvedFrame;
use crate::model::Frame;
use crate::resolve::classify;

/// A symbol without a size (hand-written assembly) is believed this far, in bytes. Beyond that the
/// nearest symbol names a function that has nothing to do with the address.
const UNSIZED_REACH: usize = 512;
/// The kernel's symbols have no sizes, but all functions are listed, so that the next one ends each; only
/// behind the last one of a module is a gap. Longer than any function (Linux 6.18: 20 688 bytes).
const KERNEL_REACH: usize = 64 * 1024;
/// Inlined functions shown for one address.
pub const MAX_INLINED: usize = 64;

/// The functions at an address of `source`, innermost first.
pub fn functions(
    blazesym: &Symbolizer,
    source: &Source<'_>,
    input: Input<u64>,
) -> Result<Vec<ResolvedFrame>, Failure> {
    let unsized_reach = match source {
        Source::Kernel(_) => KERNEL_REACH,
        _ => UNSIZED_REACH,
    };
    match blazesym.symbolize_single(source, input) {
        Ok(Symbolized::Sym(sym)) if is_far(&sym, unsized_reach) => Err(Failure::Far),
        Ok(Symbolized::Sym(sym)) => Ok(expand(&sym)),
        Ok(Symbolized::Unknown(SymReason::IgnoredError)) => {
            Err(Failure::Error("its symbols can not be read".to_owned()))
        }
        Ok(Symbolized::Unknown(_)) => Err(Failure::None),
        Err(error) => Err(Failure::Error(error.to_string())),
    }
}

/// Why an address has no function.
pub enum Failure {
    /// Nothing lies there.
    None,
    /// The nearest function before it does not reach so far.
    Far,
    /// The symbols can not be read.
    Error(String),
}

/// Whether the address lies behind the end of the function.
fn is_far(sym: &Sym<'_>, unsized_reach: usize) -> bool {
    match sym.size {
        Some(size) if size > 0 => sym.offset >= size,
        _ => sym.offset >= unsized_reach,
    }
}

/// The functions inlined at the address, innermost first, then the one that holds them.
fn expand(sym: &Sym<'_>) -> Vec<ResolvedFrame> {
    let resolved = |name: &str, code: Option<&blazesym::symbolize::CodeInfo<'_>>| ResolvedFrame {
        function: classify::without_hash(&demangle(name)).to_owned(),
        file: code.map(|code| code.to_path().display().to_string()),
        line: code.and_then(|code| code.line).filter(|line| *line > 0),
        kind: None,
    };
    let inlined = sym.inlined.iter().rev().take(MAX_INLINED);
    inlined
        .map(|f| resolved(&f.name, f.code_info.as_ref()))
        .chain([resolved(&sym.name, sym.code_info.as_deref())])
        .collect()
}

/// The frames of one address, there.
pub fn at(address: u64, found: &[Frame]) -> impl Iterator<Item = Frame> {
    found.iter().map(move |frame| Frame {
        address,
        ..frame.clone()
    })
}

/// Debug information names an inlined closure `{closure#0}` and nothing more; the function that it
/// was inlined into is the last frame of the same address, and tells whose closure it is.
pub fn qualify_inlined(frames: &mut [Frame]) {
    fn bare(frame: &Frame) -> Option<&str> {
        frame
            .function
            .as_deref()
            .filter(|name| name.starts_with('{'))
    }
    let owner = frames
        .iter()
        .enumerate()
        .rev()
        .find(|(_, frame)| bare(frame).is_none())
        .and_then(|(at, frame)| Some((at, frame.function.clone()?)));
    let Some((end, owner)) = owner else { return };
    for frame in &mut frames[..end] {
        if let Some(name) = bare(frame) {
            frame.function = Some(format!("{owner}::{name}").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FrameKind;

    #[test]
    fn an_inlined_closure_is_named_after_the_function_it_lies_in() {
        let frame = |name: &str| Frame {
            address: 0,
            function: Some(name.into()),
            file: None,
            line: None,
            module: None,
            module_offset: None,
            kind: FrameKind::User,
            unknown_reason: None,
        };
        let check = |names: &[&str], expected: &[&str]| {
            let mut frames: Vec<Frame> = names.iter().map(|name| frame(name)).collect();
            qualify_inlined(&mut frames);
            let names = frames.iter().filter_map(|f| f.function.as_deref());
            assert_eq!(names.collect::<Vec<_>>(), expected);
        };
        check(
            &["{closure#0}", "time<()>", "{async_fn#0}", "app::save"],
            &[
                "app::save::{closure#0}",
                "time<()>",
                "app::save::{async_fn#0}",
                "app::save",
            ],
        );
        // Nothing tells whose these are.
        check(
            &["{closure#1}", "app::main", "{async_fn#0}"],
            &["app::main::{closure#1}", "app::main", "{async_fn#0}"],
        );
        check(&["{closure#0}"], &["{closure#0}"]);
    }
}
