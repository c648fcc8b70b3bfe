//! `-- CMD...`: starts the target itself, so that it is observed from its first instruction on.
//!
//! The child waits between fork and exec until the kernel side is attached.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::Context as _;

use crate::model::Pid;

/// A child that waits to be released.
#[derive(Debug)]
pub struct Launched {
    /// Its process id.
    pub pid: Pid,
    go: std::io::PipeWriter,
    spawner: JoinHandle<std::io::Result<Child>>,
    name: String,
}

impl Launched {
    /// Starts `command` up to its exec; `None` when there is no command.
    ///
    /// # Errors
    /// When the process can not be made.
    pub fn start(command: &[OsString]) -> anyhow::Result<Option<Self>> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(None);
        };
        let (mut pid_reader, pid_writer) = std::io::pipe().context("pipe")?;
        let (go_reader, go) = std::io::pipe().context("pipe")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        let (to, from, go_end) = (
            pid_writer.as_raw_fd(),
            go_reader.as_raw_fd(),
            go.as_raw_fd(),
        );
        // SAFETY: between fork and exec only async-signal-safe calls are made: close, getpid,
        // write, read.
        unsafe {
            command.pre_exec(move || {
                // The child's copy of the other end: without this its read would never end when
                // the observer dies.
                libc::close(go_end);
                let pid = libc::getpid().to_le_bytes();
                if libc::write(to, pid.as_ptr().cast(), pid.len()) != pid.len() as isize {
                    return Err(std::io::Error::last_os_error());
                }
                let mut byte = 0_u8;
                match libc::read(from, (&raw mut byte).cast(), 1) {
                    1 => Ok(()),
                    _ => Err(std::io::Error::other(
                        "the observer gave up before it attached",
                    )),
                }
            });
        }
        // `spawn` returns only after exec, so it waits on a thread of its own.
        let spawner = std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                let child = command.spawn();
                drop((pid_writer, go_reader));
                child
            })
            .context("thread")?;
        let mut pid = [0; 4];
        let name = program.to_string_lossy().into_owned();
        pid_reader
            .read_exact(&mut pid)
            .with_context(|| format!("{name} could not be started"))?;
        Ok(Some(Self {
            pid: Pid(u32::from_le_bytes(pid)),
            go,
            spawner,
            name,
        }))
    }

    /// Lets the child run its program.
    ///
    /// # Errors
    /// When the program can not be executed.
    pub fn release(mut self) -> anyhow::Result<()> {
        self.go
            .write_all(&[1])
            .context("the started process ended early")?;
        let child = self
            .spawner
            .join()
            .map_err(|_| anyhow::anyhow!("the launcher failed"))?
            .with_context(|| format!("{} could not be executed: check its path", self.name))?;
        // It is reaped when it ends, so that its end is seen and no zombie stays.
        std::thread::spawn(move || {
            let mut child = child;
            child.wait()
        });
        Ok(())
    }
}
