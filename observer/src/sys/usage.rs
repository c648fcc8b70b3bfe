//! What processes use: our own CPU time and memory, a target's CPU time.

use std::fs;
use std::time::Duration;

use crate::model::Pid;

/// CPU time that this process has used, all threads.
pub fn own_cpu() -> Duration {
    // SAFETY: an all-zero rusage is a valid value to be overwritten.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the result.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return Duration::ZERO;
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Peak resident memory of this process, in bytes.
pub fn own_peak_rss() -> u64 {
    procfs::process::Process::myself()
        .and_then(|p| p.status())
        .ok()
        .and_then(|s| s.vmhwm)
        .map_or(0, |kib| kib * 1024)
}

/// Resident memory of this process now, in bytes.
pub fn own_rss() -> u64 {
    procfs::process::Process::myself()
        .and_then(|p| p.statm())
        .map_or(0, |s| s.resident * procfs::page_size())
}

/// CPU time that a process has used, if it can be read.
pub fn cpu_of(pid: Pid) -> Option<Duration> {
    let stat = procfs::process::Process::new(pid.0 as i32)
        .ok()?
        .stat()
        .ok()?;
    let ticks = procfs::ticks_per_second();
    Some(Duration::from_secs_f64(
        (stat.utime + stat.stime) as f64 / ticks as f64,
    ))
}

/// The name of a thread (at most 15 bytes).
pub fn thread_name(pid: Pid, tid: crate::model::Tid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(text.trim_end().to_owned())
}

/// The command name of any process, kernel threads included; `None` when it is gone.
pub fn process_name(pid: Pid) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.trim_end().to_owned())
}

/// CPUs online.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the kernel side.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of the calling thread, if the kernel tells.
pub fn thread_cpu() -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0;
    done.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Gives memory that was freed back to the system: after the kernel's type information and the
/// tables of executables, which are large and short-lived.
pub fn release_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions; the C library takes its own locks.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Whether this process sees pids as the kernel itself does: false in a container with a pid
/// namespace of its own, where the kernel side's ids are other ones (Linux
/// `include/uapi/linux/nsfs.h`, PID_NS_INIT_INO).
pub fn in_initial_pid_namespace() -> bool {
    const INITIAL: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL)
}

/// Whether two processes share a pid namespace; unknown counts as no.
pub fn same_pid_namespace(pid: Pid) -> bool {
    let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/pid")).ok();
    let ours = of("self");
    ours.is_some() && ours == of(&pid.to_string())
}
