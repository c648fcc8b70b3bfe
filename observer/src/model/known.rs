//! Nothing unknown becomes 0, -1 or "<unknown>": it stays unknown, with its reason.

use std::borrow::Cow;
use std::fmt;

/// Why something is not known: one short clause that an SRE understands, without a final stop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason(pub Cow<'static, str>);

impl Reason {
    /// A reason that is fixed text.
    pub const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// A reason with details in it.
    pub fn with(text: impl Into<String>) -> Self {
        Self(Cow::Owned(text.into()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Known<T> {
    /// The value.
    Known(T),
    /// Why there is none.
    Unknown(Reason),
}

impl<T> Known<T> {
    /// The value, if known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The reason, if unknown.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(reason) => Some(reason),
        }
    }

    /// Not known, for a fixed reason.
    pub const fn unknown(text: &'static str) -> Self {
        Self::Unknown(Reason::new(text))
    }

    /// Applies `f` to a known value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Known(value) => Known::Known(f(value)),
            Self::Unknown(reason) => Known::Unknown(reason),
        }
    }
}
