//! Counting what the tests say: libtest's summaries, and the skips that tests announce.

use std::collections::BTreeMap;

use crate::ui;

/// The state of the count.
#[derive(Debug, Default)]
pub struct Results {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
    repeated: Vec<String>,
    skipped: BTreeMap<String, String>,
    put_away: usize,
    tools: BTreeMap<String, String>,
    runs: usize,
}

impl Results {
    /// Takes a line of libtest's output.
    pub fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(skip) = line.strip_prefix("SKIP ") {
            self.skip(skip);
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            self.runs += 1;
            self.passed += count(summary, "passed");
            self.failed += count(summary, "failed");
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            if outcome.starts_with("FAILED") {
                self.failures.push(name.to_owned());
            } else if let Some(reason) = outcome.strip_prefix("ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                // Without a reason it is a test that somebody has put away.
                if reason.is_empty() {
                    self.put_away += 1;
                    self.skipped
                        .insert(name.to_owned(), "ignored without a reason".to_owned());
                } else {
                    self.tools.insert(name.to_owned(), reason.to_owned());
                }
            }
        }
    }

    /// Takes the log that tests append to when they skip themselves: `name: reason` per line.
    pub fn add_skip_log(&mut self, log: &str) {
        for line in log.lines() {
            self.skip(line);
        }
    }

    /// Takes the outcome of a check that is no test program.
    pub fn check(&mut self, name: &str, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                ui::warn(format!("{name}: {error:#}"));
                self.failed += 1;
                self.failures.push(name.to_owned());
            }
        }
    }

    /// Takes a run that is no test program and can not be made here.
    pub fn skip_check(&mut self, name: &str, reason: &str) {
        // As a test that skips itself: counted as passed until the end.
        self.passed += 1;
        self.skipped.insert(name.to_owned(), reason.to_owned());
    }

    /// Test programs that have come to their summary.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Tests that failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Their names, as far as the output gives them whole.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().map(String::as_str)
    }

    /// Forgets these failures, because the tests are run again.
    pub fn repeat(&mut self, names: &[String]) {
        let before = self.failures.len();
        self.failures.retain(|name| !names.contains(name));
        self.failed = self.failed.saturating_sub(before - self.failures.len());
        self.repeated.extend_from_slice(names);
    }

    /// Tests that failed first and passed then.
    pub fn passed_when_repeated(&self) -> impl Iterator<Item = &str> {
        self.repeated
            .iter()
            .filter(|name| !self.failures.contains(name))
            .map(String::as_str)
    }

    /// Skipped tests and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.skipped
            .iter()
            .map(|(name, reason)| (name.as_str(), reason.as_str()))
    }

    /// Tools and measurements that are written as ignored tests, with their reason: no tests.
    pub fn tools(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tools
            .iter()
            .map(|(name, reason)| (name.as_str(), reason.as_str()))
    }

    /// The one line. A test that skips itself returns, so that libtest has counted it as passed.
    pub fn line(&self) -> String {
        let skipped = self.skipped.len();
        let passed = self
            .passed
            .saturating_sub(skipped.saturating_sub(self.put_away));
        format!("{passed} passed, {} failed, {skipped} skipped", self.failed)
    }

    /// Takes `name: reason`; names have no blanks.
    fn skip(&mut self, text: &str) {
        if let Some((name, reason)) = text.split_once(": ") {
            self.skipped
                .insert(name.trim().to_owned(), reason.trim().to_owned());
        }
    }
}

/// The number before a word in libtest's summary.
fn count(summary: &str, word: &str) -> usize {
    summary
        .split(['.', ';'])
        .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_test_counts_by_its_last_run() {
        let mut results = Results::default();
        let first = "test a ... FAILED\ntest b ... FAILED\ntest c ... ok\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let again = "test a ... ok\ntest b ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 1 filtered out";
        first.lines().for_each(|line| results.add_line(line));
        results.repeat(&["a".to_owned(), "b".to_owned()]);
        again.lines().for_each(|line| results.add_line(line));
        assert_eq!(results.line(), "2 passed, 1 failed, 0 skipped");
        assert_eq!(results.failures().collect::<Vec<_>>(), ["b"]);
        assert_eq!(results.passed_when_repeated().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn every_kind_of_line_is_counted() {
        let mut results = Results::default();
        let output = "running 5 tests\n\
            test a ... ok\n\
            test b::c ... FAILED\n\
            test d ... ignored\n\
            test f ... ignored, measures\n\
            test e ... ok\n\
            SKIP e: go is not installed\n\
            test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.01s\n\
            test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        for line in output.lines() {
            results.add_line(line);
        }
        // The same skip again, in the log.
        results.add_skip_log("e: go is not installed\n");
        results.check("tidy", Ok(()));
        assert_eq!(results.line(), "12 passed, 1 failed, 2 skipped");
        assert_eq!(results.tools().collect::<Vec<_>>(), [("f", "measures")]);
        assert_eq!(results.runs(), 2);
        assert_eq!(results.failures().collect::<Vec<_>>(), ["b::c"]);
        assert_eq!(
            results.skipped().collect::<Vec<_>>(),
            [
                ("d", "ignored without a reason"),
                ("e", "go is not installed")
            ]
        );
    }
}
