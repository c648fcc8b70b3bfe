//! Tests that can not run on this machine: skipped, and listed with the reason. The integration tests
//! have this file as a module of theirs, too.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Returns from the test, which can not run here: `skip!("no Go toolchain");`
macro_rules! skip {
    ($reason:expr) => {{
        fn here() {}
        $crate::skips::announce(std::any::type_name_of_val(&here), $reason);
        return;
    }};
}
pub(crate) use skip;

/// Announces that the test with `inside` as a function within it is skipped. With `OBSERVER_REQUIRE=all` it
/// fails.
pub(crate) fn announce(inside: &str, reason: &str) {
    // `it::privileged::x::test::here` is `privileged::x::test` to libtest.
    let name = inside.trim_end_matches("::here");
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    assert!(
        env::var("OBSERVER_REQUIRE").as_deref() != Ok("all"),
        "{name}: {reason}, and OBSERVER_REQUIRE=all does not let it be skipped"
    );
    match env::var_os("OBSERVER_SKIP_LOG") {
        Some(log) => {
            let mut log = OpenOptions::new()
                .append(true)
                .create(true)
                .open(log)
                .expect("the skip log opens");
            writeln!(log, "{name}: {reason}").expect("the skip log takes a line");
        }
        None => eprintln!("SKIP {name}: {reason}"),
    }
}
