//! Running the `observer` command.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::{Running, Stream, die_with_the_test};

/// How long an observer may take beyond the time that it observes.
const SLACK: Duration = Duration::from_secs(30);

/// `observer` with these arguments.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    command.args(args).env_remove("RUST_LOG");
    command
}

/// What a finished observer left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Finished {
    /// The report on stdout.
    #[track_caller]
    pub fn report(&self) -> Value {
        assert_eq!(self.code, 0, "observer failed: {}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "the report is no JSON: {error}\n{}\n{}",
                self.stdout, self.stderr
            )
        })
    }

    /// Fails unless it ended with that code and one message that holds each text. Log lines may stand
    /// beside it.
    #[track_caller]
    pub fn refused(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let messages: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("observer: "))
            .collect();
        assert_eq!(messages.len(), 1, "one line says it: {}", self.stderr);
        let message = messages[0].to_lowercase();
        for text in texts {
            assert!(
                message.contains(&text.to_lowercase()),
                "{text:?} is not in {message:?}"
            );
        }
    }
}

/// Runs `observer` to its end, which must come within `observing` and some slack.
#[track_caller]
pub fn run(args: &[&str], observing: Duration) -> Finished {
    finish(&mut command(args), observing)
}

/// The same for a prepared command.
#[track_caller]
pub fn finish(command: &mut Command, observing: Duration) -> Finished {
    die_with_the_test(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} can not be started: {error}"));
    let pid = child.id() as libc::pid_t;
    let waiter = thread::spawn(move || child.wait_with_output());
    let deadline = Instant::now() + observing + SLACK;
    while !waiter.is_finished() {
        if Instant::now() > deadline {
            // SAFETY: kill has no memory preconditions; the waiter has not reaped the child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            panic!("{command:?} still runs after {observing:?} and {SLACK:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let Output {
        status,
        stdout,
        stderr,
    } = waiter
        .join()
        .expect("the waiter ends")
        .expect("the output is read");
    Finished {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Observes a process for some seconds and gives the report.
#[track_caller]
pub fn report(pid: u32, seconds: f64, more: &[&str]) -> Value {
    let (pid, duration) = (pid.to_string(), seconds.to_string());
    let args = [&["report", "-p", &pid, "-d", &duration, "-f", "json"], more].concat();
    run(&args, Duration::from_secs_f64(seconds)).report()
}

/// Starts an observer in the background and waits until it observes.
#[track_caller]
pub fn observing(args: &[&str]) -> Running {
    let observer = Running::reading(command(args).arg("-v"), Stream::Stderr);
    observer.line("observing", SLACK);
    observer
}
