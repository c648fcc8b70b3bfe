//! Child processes of a task: read line by line with the time of each line, and ended by their own
//! handle when the task ends, however it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Set by SIGINT and SIGTERM: waits end, and the children are ended by their handles.
static STOPPED: AtomicBool = AtomicBool::new(false);

const TICK: Duration = Duration::from_millis(10);

/// Which stream of a child is read; the others stay as the command has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line and when it came.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// The line without its end.
    pub text: String,
}

/// A running child; killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<Line>,
    what: String,
}

impl Process {
    /// Starts a child and reads one of its streams.
    pub fn start(command: &mut Command, stream: Stream, what: &str) -> Result<Self> {
        match stream {
            Stream::Stdout => command.stdout(Stdio::piped()),
            Stream::Stderr => command.stderr(Stdio::piped()),
        };
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // Should the task itself be killed, which runs no destructor.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
                Ok(())
            });
        }
        let mut child = command.stdin(Stdio::null()).spawn().with_context(|| {
            format!(
                "{what}: `{}` can not be started",
                command.get_program().to_string_lossy()
            )
        })?;
        let lines = match stream {
            Stream::Stdout => child.stdout.take().map(read),
            Stream::Stderr => child.stderr.take().map(read),
        };
        Ok(Self {
            child,
            lines: lines.context("a piped stream is there")?,
            what: what.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that holds a text; the lines before it are dropped.
    pub fn line(&self, text: &str, limit: Duration) -> Result<Line> {
        let deadline = Instant::now() + limit;
        let mut last = String::from("nothing");
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) if line.text.contains(text) => return Ok(line),
                Ok(line) => last = line.text,
                Err(RecvTimeoutError::Timeout) => {
                    check_stop()?;
                    ensure!(
                        Instant::now() < deadline,
                        "{} did not say {text:?} within {limit:?}; it said {last}",
                        self.what
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "{} ended before it said {text:?}; its last line: {last}",
                        self.what
                    )
                }
            }
        }
    }

    /// The lines that have come so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.try_iter().collect()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        // SAFETY: kill has no memory preconditions; the child was not waited for, so the pid is its own.
        let sent = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        ensure!(sent == 0, "{} takes no signal: it has ended", self.what);
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .with_context(|| format!("{} can not be waited for", self.what))?
            {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "{} did not end within {limit:?}",
                self.what
            );
            thread::sleep(TICK);
        }
    }

    /// Ends it as Ctrl-C would and waits.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        // It may have ended by itself, with the same Ctrl-C.
        self.signal(libc::SIGINT).ok();
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read(stream: impl Read + Send + 'static) -> Receiver<Line> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            let line = Line {
                at: Instant::now(),
                text,
            };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// From now on Ctrl-C ends waits instead of this process, so that what was started is ended in order.
pub fn catch_stop() {
    extern "C" fn stop(_: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
    }
    let handler: extern "C" fn(libc::c_int) = stop;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Fails once Ctrl-C was pressed.
pub fn check_stop() -> Result<()> {
    ensure!(!STOPPED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Sleeps, unless Ctrl-C is pressed; shows a bar.
pub fn sleep(what: &str, length: Duration) -> Result<()> {
    let bar = crate::ui::bar(what, length);
    let start = Instant::now();
    while start.elapsed() < length {
        check_stop()?;
        thread::sleep(TICK.min(length.saturating_sub(start.elapsed())));
        bar.set_position(start.elapsed().as_millis() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Why kernel programs can not be loaded by this process; `None` when it has what that takes.
pub fn lacks_privilege() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())?;
    let has = |capability: u32| effective & (1 << capability) != 0;
    // CAP_SYS_ADMIN, or CAP_PERFMON and CAP_BPF.
    (!(has(21) || has(38) && has(39))).then_some("CAP_BPF and CAP_PERFMON are missing")
}
