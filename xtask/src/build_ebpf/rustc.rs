//! Standing in for rustc while cargo compiles the kernel programs.
//!
//! Cargo hashes the absolute path of a path dependency into `-C metadata`, and rustc puts that hash
//! into every symbol name of the crate. With a fixed value the object is the same bytes in every
//! directory.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Set by `compile` for the cargo that it starts.
pub const MARK: &str = "OBSERVER_XTASK_IS_RUSTC_WRAPPER";

/// When cargo called this program as its rustc wrapper: becomes rustc. Returns only when that fails.
pub fn stand_in() -> Option<ExitCode> {
    env::var_os(MARK)?;
    let mut words = env::args_os().skip(1);
    let rustc = words.next()?;
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let error = Command::new(&rustc)
        .env_remove(MARK)
        .args(with_fixed_metadata(words))
        .exec();
    eprintln!("xtask: {} can not be started: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

fn with_fixed_metadata(mut words: Vec<String>) -> Vec<String> {
    let name = words
        .iter()
        .position(|word| word == "--crate-name")
        .and_then(|at| words.get(at + 1));
    if name.is_some_and(|name| name.starts_with("observer")) {
        for word in &mut words {
            if word.starts_with("metadata=") {
                "metadata=observer".clone_into(word);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::with_fixed_metadata;

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let words = given.split(' ').map(str::to_owned).collect();
        assert_eq!(with_fixed_metadata(words).join(" "), expected);
    }

    #[test]
    fn only_our_own_crates_are_changed() {
        check(
            "--crate-name observer_common -C metadata=5f -C extra-filename=-5f",
            "--crate-name observer_common -C metadata=observer -C extra-filename=-5f",
        );
        check(
            "--crate-name core -C metadata=5f",
            "--crate-name core -C metadata=5f",
        );
        check("-vV", "-vV");
    }
}
