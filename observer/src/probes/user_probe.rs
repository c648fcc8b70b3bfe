//! Probes in a target's own code (uprobes). A wrong place kills the target, so places come
//! from `sys::code` only, and are compared with the file once more before attaching.

use std::num::NonZeroU32;
use std::path::PathBuf;

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use super::attach::{Kernel, chain, is_permission};
use crate::model::{Pid, Reason};
use crate::sys::code::{CodeSite, unchanged};

/// A probe to put into one process.
#[derive(Debug, Clone)]
pub struct UserProbe {
    /// Program in the object.
    pub program: &'static str,
    /// The process; other processes that run the same file do not pay.
    pub pid: Pid,
    /// The file that holds the code, by a path that works from here (`/proc/PID/exe`).
    pub file: PathBuf,
    /// Where in the file.
    pub site: CodeSite,
    /// Given to the program at each hit.
    pub cookie: u64,
}

/// A probe that is attached; see [`Kernel::detach_user`].
#[derive(Debug)]
pub struct UserLink {
    program: &'static str,
    id: UProbeLinkId,
}

impl Kernel {
    /// Puts a probe into a process.
    ///
    /// # Errors
    /// When the file has changed since its place was verified, or when the kernel refuses.
    pub fn attach_user(&mut self, probe: &UserProbe) -> Result<UserLink, Reason> {
        let failed = |e: ProgramError| Reason::with(chain(&e));
        unchanged(&probe.file, &probe.site)?;
        let pid = NonZeroU32::new(probe.pid.0).ok_or(Reason::new("pid 0 is not a process"))?;
        let program = self
            .ebpf_mut()
            .program_mut(probe.program)
            .ok_or(Reason::new("the object has no such program"))?;
        let program: &mut UProbe = program.try_into().map_err(failed)?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(error) => return Err(failed(error)),
        }
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(probe.site.offset),
            cookie: Some(probe.cookie),
        };
        let id = program
            .attach(point, &probe.file, UProbeScope::OneProcess(pid))
            .map_err(|e| {
                if is_permission(&e) {
                    Reason::with(format!(
                        "the kernel refuses it without CAP_SYS_ADMIN: {}",
                        chain(&e)
                    ))
                } else {
                    failed(e)
                }
            })?;
        Ok(UserLink {
            program: probe.program,
            id,
        })
    }

    /// Time in and runs of one program, when the kernel counts them.
    pub fn runs_of(&self, program: &str) -> Option<(u64, u64)> {
        let info = self.ebpf().program(program)?.info().ok()?;
        let ns = u64::try_from(info.run_time().as_nanos()).ok()?;
        (info.run_count() > 0).then(|| (ns, info.run_count()))
    }

    /// Takes a probe out again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach_user(&mut self, link: UserLink) -> Result<(), Reason> {
        let failed = |e: ProgramError| Reason::with(chain(&e));
        let program = self
            .ebpf_mut()
            .program_mut(link.program)
            .ok_or(Reason::new("the object has no such program"))?;
        let program: &mut UProbe = program.try_into().map_err(failed)?;
        program.detach(link.id).map_err(failed)
    }
}
