//! What a person sees while a task runs: step lines on stderr, a bar where something is waited for.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One announced piece of work; says how long it took.
#[derive(Debug)]
pub struct Step {
    what: String,
    start: Instant,
}

impl Step {
    /// Announces a piece of work.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        eprintln!("==> {what}");
        Self {
            what,
            start: Instant::now(),
        }
    }

    /// Says that it is done.
    pub fn done(self) {
        eprintln!(
            "    {}: {:.1} s",
            self.what,
            self.start.elapsed().as_secs_f64()
        );
    }
}

/// A remark that belongs to the current step.
pub fn note(text: impl AsRef<str>) {
    eprintln!("    {}", text.as_ref());
}

/// Something that a person should look at, although the task goes on.
pub fn warn(text: impl AsRef<str>) {
    eprintln!("    warning: {}", text.as_ref());
}

/// Prints a result on stdout. A reader that went away is not an error of the task.
pub fn print(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{}", text.as_ref())
        .and_then(|()| out.flush())
        .is_err()
    {
        eprintln!("    (stdout is closed: {})", text.as_ref());
    }
}

/// A bar for a wait of known length; hidden when stderr is not a terminal.
pub fn bar(what: &str, length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_millis().max(1) as u64);
    if let Ok(style) = ProgressStyle::with_template("    {msg} [{bar:30}] {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
