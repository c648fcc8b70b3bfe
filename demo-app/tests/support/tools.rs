//! Tools that a test needs and a machine may lack.

use std::process::{Command, Stdio};

/// Whether all of `tools` are on the PATH. If not, the test prints that it is skipped and returns,
/// but with `OBSERVER_REQUIRE=all` in the environment it fails instead.
pub fn available(test: &str, tools: &[(&str, &str)]) -> bool {
    for (tool, version_flag) in tools {
        let found = Command::new(tool)
            .arg(version_flag)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            let reason = format!("{tool} is not installed");
            assert!(
                std::env::var("OBSERVER_REQUIRE").as_deref() != Ok("all"),
                "{test}: {reason}, and OBSERVER_REQUIRE=all does not let it be skipped"
            );
            println!("SKIP {test}: {reason}");
            return false;
        }
    }
    true
}

/// The Go toolchain.
pub const GO: (&str, &str) = ("go", "version");
/// The Java virtual machine.
pub const JAVA: (&str, &str) = ("java", "-version");
/// Maven, which brings Kafka's jars.
pub const MAVEN: (&str, &str) = ("mvn", "-version");
