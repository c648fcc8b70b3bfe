//! How a task fails: one line that says what, why and what to do, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// The exit code for "you may not do that" (as `observer` uses it).
pub const NO_PERMISSION: u8 = 77;

/// A failure with an exit code of its own.
#[derive(Debug)]
pub struct Coded {
    /// The process's exit code.
    pub code: u8,
    /// What, why, what to do.
    pub message: String,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Coded {}

/// An error that ends the process with [`NO_PERMISSION`].
pub fn no_permission(message: impl Into<String>) -> anyhow::Error {
    Coded {
        code: NO_PERMISSION,
        message: message.into(),
    }
    .into()
}

/// An error of which everything has been said already.
pub fn silent() -> anyhow::Error {
    Coded {
        code: 1,
        message: String::new(),
    }
    .into()
}

/// Prints the failure as one line and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let line = format!("{error:#}").replace('\n', "; ");
    if !line.is_empty() {
        eprintln!("xtask: {line}");
    }
    let code = error.downcast_ref::<Coded>().map_or(1, |coded| coded.code);
    ExitCode::from(code)
}
