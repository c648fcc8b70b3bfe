//! Lines for machines on stdout. Everything for people goes to stderr.

use serde::Serialize;
use std::io::{self, Write};

/// Writes one JSON line to stdout and flushes it, so that a reader of a pipe sees it at once.
pub fn json_line(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Writes one line of text to stdout.
pub fn text_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
