//! The tokio runtime, read from outside.
