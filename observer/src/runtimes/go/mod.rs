//! The Go runtime, read from outside.
