//! Names as their authors wrote them: Rust and C++. Done here and not by blazesym, which tries C++ on names
//! that are not mangled as well: there, a C function `f` becomes `float`, and `v` becomes `void`.

use std::borrow::Cow;

/// A symbol's name for people. What is not mangled, or can not be read, stays as it is.
pub(super) fn demangle(symbol: &str) -> Cow<'_, str> {
    // Rust v0 (RFC 2603); Itanium C++ ABI 5.1.2, which Rust's older names imitate; its
    // constructors of translation units.
    if !["_R", "_Z", "_GLOBAL__"]
        .iter()
        .any(|prefix| symbol.starts_with(prefix))
    {
        return Cow::Borrowed(symbol);
    }
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        return Cow::Owned(format!("{name:#}"));
    }
    cpp_demangle::Symbol::new(symbol)
        .ok()
        .and_then(|name| name.demangle().ok())
        .map_or(Cow::Borrowed(symbol), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_c_are_left_alone_however_much_they_look_like_a_type() {
        for name in [
            "f", "v", "i", "Pc", "St", "R", "RNvC1a1b", "ZN1a1bE", "main", "", "_", "_Z", "_R",
        ] {
            assert_eq!(demangle(name), name);
        }
    }

    #[test]
    fn rust_and_cpp_names_are_read() {
        assert_eq!(demangle("_Z1fv"), "f()");
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("_ZN3foo3bar17h05af221e174051e9E"), "foo::bar");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
    }
}
