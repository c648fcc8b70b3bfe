//! The sampling clock: a perf event on each CPU.

use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{PerfEvent, ProgramError};

/// Lets a program run `hz` times per second on each CPU that is online now.
pub(super) fn attach(program: &mut PerfEvent, hz: u32) -> Result<(), ProgramError> {
    let cpus = aya::util::online_cpus().map_err(|(_, e)| ProgramError::IOError(e))?;
    for cpu in cpus {
        program.attach(
            PerfEventConfig::Software(SoftwareEvent::CpuClock),
            PerfEventScope::AllProcessesOneCpu { cpu },
            SamplePolicy::Frequency(u64::from(hz)),
            false,
        )?;
    }
    Ok(())
}
