//! The capabilities that this process has: what decides which probes can work.

use std::fs;

use crate::model::{Known, Reason};

/// The capabilities that observing uses (Linux `include/uapi/linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Read files and directories whatever their mode.
    DacReadSearch = 2,
    /// Administer the network: full socket details of other users.
    NetAdmin = 12,
    /// Read other processes' memory.
    SysPtrace = 19,
    /// The old key to everything, including BPF before 5.8.
    SysAdmin = 21,
    /// Raise limits: locked memory before 5.11.
    SysResource = 24,
    /// Kernel addresses in /proc/kallsyms.
    Syslog = 34,
    /// Tracing programs (5.8).
    Perfmon = 38,
    /// BPF maps and programs (5.8).
    Bpf = 39,
    /// /proc/PID/map_files without CAP_SYS_ADMIN (5.9).
    CheckpointRestore = 40,
}

impl Capability {
    /// Those that `doctor` lists.
    pub const ALL: &'static [Self] = &[
        Self::Bpf,
        Self::Perfmon,
        Self::SysPtrace,
        Self::DacReadSearch,
        Self::SysAdmin,
        Self::SysResource,
        Self::Syslog,
        Self::NetAdmin,
        Self::CheckpointRestore,
    ];

    /// Its name as `setcap` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
            Self::CheckpointRestore => "CAP_CHECKPOINT_RESTORE",
        }
    }
}

/// A set of capabilities, bit n = capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Those in effect for this process.
    pub fn of_self() -> Known<Self> {
        match fs::read_to_string("/proc/self/status") {
            Ok(status) => parse(&status),
            Err(error) => Known::Unknown(Reason::with(format!("/proc/self/status: {error}"))),
        }
    }

    /// Whether `capability` is in effect.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u8) & 1 == 1
    }

    /// Whether BPF programs may be loaded: CAP_BPF (5.8) or CAP_SYS_ADMIN.
    pub fn may_load_bpf(self) -> bool {
        self.has(Capability::Bpf) || self.has(Capability::SysAdmin)
    }

    /// Whether tracing programs may be attached: CAP_PERFMON (5.8) or CAP_SYS_ADMIN.
    pub fn may_trace(self) -> bool {
        self.has(Capability::Perfmon) || self.has(Capability::SysAdmin)
    }
}

fn parse(status: &str) -> Known<Capabilities> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .map_or(
            Known::unknown("/proc/self/status has no CapEff line"),
            |bits| Known::Known(Capabilities(bits)),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let Known::Known(set) = parse("Name:\tx\nCapEff:\t000000c000080004\n") else {
            panic!("not parsed");
        };
        assert!(set.has(Capability::Bpf) && set.has(Capability::Perfmon));
        assert!(set.has(Capability::SysPtrace) && set.has(Capability::DacReadSearch));
        assert!(!set.has(Capability::SysAdmin));
        assert!(set.may_load_bpf() && set.may_trace());
        assert!(parse("Name:\tx\n").reason().is_some());
        assert!(Capabilities::of_self().known().is_some());
    }
}
