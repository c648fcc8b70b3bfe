//! Work that a bystander does: system calls that never block, and context switches.
//!
//! Runs in a process of its own, which prints how much CPU time one unit took, in nanoseconds.

use std::env;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::ui;

/// Says to this program which work it is started for: `CASE SECONDS`.
pub const MARK: &str = "OBSERVER_XTASK_BENCH_WORK";

/// The cases, and what a unit of each is.
pub const CASES: &[(&str, &str)] = &[
    ("getppid", "ns/syscall"),
    ("futex-wake", "ns/syscall"),
    ("pipe", "ns/switch"),
];

/// Does the work when this process was started for it.
pub fn work() -> Option<ExitCode> {
    let order = env::var(MARK).ok()?;
    match measure(&order) {
        Ok(nanoseconds) => {
            ui::print(format!("{nanoseconds}"));
            Some(ExitCode::SUCCESS)
        }
        Err(error) => Some(crate::failure::report(&error)),
    }
}

fn measure(order: &str) -> Result<f64> {
    let (case, seconds) = order.split_once(' ').context("no case and seconds")?;
    let length = Duration::from_secs(seconds.parse().context("seconds are no number")?);
    pin()?;
    let before = cpu_time()?;
    let units = match case {
        "getppid" => repeat(length, || {
            // SAFETY: getppid has no arguments.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }),
        "futex-wake" => {
            const WAKE: libc::c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            let word = 0_u32;
            repeat(length, || {
                // SAFETY: the word outlives the call, which only looks for waiters on its address.
                unsafe { libc::syscall(libc::SYS_futex, &raw const word, WAKE, 1) };
            })
        }
        "pipe" => ping_pong(length)?,
        other => bail!("no such case: {other}"),
    };
    let spent = cpu_time()?.saturating_sub(before);
    Ok(spent.as_nanos() as f64 / units as f64)
}

/// Repeats a call for a time; gives how often.
fn repeat(length: Duration, mut call: impl FnMut()) -> u64 {
    const BATCH: u64 = 10_000;
    let start = Instant::now();
    let mut units = 0;
    while start.elapsed() < length {
        for _ in 0..BATCH {
            call();
        }
        units += BATCH;
    }
    units
}

/// Two threads on one CPU that wake each other through pipes; gives the number of switches.
fn ping_pong(length: Duration) -> Result<u64> {
    let (there_read, there_write) = std::io::pipe().context("no pipe")?;
    let (back_read, back_write) = std::io::pipe().context("no pipe")?;
    let echo = thread::spawn(
        move || {
            while take(there_read.as_raw_fd()) && give(back_write.as_raw_fd()) {}
        },
    );
    let start = Instant::now();
    let mut turns = 0_u64;
    while start.elapsed() < length {
        for _ in 0..100 {
            ensure!(
                give(there_write.as_raw_fd()) && take(back_read.as_raw_fd()),
                "a pipe broke"
            );
        }
        turns += 100;
    }
    drop(there_write);
    ensure!(echo.join().is_ok(), "the other thread panicked");
    Ok(turns * 2)
}

fn take(fd: libc::c_int) -> bool {
    let mut byte = 0_u8;
    // SAFETY: `byte` is one writable byte.
    unsafe { libc::read(fd, (&raw mut byte).cast(), 1) == 1 }
}

fn give(fd: libc::c_int) -> bool {
    let byte = 1_u8;
    // SAFETY: `byte` is one readable byte.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) == 1 }
}

/// Keeps this process on the last CPU, so that a wake-up is a context switch.
fn pin() -> Result<()> {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // SAFETY: an all-zero cpu_set_t is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is initialised and the index is below its size on machines with up to 1024 CPUs.
    unsafe { libc::CPU_SET((cpus - 1).min(1023), &mut set) };
    // SAFETY: the set is initialised and its size is given.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    ensure!(
        done == 0,
        "the process can not be kept on one CPU: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// CPU time of this process so far.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a writable timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    ensure!(
        done == 0,
        "no CPU clock: {}",
        std::io::Error::last_os_error()
    );
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
