//! `observer doctor`: tries what a session would do, and says what works, why not, what to do.

use crate::model::doctor::{Check, Diagnosis, Status};
use crate::model::transport::Transport;
use crate::model::{Known, Pid, Reason};
use crate::probes::attach::{Kernel, LoadOptions};
use crate::probes::plan::{self, Facts};
use crate::probes::settings;
use crate::probes::spec::{Need, Tier, Tiers};
use crate::probes::user_maps::UserMaps;
use crate::runtimes::{NO_RUNTIME, RuntimeKind};
use crate::sys::caps::Capability;
use crate::sys::kernel::{KernelFacts, Lockdown};
use crate::sys::process::Process;
use crate::sys::tracefs::TracepointFormats;

use super::rate_guard::DEFAULT_BUDGET;
use super::target::Target;
use super::user_probes::UserProbes;

/// What is wrong without each capability, for those that matter.
const CAPABILITIES: &[(Capability, bool, &str)] = &[
    (Capability::Bpf, true, "kernel programs can not be loaded"),
    (
        Capability::Perfmon,
        true,
        "kernel programs can not be attached",
    ),
    (
        Capability::SysPtrace,
        false,
        "processes of other users can not be looked into: no goroutines, tasks or symbols of theirs",
    ),
    (
        Capability::DacReadSearch,
        false,
        "executables of other users may not be readable: no symbols of theirs",
    ),
    (
        Capability::Syslog,
        false,
        "kernel functions may have no names",
    ),
];

fn check(group: &'static str, name: impl Into<String>, needed: bool) -> Check {
    Check {
        group,
        name: name.into(),
        status: Status::Ok,
        needed,
        found: None,
        why: None,
        cure: None,
    }
}

fn bad(mut check: Check, status: Status, why: Reason, cure: &str) -> Check {
    check.status = status;
    check.why = Some(why);
    check.cure = (!cure.is_empty()).then(|| cure.to_owned());
    check
}

/// Runs all checks. `pid`: also those for one process.
///
/// # Errors
/// When the process does not exist or may not be looked at.
pub fn diagnose(pid: Option<Pid>) -> anyhow::Result<Diagnosis> {
    let facts = KernelFacts::read();
    let mut checks = kernel_checks(&facts);
    checks.extend(capability_checks(&facts));
    checks.extend(probe_checks(&facts));
    if let Some(pid) = pid {
        let target = Target::inspect(Process::open(pid)?);
        checks.extend(runtime_checks(&facts, &target));
        checks.extend(target_checks(&target));
    }
    Ok(Diagnosis {
        host: super::view::host(&facts),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: pid.map(|pid| pid.0),
        checks,
    })
}

fn kernel_checks(facts: &KernelFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    let btf = check("kernel", "BTF type information", true);
    checks.push(match &facts.btf {
        Known::Known(types) => Check { found: Some(format!("{types} types")), ..btf },
        Known::Unknown(reason) => bad(
            btf,
            Status::Missing,
            reason.clone(),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (5.5 and later; all current distributions)",
        ),
    });
    let lockdown = check("kernel", "lockdown", true);
    checks.push(match &facts.lockdown {
        Known::Known(Lockdown::Confidentiality) => bad(
            lockdown,
            Status::Missing,
            Reason::new("confidentiality mode: the kernel refuses to let programs read its memory"),
            "boot without lockdown=confidentiality",
        ),
        Known::Known(mode) => Check {
            found: Some(mode.as_str().to_owned()),
            ..lockdown
        },
        Known::Unknown(reason) => Check {
            found: Some(reason.to_string()),
            ..lockdown
        },
    });
    let registers = check("kernel", "registers of blocked threads", false);
    let since_5_15 = facts
        .version
        .known()
        .is_some_and(|v| (v.major, v.minor) >= (5, 15));
    checks.push(if since_5_15 {
        registers
    } else {
        bad(
            registers,
            Status::Missing,
            Reason::new("kernels before 5.15 do not give them, so syscalls are not named"),
            "use a newer kernel",
        )
    });
    for (name, known, lost) in [
        (
            "thread-local storage base",
            facts.task.fsbase.reason(),
            "goroutines and tokio tasks can not be identified",
        ),
        (
            "interrupt context",
            facts.preempt_count.reason(),
            "wake-ups by interrupts can not be told from wake-ups by threads",
        ),
    ] {
        let row = check("kernel", name, false);
        checks.push(match known {
            None => row,
            Some(reason) => bad(
                row,
                Status::Degraded,
                Reason::with(format!("{lost}: {reason}")),
                "",
            ),
        });
    }
    let namespace = check("kernel", "pid namespace", true);
    checks.push(if crate::sys::usage::in_initial_pid_namespace() {
        namespace
    } else {
        bad(
            namespace,
            Status::Missing,
            Reason::new("observer runs in one of its own: the kernel's process ids are other ones"),
            "run it in the host's: docker run --pid=host, Kubernetes hostPID: true",
        )
    });
    let kernel_names = check("kernel", "kernel function names", false);
    checks.push(match facts.sysctls.kptr_restrict.known() {
        Some(level) if *level >= 2 => bad(
            kernel_names,
            Status::Degraded,
            Reason::new("kernel.kptr_restrict is 2: kernel addresses are hidden from everybody"),
            "sysctl kernel.kptr_restrict=1",
        ),
        _ => kernel_names,
    });
    checks
}

fn capability_checks(facts: &KernelFacts) -> Vec<Check> {
    let set = match &facts.capabilities {
        Known::Known(set) => *set,
        Known::Unknown(reason) => {
            return vec![bad(
                check("permission", "capabilities", false),
                Status::Degraded,
                reason.clone(),
                "",
            )];
        }
    };
    CAPABILITIES
        .iter()
        .map(|(capability, needed, lost)| {
            let row = check("permission", capability.as_str(), *needed);
            let has = set.has(*capability)
                || (set.has(Capability::SysAdmin)
                    && matches!(
                        capability,
                        Capability::Bpf | Capability::Perfmon | Capability::Syslog
                    ));
            if has {
                row
            } else {
                let cure = "run as root, or: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog+ep observer";
                let status = if *needed {
                    Status::Missing
                } else {
                    Status::Degraded
                };
                bad(row, status, Reason::new(lost), cure)
            }
        })
        .collect()
}

/// All that can be tried without a target.
const TRIED: Tiers = Tiers {
    syscalls: true,
    runtime: false,
};

/// Loads and attaches every probe as a session would, and lets go of them again at once.
fn probe_checks(facts: &KernelFacts) -> Vec<Check> {
    let formats = TracepointFormats::read();
    let config = settings::kernel_config(
        facts,
        formats.as_ref().unwrap_or(&TracepointFormats::default()),
        TRIED,
    );
    let mut checks = Vec::new();
    let mut loaded = None;
    for transport in [Transport::Ring, Transport::Perf] {
        let needed = loaded.is_none();
        let row = check(
            "probe",
            format!("record buffer: {}", transport.as_str()),
            needed,
        );
        let options = LoadOptions {
            transport,
            max_inflight: 1024,
            runtime: false,
            log_level: 0,
            cpu_hz: crate::cli::DEFAULT_CPU_HZ,
        };
        match Kernel::load(&config, options) {
            Ok(kernel) => {
                checks.push(row);
                loaded = loaded.or(Some(kernel));
            }
            Err(error) => checks.push(bad(
                row,
                Status::Missing,
                Reason::with(error.to_string()),
                "see the rows on permissions above",
            )),
        }
    }
    // One buffer is enough.
    if loaded.is_some() {
        for check in &mut checks {
            check.needed = false;
        }
    }
    let Some(mut kernel) = loaded else {
        return checks;
    };
    let plan = plan::plan(
        TRIED,
        &Facts {
            btf: match &facts.btf {
                Known::Known(_) => Ok(()),
                Known::Unknown(reason) => Err(reason.clone()),
            },
            tracefs: formats.map(|_| ()),
            task_offsets: facts.task.pid.known().is_some(),
            cpu_samples: true,
            excluded: Vec::new(),
        },
    );
    if let Err(error) = kernel.attach(&plan) {
        checks.push(bad(
            check("probe", "attach", true),
            Status::Missing,
            Reason::with(error.to_string()),
            "see the rows on permissions above",
        ));
    }
    for outcome in &kernel.outcomes {
        let needed = outcome.spec.need == Need::Required;
        let row = check("probe", outcome.spec.name, needed);
        checks.push(match (outcome.attached, outcome.degradation()) {
            (Some(hook), _) if outcome.failed.is_empty() => Check {
                found: Some(hook.mechanism().to_owned()),
                ..row
            },
            (Some(hook), _) => {
                let why = outcome
                    .failed
                    .iter()
                    .map(|(hook, reason)| format!("not {}: {reason}", hook.mechanism()))
                    .collect::<Vec<_>>()
                    .join("; ");
                Check {
                    found: Some(hook.mechanism().to_owned()),
                    ..bad(row, Status::Degraded, Reason::with(why), "")
                }
            }
            (None, why) => bad(
                row,
                if needed {
                    Status::Missing
                } else {
                    Status::Degraded
                },
                Reason::with(why.unwrap_or_default()),
                "",
            ),
        });
    }
    let works = |tier| {
        let mut probes = kernel.outcomes.iter().filter(|o| o.spec.tier == tier);
        probes.all(|outcome| outcome.attached.is_some())
    };
    for (tier, cost) in [
        (
            Tier::Sched,
            "threads of the target pay when they block, other context switches next to nothing",
        ),
        (
            Tier::Syscalls,
            "while it runs every system call of the host pays; it says how much when it starts",
        ),
    ] {
        let row = check("tier", tier.as_str(), tier == Tier::Sched);
        checks.push(if works(tier) {
            Check {
                found: Some(cost.to_owned()),
                ..row
            }
        } else {
            bad(
                row,
                Status::Degraded,
                Reason::new("not all of its probes can be attached: see the rows above"),
                "",
            )
        });
    }
    checks
}

/// Puts the probes of the tier `runtime` into the process, and takes them out again at once.
fn runtime_checks(facts: &KernelFacts, target: &Target) -> Vec<Check> {
    let row = || check("tier", "runtime", false);
    let lost = |why: &Reason| {
        let why = format!("no probes in this process: {why}");
        vec![bad(row(), Status::Missing, Reason::with(why), "")]
    };
    let found = match target.code_probes() {
        Known::Known(found) => found,
        // Nothing is wrong with a program that has no runtime.
        Known::Unknown(reason) if reason == NO_RUNTIME => {
            return vec![Check {
                found: Some(format!("not for this process: {reason}")),
                ..row()
            }];
        }
        Known::Unknown(reason) => return lost(&reason),
    };
    let formats = TracepointFormats::read().unwrap_or_default();
    let options = LoadOptions {
        cpu_hz: 0,
        transport: Transport::Ring,
        max_inflight: 1024,
        runtime: true,
        log_level: 0,
    };
    let loaded = Kernel::load(
        &settings::kernel_config(facts, &formats, Tiers::SCHED),
        options,
    )
    .and_then(|mut kernel| Ok((UserMaps::take(&mut kernel)?, kernel)));
    let (maps, mut kernel) = match loaded {
        Ok((maps, kernel)) => (maps, kernel),
        Err(error) => return lost(&Reason::with(error.to_string())),
    };
    let mut user = UserProbes::new(maps, DEFAULT_BUDGET);
    let pid = target.process.id.pid;
    let mut checks = Vec::new();
    for probe in &found.probes {
        let row = row();
        let one = std::slice::from_ref(probe);
        let mut notes = Vec::new();
        let tried = user.attach(&mut kernel, pid, one, |_| Ok(()), &mut notes);
        checks.push(match (tried, notes.pop()) {
            (Ok(_), None) => Check {
                found: Some(format!("a probe in {} can be placed", probe.name)),
                ..row
            },
            (Ok(_), Some(note)) => bad(row, Status::Degraded, Reason::with(note), ""),
            (Err(reason), _) => {
                let cure = if reason.0.contains("CAP_SYS_ADMIN") {
                    "run as root, or add cap_sys_admin to observer's capabilities"
                } else {
                    ""
                };
                bad(row, Status::Missing, reason, cure)
            }
        });
    }
    user.end_all(&mut kernel);
    checks
}

fn target_checks(target: &Target) -> Vec<Check> {
    let mut checks = Vec::new();
    let runtime = check("target", "runtime", false);
    let version = target
        .image
        .as_ref()
        .and_then(|i| i.version().known().cloned());
    checks.push(Check {
        found: Some(match version {
            Some(version) => format!("{} {version}", target.runtime.as_str()),
            None => target.runtime.as_str().to_owned(),
        }),
        ..runtime
    });
    let identity = check("target", "task identity", false);
    checks.push(match (&target.reader, target.runtime) {
        (Known::Known(_), RuntimeKind::Go) => Check {
            found: Some("goroutines".to_owned()),
            ..identity
        },
        (Known::Known(_), _) => Check {
            found: Some("tokio tasks".to_owned()),
            ..identity
        },
        (Known::Unknown(_), RuntimeKind::Native) if target.degraded().is_none() => Check {
            found: Some("threads: no runtime with tasks".to_owned()),
            ..identity
        },
        (Known::Unknown(reason), _) => bad(
            identity,
            Status::Degraded,
            Reason::with(format!("threads only: {reason}")),
            "",
        ),
    });
    checks
}
