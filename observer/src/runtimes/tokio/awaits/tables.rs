//! Vtables: which type lies in a box of a trait. Of futures and what else is polled all are of interest;
//! of other traits those whose type may own something that others wait for.

use std::collections::HashSet;

use super::decode::{Decoder, References};
use super::dies::Die;
use super::layout::TypeId;

/// Traits beside futures whose values are polled: what is in them waits for the whole (`http_body`,
/// `futures_core`, hyper 1 `rt/timer.rs`).
const POLLED: [&[u8]; 3] = [
    b"http_body::Body",
    b"futures_core::stream::Stream",
    b"hyper::rt::timer::Sleep",
];
/// Modules of std with traits that most types have: what is in a box of one of these is not looked for.
const PLAIN: [&[u8]; 3] = [b"core::fmt::", b"core::error::", b"core::any::"];
/// Boxes in types in boxes: so often the traits are looked through again.
const MAX_ROUNDS: usize = 4;
/// Entries of debug information that are looked at for that: the types behind all vtables of a large program.
const MAX_ENTRIES: usize = 10_000_000;

/// A vtable in the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    /// Where it lies in the file.
    pub(super) address: u64,
    /// The entry of its own type.
    pub(super) of: Die,
    /// The trait's path.
    pub(super) of_trait: &'a [u8],
}

/// The path of the trait in the name of a vtable (`<T as path::Trait<..>>::{vtable}`) that is of interest.
pub(super) fn trait_of_table(name: &[u8]) -> Option<&[u8]> {
    let inside = name.strip_suffix(b">::{vtable}")?;
    // A type may have ` as ` in it, and so may what the trait has for parameters.
    let path = outside_brackets(inside.strip_prefix(b"<")?)?;
    (!PLAIN.iter().any(|plain| path.starts_with(plain))).then_some(path)
}

/// What follows ` as ` outside of all brackets, without parameters.
fn outside_brackets(text: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            // The arrow of a function's type.
            b'>' if place.checked_sub(1).and_then(|at| text.get(at)) == Some(&b'-') => {}
            b'>' | b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            // References, pointers and functions have spaces too.
            b' ' if depth == 0 => {
                if let Some(path) = text.get(place..)?.strip_prefix(b" as ") {
                    return Some(without_parameters(path));
                }
            }
            _ => {}
        }
    }
    None
}

/// The path of the trait in the name of a box (`Box<dyn path::Trait<..> + Send, ..>`, with or without
/// parentheses).
pub(super) fn trait_of_box(name: &[u8]) -> Option<&[u8]> {
    trait_of_object(name.strip_prefix(b"alloc::boxed::Box<")?)
}

/// The same of a reference to one that is written to (`&mut dyn path::Trait<..>`).
pub(super) fn trait_of_reference(name: &[u8]) -> Option<&[u8]> {
    trait_of_object(name.strip_prefix(b"&mut ")?)
}

fn trait_of_object(name: &[u8]) -> Option<&[u8]> {
    let inside = name.strip_prefix(b"(").unwrap_or(name);
    Some(without_parameters(inside.strip_prefix(b"dyn ")?))
}

fn without_parameters(path: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'<' | b' ' | b',' | b')' | b'>' | b'+');
    let end = path.iter().position(is_end).unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
}

fn is_future(of_trait: &[u8]) -> bool {
    memchr::memmem::find(of_trait, b"Future").is_some()
}

/// Whether what implements the trait is polled.
pub(super) fn is_polled(of_trait: &[u8]) -> bool {
    is_future(of_trait) || POLLED.contains(&of_trait)
}

/// Types behind the vtables of boxes, by address.
pub(super) fn concrete(decoder: &mut Decoder<'_, '_>, tables: &[Table<'_>]) -> Vec<(u64, TypeId)> {
    let rest = decoder.dies.set_aside(MAX_ENTRIES);
    let keeping = keeping(decoder, tables);
    decoder.is_full |= !decoder.dies.give_back(rest);
    let mut found: Vec<(u64, TypeId)> = Vec::new();
    for table in tables {
        let Some(of) = decoder.concrete_type(table.of) else {
            continue;
        };
        // One of another trait takes part, so that a table that the linker merged is not taken for one of these.
        let references = if is_polled(table.of_trait) {
            References::Followed
        } else {
            References::Ignored
        };
        let id = if references == References::Followed || keeping.contains(&of) {
            decoder.type_of(of, references)
        } else {
            TypeId(0)
        };
        found.push((table.address, id));
    }
    found.sort_unstable();
    found.dedup();
    // Merged vtables of several types do not tell the type.
    let single = found.chunk_by(|a, b| a.0 == b.0);
    let single = single.filter_map(|same| match same {
        [only] if only.1 != TypeId(0) => Some(*only),
        _ => None,
    });
    single.collect()
}

/// Types behind vtables that may own something that others wait for; boxes of their traits may, then. Not those
/// of futures: these are looked into where they are polled.
fn keeping(decoder: &mut Decoder<'_, '_>, tables: &[Table<'_>]) -> HashSet<Die> {
    let mut keeping = HashSet::new();
    let owning = || tables.iter().filter(|table| !is_future(table.of_trait));
    for _ in 0..MAX_ROUNDS {
        let before = keeping.len();
        for table in owning() {
            if let Some(of) = decoder.concrete_type(table.of)
                && decoder.keepers.keeps(decoder.dies, of)
            {
                keeping.insert(of);
                decoder.keepers.boxes_keep(table.of_trait);
            }
        }
        decoder.keepers.look_again();
        if keeping.len() == before {
            return keeping;
        }
    }
    // Boxes in boxes farther in may be missed.
    decoder.is_full = true;
    keeping
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_are_told_from_names_of_vtables_and_boxes() {
        for (name, wanted) in [
            (
                "<tokio::net::TcpStream as app::Conn>::{vtable}",
                Some("app::Conn"),
            ),
            (
                "<app::Of<fn(u8) -> u8> as app::Conn<(<T as app::Other>, u8)>>::{vtable}",
                Some("app::Conn"),
            ),
            ("<&[u8] as std::io::Read>::{vtable}", Some("std::io::Read")),
            ("<&mut app::Of as app::Conn>::{vtable}", Some("app::Conn")),
            ("<*const u8 as app::Conn>::{vtable}", Some("app::Conn")),
            ("<fn(u8) -> u8 as app::Conn>::{vtable}", Some("app::Conn")),
            ("<app::Of as core::fmt::Debug>::{vtable}", None),
            ("<app::Of as app::Conn>::{vtable_type}", None),
            ("<app::Of as", None),
            ("", None),
        ] {
            let found = trait_of_table(name.as_bytes());
            assert_eq!(found, wanted.map(str::as_bytes), "{name}");
        }
        for (name, wanted) in [
            (
                "alloc::boxed::Box<(dyn app::Conn + core::marker::Send), alloc::alloc::Global>",
                Some("app::Conn"),
            ),
            (
                "alloc::boxed::Box<dyn app::Conn<Of=u8>, alloc::alloc::Global>",
                Some("app::Conn"),
            ),
            ("alloc::boxed::Box<app::Conn, alloc::alloc::Global>", None),
            ("&mut dyn app::Conn", None),
        ] {
            let found = trait_of_box(name.as_bytes());
            assert_eq!(found, wanted.map(str::as_bytes), "{name}");
        }
        let reference = b"&mut (dyn app::Conn<Of=u8> + core::marker::Send)";
        assert_eq!(trait_of_reference(reference), Some(&b"app::Conn"[..]));
    }
}
