//! `observer ps`: processes with their runtime and what can be seen in each.

use object::Object as _;

use super::target::Target;
use crate::model::ps::{ProcessRow, Sees};
use crate::model::{Known, Pid, Reason};
use crate::resolve::processes;
use crate::runtimes::{RuntimeKind, TaskReader};
use crate::sys::elf::ElfImage;
use crate::sys::process::Process;

/// The rows for these processes; for all that may be looked at when there is none.
///
/// # Errors
/// When a process that was asked for does not exist or may not be looked at.
pub fn rows(pids: &[u32]) -> anyhow::Result<Vec<ProcessRow>> {
    let chosen = if pids.is_empty() {
        processes::observable()
    } else {
        let pids: Vec<Pid> = pids.iter().copied().map(Pid).collect();
        processes::select(&pids, &[], &[])?
    };
    Ok(chosen.into_iter().map(row).collect())
}

fn row(process: Process) -> ProcessRow {
    let elf = ElfImage::open(&process.exe_handle());
    let stripped = match &elf {
        Ok(elf) => match elf.parse() {
            Ok(parsed) => Known::Known(parsed.symbol_table().is_none()),
            Err(error) => Known::Unknown(Reason::with(error.to_string())),
        },
        Err(error) => Known::Unknown(Reason::with(error.to_string())),
    };
    let exe = Known::Known(process.exe.display().to_string());
    let target = Target::inspect(process);
    let readable = stripped.known().is_some();
    let (sees, limits) = match (&target.reader, &stripped) {
        (Known::Known(TaskReader::Go(_)), _) => (Sees::Goroutines, Vec::new()),
        (Known::Known(TaskReader::Tokio(_)), _) => (Sees::TokioTasks, Vec::new()),
        (_, Known::Unknown(reason)) => (Sees::Threads, vec![reason.clone()]),
        (Known::Unknown(_), _) if target.runtime == RuntimeKind::Native => {
            (Sees::Threads, Vec::new())
        }
        (Known::Unknown(reason), _) => (Sees::Threads, vec![reason.clone()]),
    };
    ProcessRow {
        pid: target.process.id.pid.0,
        start_time: target.process.id.start.0,
        comm: target.process.comm.clone(),
        exe,
        runtime: if readable {
            Known::Known(target.runtime.as_str())
        } else {
            Known::unknown("the executable can not be read")
        },
        version: target.image.as_ref().map_or_else(
            || Known::unknown("native programs have no runtime version"),
            |image| image.version(),
        ),
        stripped,
        threads: target.threads,
        sees,
        limits,
    }
}
