//! Probes on task polls and wake-ups in a program's own code (tier `runtime`). Both functions are
//! reached through the task's vtable, so stripping and link-time optimization leave their addresses.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::task::TaskFacts;
use crate::model::{Known, Reason};
use crate::probes::spec::{CodeProbe, Need};
use crate::runtimes::{CodeProbes, CodeReader, TaskTypes, TokioPollType};
use crate::sys::elf::ElfImage;

use super::cheap::{Argument, CheapPlace, cheap_place};
use super::functions::Functions;
use super::names::TaskType;
use super::pointers::{CodePointers, CodeRanges};
use super::targets::verify;
use super::vtables::Vtable;
use super::{TokioImage, single_version};

/// Probes that one program may need: one per poll function.
const MAX_PROBES: usize = 2048;

/// Number of the register of the first argument (System V ABI for x86-64).
const RDI: u8 = 7;
/// Why a poll function has no place.
const NOT_FIRST: Reason = Reason::new("its first instruction would be single-stepped at each hit");

/// Names of the task types of one program, found when first asked for.
#[derive(Debug)]
struct Names {
    image: TokioImage,
    elf: Arc<ElfImage>,
    bias: u64,
    types: Mutex<Option<Vec<TaskType>>>,
}

impl TaskTypes for Names {
    fn describe(&self, vtable: u64) -> TaskFacts {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let types = types.get_or_insert_with(|| self.image.task_types(&self.elf));
        let address = vtable.wrapping_sub(self.bias);
        match types.iter().find(|t| t.vtable == address) {
            Some(found) => super::finder::facts_of(found),
            None => TaskFacts::unknown("its vtable is not one of the executable's"),
        }
    }
}

/// Whether tasks are of the blocking pool: closures that may block, and the workers themselves.
fn is_blocking(vtable: &Vtable, minor: Option<u16>) -> bool {
    // Without a version: what either layout calls blocking is no task of a scheduler in the other.
    let minors = minor.map_or([39, 40], |minor| [minor, minor]);
    minors
        .iter()
        .any(|minor| vtable.is_blocking(*minor) == Some(true))
}

/// The probes for one program, whose addresses in the process are higher by `bias`.
pub(super) fn code_probes(
    image: &TokioImage,
    elf: &Arc<ElfImage>,
    bias: u64,
) -> Result<CodeProbes, Reason> {
    let parsed = elf
        .parse()
        .map_err(|e| Reason::with(format!("the executable could not be read again: {e}")))?;
    let minor = single_version(&image.presence).map(|v| v.minor);
    let followed: Vec<&Vtable> = image
        .vtables
        .iter()
        .filter(|vtable| !is_blocking(vtable, minor))
        .collect();
    let types: Vec<TokioPollType> = followed
        .iter()
        .filter_map(|vtable| {
            Some(TokioPollType {
                vtable: vtable.address.wrapping_add(bias),
                id_offset: vtable.offsets?.id,
            })
        })
        .collect();
    if types.is_empty() {
        return Err(Reason::new(
            "no task type tells where its id lies (tokio before 1.23), or there is none",
        ));
    }
    let polls: BTreeSet<u64> = followed.iter().map(|vtable| vtable.poll).collect();
    let schedules: BTreeSet<u64> = followed.iter().filter_map(|v| v.schedule).collect();
    if polls.len() > MAX_PROBES {
        return Err(Reason::with(format!(
            "{} poll functions are more than the {MAX_PROBES} that are probed",
            polls.len()
        )));
    }
    let functions = Functions::read(&parsed);
    let pointers = CodePointers::read(&parsed, &CodeRanges::new(&parsed));
    // Polls are told apart by the depth of the stack, which is the same at all first instructions.
    let first = |place: CheapPlace| {
        let ok = place.pushed == 0 && place.argument == Argument::Register(RDI);
        ok.then_some(place).ok_or(NOT_FIRST)
    };
    let probe = |name: String, address, program, lost, polls: bool| {
        let place = verify(&parsed, functions, address)
            .and_then(|_| cheap_place(&parsed, &pointers, address))
            .and_then(|place| if polls { first(place) } else { Ok(place) });
        CodeProbe {
            name,
            program,
            need: Need::Optional(lost),
            first_out: !polls,
            data: place.as_ref().map_or(0, |place| place.argument.encode()),
            site: match place {
                Ok(place) => Known::Known(place.site),
                Err(reason) => Known::Unknown(reason),
            },
        }
    };
    let mut probes: Vec<CodeProbe> = polls
        .iter()
        .map(|address| {
            let name = format!("a task's poll at {address:#x}");
            let lost = "polls of some task types are not seen";
            probe(name, *address, "tokio_poll", lost, true)
        })
        .collect();
    if probes.iter().all(|probe| probe.site.known().is_none()) {
        let why = probes.first().and_then(|probe| probe.site.reason());
        return Err(match why {
            Some(reason) => Reason::with(format!("no poll function has a sure place: {reason}")),
            None => Reason::new("there is no poll function"),
        });
    }
    probes.extend(schedules.iter().map(|address| {
        let name = format!("a scheduler's entry at {address:#x}");
        let lost = "delays of some tasks from wake-up to poll are not seen";
        probe(name, *address, "tokio_schedule", lost, false)
    }));
    let names = Names {
        image: image.clone(),
        elf: Arc::clone(elf),
        bias,
        types: Mutex::default(),
    };
    Ok(CodeProbes {
        probes,
        reader: CodeReader::Tokio {
            types,
            names: Arc::new(names),
        },
    })
}
