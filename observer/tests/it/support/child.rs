//! A child process whose output is read line by line.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A process of this test; killed by its handle when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

/// Which stream of a child is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its stdout; stderr goes where the test's goes.
    Stdout,
    /// Its stderr; stdout is dropped.
    Stderr,
}

impl Running {
    /// Starts it and reads its stdout.
    pub fn start(command: &mut Command) -> Self {
        Self::reading(command, Stream::Stdout)
    }

    /// Starts it and reads one of its streams.
    pub fn reading(command: &mut Command, stream: Stream) -> Self {
        die_with_the_test(command);
        match stream {
            Stream::Stdout => command.stdout(Stdio::piped()),
            Stream::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can not be started: {error}"));
        let lines = match stream {
            Stream::Stdout => lines(child.stdout.take().expect("stdout is piped")),
            Stream::Stderr => lines(child.stderr.take().expect("stderr is piped")),
        };
        Self { child, lines }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that holds `text`; lines before it are dropped.
    pub fn line(&self, text: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {text:?} in {limit:?}: {seen:#?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before a line with {text:?}: {seen:#?}")
                }
            }
        }
    }

    /// The next JSON line with this `event`.
    pub fn event(&self, event: &str, limit: Duration) -> Value {
        let line = self.line(&format!("\"event\":\"{event}\""), limit);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// All lines until it closes its stream.
    pub fn rest(&self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        let mut lines = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("still writing after {limit:?}: {lines:#?}")
                }
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill has no memory preconditions; the child was not waited for, so the pid is its own.
        let sent = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "signal {signal} to {}", self.pid());
    }

    /// Waits until it has ended.
    pub fn exit(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "process {} runs after {limit:?}",
                self.pid()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Has the kernel kill the child should the test die without running destructors.
pub fn die_with_the_test(command: &mut Command) {
    command.stdin(Stdio::null());
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
            Ok(())
        });
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
