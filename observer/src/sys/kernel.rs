//! What this kernel is and allows: version, type offsets, lockdown, sysctls, capabilities.

use std::fs;

use super::btf::{Btf, BtfImage};
use super::caps::Capabilities;
use super::kallsyms;
use crate::model::{Known, Reason};

/// A kernel version, for text and for the few facts that have no better test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.18.44.
    pub major: u32,
    /// 18 of 6.18.44.
    pub minor: u32,
    /// 44 of 6.18.44; 0 when there is none.
    pub patch: u32,
}

impl KernelVersion {
    /// Parses a release such as `6.18.44-200.fc42.x86_64` or `5.15`.
    pub fn parse(release: &str) -> Option<Self> {
        let end = release
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(release.len());
        let mut parts = release[..end].split('.').filter(|part| !part.is_empty());
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
            patch: parts.next().and_then(|p| p.parse().ok()).unwrap_or(0),
        })
    }
}

/// Kernel lockdown (Linux `security/lockdown`): what is refused even to root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lockdown {
    /// Nothing is refused.
    None,
    /// Writing to user memory from BPF is refused, which this program never does.
    Integrity,
    /// Kprobes, perf, tracefs and reading kernel memory from BPF are refused.
    Confidentiality,
}

impl Lockdown {
    /// The name that the kernel uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

/// Offsets in bytes into `struct task_struct`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOffsets {
    /// Thread id.
    pub pid: Known<u32>,
    /// Process id.
    pub tgid: Known<u32>,
    /// Run state: `__state` (u32, 5.14) or `state` (long).
    pub state: Known<u32>,
    /// Whether `state` is 8 bytes wide (before 5.14).
    pub state_is_long: bool,
    /// Whether the task is on a CPU now.
    pub on_cpu: Known<u32>,
    /// Set when the task is a zombie or dead.
    pub exit_state: Known<u32>,
    /// The thread's TLS base.
    pub fsbase: Known<u32>,
    /// PF_ flags.
    pub flags: Known<u32>,
    /// Start in ns since boot, suspend included (`real_start_time` before 5.5).
    pub start_boottime: Known<u32>,
    /// Command name, 16 bytes.
    pub comm: Known<u32>,
    /// Pointer to the kernel stack.
    pub stack: Known<u32>,
    /// Pointer to the parent.
    pub real_parent: Known<u32>,
}

/// How a kernel program finds this CPU's preemption counter, which tells interrupt context: bits
/// 0x100 softirq being served, 0xf0000 hardirq, 0xf00000 NMI (Linux `include/linux/preempt.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreemptCount {
    /// `*(u32 *)(*(u64 *)(*(u64 *)(current + task_cfs_rq) + cfs_rq_rq) + delta)`: the running
    /// task's run queue is this CPU's, and per-CPU variables keep their distance on every CPU.
    /// Needs type information only: no kernel addresses, whatever kptr_restrict says.
    ThroughRunQueue {
        /// `task_struct.se.cfs_rq`.
        task_cfs_rq: u32,
        /// `cfs_rq.rq`.
        cfs_rq_rq: u32,
        /// From `runqueues` to the counter.
        delta: i64,
    },
    /// `*(u32 *)(*(u64 *)(per_cpu_offset_addr + 8 * cpu) + preempt_count_percpu_addr)`.
    ThroughPerCpuOffset {
        /// Kernel address of `__per_cpu_offset`.
        per_cpu_offset_addr: u64,
        /// Address of the counter before the CPU's offset is added.
        preempt_count_percpu_addr: u64,
    },
}

/// System settings that decide what may be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctls {
    /// `kernel.unprivileged_bpf_disabled`: 0 allowed, 1 and 2 not.
    pub unprivileged_bpf_disabled: Known<i64>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Known<i64>,
    /// `kernel.kptr_restrict`: 2 hides kernel addresses even from root.
    pub kptr_restrict: Known<i64>,
    /// `kernel.yama.ptrace_scope`: absent without Yama.
    pub ptrace_scope: Known<i64>,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct KernelFacts {
    /// `6.18.44-...`.
    pub release: String,
    /// The same as numbers.
    pub version: Known<KernelVersion>,
    /// Number of types that the kernel publishes, or why it does not.
    pub btf: Known<usize>,
    /// Where the fields lie that kernel programs read.
    pub task: TaskOffsets,
    /// Arguments of raw tracepoint `sched_switch` (4 since 5.18: the last is the previous state).
    pub sched_switch_arguments: Known<usize>,
    /// How to tell interrupt context.
    pub preempt_count: Known<PreemptCount>,
    /// Lockdown mode.
    pub lockdown: Known<Lockdown>,
    /// Settings.
    pub sysctls: Sysctls,
    /// What this process may do.
    pub capabilities: Known<Capabilities>,
}

impl KernelFacts {
    /// Reads everything; what can not be read is unknown, with its reason. Takes a few
    /// milliseconds, most of it for type information.
    pub fn read() -> Self {
        Self::with_btf(BtfImage::vmlinux())
    }

    /// The same with the type information of a file (`--btf FILE`).
    pub fn read_with_btf_file(path: &str) -> Self {
        Self::with_btf(BtfImage::open(path))
    }

    fn with_btf(image: Result<BtfImage, super::btf::BtfError>) -> Self {
        let release = read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default();
        let version = KernelVersion::parse(&release)
            .map_or(Known::unknown("the release is not a number"), Known::Known);
        let image = image.map_err(|error| Reason::with(error.to_string()));
        let btf = image.as_ref().map_err(Clone::clone).and_then(|image| {
            Btf::parse(image.bytes()).map_err(|error| Reason::with(error.to_string()))
        });
        let btf = btf.as_ref();
        Self {
            release,
            version,
            btf: known(btf.map(Btf::len)),
            task: task_offsets(btf),
            sched_switch_arguments: match btf.map(|b| b.tracepoint_arguments("sched_switch")) {
                Ok(Some(n)) => Known::Known(n),
                Ok(None) => Known::unknown("type information has no tracepoint sched_switch"),
                Err(reason) => Known::Unknown(reason.clone()),
            },
            preempt_count: preempt_count(btf),
            lockdown: lockdown(fs::read_to_string("/sys/kernel/security/lockdown")),
            sysctls: Sysctls {
                unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
                perf_event_paranoid: sysctl("kernel/perf_event_paranoid"),
                kptr_restrict: sysctl("kernel/kptr_restrict"),
                ptrace_scope: sysctl("kernel/yama/ptrace_scope"),
            },
            capabilities: Capabilities::of_self(),
        }
    }
}

fn known<T>(result: Result<T, &Reason>) -> Known<T> {
    match result {
        Ok(value) => Known::Known(value),
        Err(reason) => Known::Unknown(reason.clone()),
    }
}

fn task_offsets(btf: Result<&Btf<'_>, &Reason>) -> TaskOffsets {
    let member = |path| match btf {
        Ok(btf) => btf.member_offset("task_struct", path),
        Err(reason) => Known::Unknown(reason.clone()),
    };
    TaskOffsets {
        pid: member("pid"),
        tgid: member("tgid"),
        state: member("__state|state"),
        state_is_long: member("__state").known().is_none() && member("state").known().is_some(),
        on_cpu: member("on_cpu"),
        exit_state: member("exit_state"),
        // `fs` before 4.7.
        fsbase: member("thread.fsbase|fs"),
        flags: member("flags"),
        start_boottime: member("start_boottime|real_start_time"),
        comm: member("comm"),
        stack: member("stack"),
        real_parent: member("real_parent"),
    }
}

/// The counter is the per-CPU variable `__preempt_count` before 6.2 and since 6.15, and a member
/// of the per-CPU `pcpu_hot` in between (Linux `arch/x86/include/asm/{preempt,current}.h`).
fn preempt_count(btf: Result<&Btf<'_>, &Reason>) -> Known<PreemptCount> {
    let btf = match btf {
        Ok(btf) => btf,
        Err(reason) => return Known::Unknown(reason.clone()),
    };
    let in_hot = btf.member_offset("pcpu_hot", "preempt_count");
    let through_run_queue = || {
        let variable = |name| btf.section_variable(".data..percpu", name).known().copied();
        let counter = match (variable("__preempt_count"), in_hot.known()) {
            (Some(at), _) => i64::from(at),
            (None, Some(member)) => i64::from(variable("pcpu_hot")?) + i64::from(*member),
            (None, None) => return None,
        };
        Some(PreemptCount::ThroughRunQueue {
            task_cfs_rq: *btf.member_offset("task_struct", "se.cfs_rq").known()?,
            cfs_rq_rq: *btf.member_offset("cfs_rq", "rq").known()?,
            delta: counter - i64::from(variable("runqueues")?),
        })
    };
    if let Some(way) = through_run_queue() {
        return Known::Known(way);
    }
    // Without group scheduling there is no `cfs_rq.rq`: then by addresses.
    let found = kallsyms::addresses(&["__per_cpu_offset", "__preempt_count", "pcpu_hot"]);
    let address = |name| found.get(name).and_then(|known: &Known<u64>| known.known());
    let counter = match (
        address("__preempt_count"),
        address("pcpu_hot"),
        in_hot.known(),
    ) {
        (Some(at), _, _) => Some(*at),
        (None, Some(hot), Some(member)) => hot.checked_add(u64::from(*member)),
        _ => None,
    };
    match (address("__per_cpu_offset"), counter) {
        (Some(table), Some(counter)) => Known::Known(PreemptCount::ThroughPerCpuOffset {
            per_cpu_offset_addr: *table,
            preempt_count_percpu_addr: counter,
        }),
        (None, _) => found
            .get("__per_cpu_offset")
            .and_then(Known::reason)
            .map_or(Known::unknown("no per-CPU offset table"), |reason| {
                Known::Unknown(reason.clone())
            }),
        (Some(_), None) => Known::unknown("the kernel does not list its preemption counter"),
    }
}

/// `[none] integrity confidentiality`: the one in brackets is in force.
fn lockdown(text: std::io::Result<String>) -> Known<Lockdown> {
    let text = match text {
        Ok(text) => text,
        // Without the file the kernel has no lockdown, or securityfs is not mounted here.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Known::unknown("the kernel has no lockdown, or securityfs is not mounted");
        }
        Err(error) => return Known::Unknown(Reason::with(error.to_string())),
    };
    let mode = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match mode {
        Some("none") => Known::Known(Lockdown::None),
        Some("integrity") => Known::Known(Lockdown::Integrity),
        Some("confidentiality") => Known::Known(Lockdown::Confidentiality),
        _ => Known::unknown("an unknown lockdown mode"),
    }
}

fn read_trimmed(path: &str) -> std::io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

fn sysctl(name: &str) -> Known<i64> {
    let path = format!("/proc/sys/{name}");
    match read_trimmed(&path) {
        Ok(text) => text.parse().map_or_else(
            |_| Known::Unknown(Reason::with(format!("{path} is not a number"))),
            Known::Known,
        ),
        Err(error) => Known::Unknown(Reason::with(format!("{path}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_releases_of_distributions() {
        let parse = |text| KernelVersion::parse(text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(parse("6.18.44-fc-v669"), Some((6, 18, 44)));
        assert_eq!(parse("5.15"), Some((5, 15, 0)));
        assert_eq!(parse("6.12.0+deb13-amd64"), Some((6, 12, 0)));
        assert_eq!(parse("7.0-rc1"), Some((7, 0, 0)));
        assert_eq!(parse("rubbish"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_lockdown_mode_is_the_bracketed_one() {
        let mode = |text: &str| lockdown(Ok(text.to_owned())).known().copied();
        assert_eq!(
            mode("[none] integrity confidentiality\n"),
            Some(Lockdown::None)
        );
        assert_eq!(
            mode("none integrity [confidentiality]"),
            Some(Lockdown::Confidentiality)
        );
        assert_eq!(mode("none"), None);
    }

    #[test]
    fn this_kernel_tells_all_that_the_probes_need() {
        let facts = KernelFacts::read();
        if facts.btf.known().is_none() {
            return; // A kernel without BTF: the reason is what matters, and it is there.
        }
        assert!(facts.version.known().is_some());
        for offset in [
            &facts.task.pid,
            &facts.task.tgid,
            &facts.task.state,
            &facts.task.exit_state,
            &facts.task.fsbase,
            &facts.task.flags,
            &facts.task.start_boottime,
            &facts.task.comm,
            &facts.task.stack,
            &facts.task.real_parent,
        ] {
            assert!(offset.known().is_some(), "{offset:?}");
        }
        assert!(facts.preempt_count.known().is_some());
        assert!(facts.sysctls.kptr_restrict.known().is_some());
        assert!(facts.capabilities.known().is_some());
    }

    #[test]
    fn without_type_information_everything_says_so() {
        let facts = KernelFacts::read_with_btf_file("/dev/null");
        assert!(facts.btf.reason().is_some());
        assert!(facts.task.pid.reason().is_some());
        assert!(facts.preempt_count.reason().is_some());
    }
}
