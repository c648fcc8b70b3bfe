//! Loads the object, carries out the plan, and hands out the maps.

use std::io::Read as _;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::{BtfTracePoint, Iter, PerfEvent, ProgramError, RawTracePoint, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader};
use observer_common::config::KernelConfig;

use super::object;
use super::outcome::Outcome;
use super::plan::Planned;
use super::settings;
use super::spec::{Hook, Need};
use crate::model::Reason;
use crate::model::transport::Transport;

/// Why nothing can be observed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused for want of privileges.
    #[error(
        "no permission to load kernel programs: {0}; run as root, or give CAP_BPF and CAP_PERFMON (`observer doctor` tells which are missing)"
    )]
    Permission(String),
    /// The object could not be loaded.
    #[error("the kernel programs could not be loaded: {0}")]
    Load(String),
    /// A probe without which nothing works could not be attached.
    #[error("{0}")]
    Required(String),
    /// A map is missing or could not be written.
    #[error("map {0}: {1}")]
    Map(&'static str, String),
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // Verifier logs are long; the first lines say enough, the rest is for `-v`.
    text.lines().take(2).collect::<Vec<_>>().join(" ")
}

pub(super) fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The loaded kernel side. Dropping it (or being killed) detaches every probe: nothing is pinned.
pub struct Kernel {
    ebpf: Ebpf,
    btf: Option<Btf>,
    iterators: Vec<&'static str>,
    cpu_hz: u32,
    /// What became of each probe.
    pub outcomes: Vec<Outcome>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("outcomes", &self.outcomes)
            .finish_non_exhaustive()
    }
}

/// Sizes and switches of a load.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// How records reach the user side.
    pub transport: Transport,
    /// Threads that may be off CPU at once.
    pub max_inflight: u32,
    /// Room for the tier `runtime`.
    pub runtime: bool,
    /// Level of the kernel side's own log: 0 silent, 1 error ... 5 trace.
    pub log_level: u8,
    /// Samples of running threads per second and CPU.
    pub cpu_hz: u32,
}

impl Kernel {
    /// Loads the object with the facts of this kernel. Nothing is attached yet.
    ///
    /// # Errors
    /// When the kernel refuses, with the reason.
    pub fn load(facts: &KernelConfig, options: LoadOptions) -> Result<Self, AttachError> {
        let btf = Btf::from_sys_fs().ok();
        let mut loader = EbpfLoader::new();
        if facts.traces_syscalls == 0 {
            super::syscalls::shrink(&mut loader);
        } else {
            loader.map_max_entries("SYSCALL_OPEN", options.max_inflight);
        }
        if options.runtime {
            super::go_maps::make_room(&mut loader);
            super::poll_maps::make_room(&mut loader);
        }
        let ebpf = loader
            .btf(btf.as_ref())
            .override_global("KERNEL", facts, true)
            .override_global("AYA_LOG_LEVEL", &options.log_level, false)
            .map_max_entries("INFLIGHT", options.max_inflight)
            .load(object::object(options.transport))
            .map_err(|error| {
                if is_permission(&error) {
                    AttachError::Permission(chain(&error))
                } else {
                    AttachError::Load(chain(&error))
                }
            })?;
        let mut kernel = Self {
            ebpf,
            btf,
            iterators: Vec::new(),
            cpu_hz: options.cpu_hz,
            outcomes: Vec::new(),
        };
        let roles = kernel.ebpf.map_mut("ROLES");
        let roles = roles.ok_or(AttachError::Map("ROLES", "missing".into()))?;
        // Borrowed, not taken: programs refer to the map when they are loaded later.
        let mut roles: Array<_, u8> =
            Array::try_from(roles).map_err(|e| AttachError::Map("ROLES", chain(&e)))?;
        for (nr, role) in settings::syscall_roles() {
            roles
                .set(nr, role, 0)
                .map_err(|e| AttachError::Map("ROLES", chain(&e)))?;
        }
        Ok(kernel)
    }

    /// Attaches what the plan asks for, each probe by the first hook that works.
    ///
    /// # Errors
    /// When a required probe can not be attached by any hook.
    pub fn attach(&mut self, plan: &[Planned]) -> Result<(), AttachError> {
        for planned in plan {
            let mut outcome = Outcome {
                spec: planned.spec,
                attached: None,
                failed: planned.ruled_out.clone(),
            };
            let mut denied = false;
            for hook in &planned.hooks {
                match self.attach_one(*hook) {
                    Ok(()) => {
                        outcome.attached = Some(*hook);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(probe = planned.spec.name, mechanism = hook.mechanism(),
                            error = %error, "not attached");
                        denied |= is_permission(&error);
                        outcome.failed.push((*hook, Reason::with(chain(&error))));
                    }
                }
            }
            if outcome.attached.is_none() && planned.spec.need == Need::Required {
                let text = outcome.degradation().unwrap_or_default();
                return Err(if denied {
                    AttachError::Permission(text)
                } else {
                    AttachError::Required(text)
                });
            }
            self.outcomes.push(outcome);
        }
        Ok(())
    }

    fn attach_one(&mut self, hook: Hook) -> Result<(), ProgramError> {
        let program = self
            .ebpf
            .program_mut(hook.program())
            .ok_or(ProgramError::InvalidName {
                name: hook.program().to_owned(),
            })?;
        // Iterators are planned only when BTF is there; the error says so otherwise.
        let btf = self.btf.as_ref();
        let no_btf = || ProgramError::IOError(std::io::Error::other("the kernel has no BTF"));
        match hook {
            Hook::Btf { event, .. } => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(event, btf.ok_or_else(no_btf)?)?;
                program.attach()?;
            }
            Hook::Raw { event, .. } => {
                let program: &mut RawTracePoint = program.try_into()?;
                program.load()?;
                program.attach(event)?;
            }
            Hook::Tracepoint {
                category, event, ..
            } => {
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
                program.attach(category, event)?;
            }
            Hook::CpuClock { .. } => {
                let program: &mut PerfEvent = program.try_into()?;
                program.load()?;
                super::cpu_clock::attach(program, self.cpu_hz)?;
            }
            Hook::Iterator {
                program: name,
                over,
            } => {
                let program: &mut Iter = program.try_into()?;
                program.load(over, btf.ok_or_else(no_btf)?)?;
                self.iterators.push(name);
            }
        }
        Ok(())
    }

    /// Runs the task iterator once: waits under way enter the in-flight map, and what it wrote is
    /// returned. `None` when the probe is off.
    ///
    /// # Errors
    /// When the kernel fails to run it.
    pub fn read_seeds(&mut self) -> Result<Option<Vec<u8>>, Reason> {
        if !self.iterators.contains(&"seed_tasks") {
            return Ok(None);
        }
        let failed = |e: &dyn std::error::Error| Reason::with(chain(e));
        let Some(program) = self.ebpf.program_mut("seed_tasks") else {
            return Ok(None);
        };
        let program: &mut Iter = program.try_into().map_err(|e: ProgramError| failed(&e))?;
        let link = program.attach().map_err(|e| failed(&e))?;
        let link = program.take_link(link).map_err(|e| failed(&e))?;
        let mut bytes = Vec::new();
        let mut file = link.into_file().map_err(|e| failed(&e))?;
        file.read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        Ok(Some(bytes))
    }

    /// The loaded object.
    pub(super) fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// The loaded object, for the other ways to attach.
    pub(super) fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Whether running threads are sampled.
    pub fn samples_cpu(&self) -> bool {
        self.outcomes
            .iter()
            .any(|o| o.spec.name == super::spec::CPU_SAMPLE && o.attached.is_some())
    }

    /// Lets go of the kernel's type information (some 20 MiB) once everything is attached.
    pub fn forget_types(&mut self) {
        self.btf = None;
    }

    /// Takes the map that carries records.
    pub fn take_records(&mut self) -> Option<aya::maps::Map> {
        self.ebpf.take_map("RECORDS")
    }

    /// Starts forwarding the kernel side's own log (aya-log); only sensible above level 0.
    ///
    /// # Errors
    /// When the object has no log map, as that for perf buffers.
    pub fn logger(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, Reason> {
        if self.ebpf.map("AYA_LOGS").is_none() {
            return Err(Reason::new("it needs a ring buffer"));
        }
        aya_log::EbpfLogger::init(&mut self.ebpf).map_err(|e| Reason::with(chain(&e)))
    }

    pub(super) fn array<V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<Array<MapData, V>, AttachError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or(AttachError::Map(name, "missing".into()))?;
        Array::try_from(map).map_err(|e| AttachError::Map(name, chain(&e)))
    }

    pub(super) fn hash<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<MapData, K, V>, AttachError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or(AttachError::Map(name, "missing".into()))?;
        HashMap::try_from(map).map_err(|e| AttachError::Map(name, chain(&e)))
    }

    pub(super) fn per_cpu<V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<PerCpuArray<MapData, V>, AttachError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or(AttachError::Map(name, "missing".into()))?;
        PerCpuArray::try_from(map).map_err(|e| AttachError::Map(name, chain(&e)))
    }

    /// Time in and runs of our programs, when the kernel counts them
    /// (`kernel.bpf_stats_enabled` or [`enable_stats`]).
    pub fn run_stats(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        for (name, program) in self.ebpf.programs() {
            if let Ok(info) = program.info() {
                if info.run_count() > 0 {
                    tracing::debug!(
                        program = name,
                        runs = info.run_count(),
                        ns_per_run = info.run_time().as_nanos() as u64 / info.run_count(),
                        "run time"
                    );
                }
                sum.0 += u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
                sum.1 += info.run_count();
            }
        }
        sum
    }
}

/// Makes the kernel count run time of BPF programs while the returned guard lives.
///
/// # Errors
/// When it may not (needs CAP_SYS_ADMIN).
pub fn enable_stats() -> Result<std::os::fd::OwnedFd, Reason> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|e| Reason::with(chain(&e)))
}
