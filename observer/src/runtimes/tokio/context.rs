//! Where the current task's id and the EnterRuntime byte lie, from the thread pointer. The layout of
//! `tokio::runtime::context::Context` is rustc's choice, so it is found per program: debug
//! information and the program's own code, which must agree; a table by version where neither speaks.
//! Disagreement or a layout that nothing confirms is Unknown: threads only, never a guess.

use object::elf::PT_TLS;
use object::read::elf::ProgramHeader as _;
use object::{Endianness, Object as _, ObjectSymbol as _, ObjectSymbolTable as _};

use crate::model::{Known, Reason};
use crate::runtimes::{ThreadLocals, TokioIdForm, TokioReader};
use crate::sys::elf::Elf;

use super::detect::TokioVersion;
use super::disasm::{IdVote, NoVote, find_small_fields, vote_for_id};
use super::dwarf::{ContextLayout, context_layout};
use super::locals::TlsPairs;
use super::pointers::{CodePointers, CodeRanges, is_shared_object};
use super::vtables::Vtable;

/// More symbols named like tokio's static than any program has copies.
const MAX_COPIES: usize = 8;

/// A TLS block. That of an executable is seen from the thread pointer (ELF TLS ABI, variant II), that
/// of a library from its own start, because it lies anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TlsBlock {
    /// Bytes from the thread pointer to the start of the block (negative); 0 for a library.
    pub(super) start: i64,
    /// Size of the block in bytes.
    pub(super) size: u64,
}

impl TlsBlock {
    /// Reads PT_TLS. The rounding is lld's (`ELF/InputSection.cpp`, `getTlsTpOffset`, x86-64).
    pub(super) fn read(elf: &Elf<'_>) -> Option<Self> {
        let header = elf
            .elf_program_headers()
            .iter()
            .find(|p| p.p_type(Endianness::Little) == PT_TLS)?;
        let size = header.p_memsz(Endianness::Little);
        let align = header.p_align(Endianness::Little).max(1);
        if !align.is_power_of_two() || align > 1 << 20 || size > 1 << 30 {
            return None;
        }
        if is_shared_object(elf) {
            return Some(Self { start: 0, size });
        }
        let address = header.p_vaddr(Endianness::Little);
        let padding = address.wrapping_neg().wrapping_sub(size) & (align - 1);
        Some(Self {
            start: -((size + padding) as i64),
            size,
        })
    }

    fn contains(self, offset: i64, length: u64) -> bool {
        offset >= self.start
            && offset.saturating_add(length as i64) <= self.start + self.size as i64
    }
}

/// What was found in the file, and where each part comes from.
#[derive(Debug, Clone)]
pub(super) struct ContextFacts {
    /// The reader, before the self-check on a live process.
    pub(super) reader: Known<TokioReader>,
    /// In a library: what tells where its block is. The reader then counts from the block's start.
    pub(super) pairs: Option<TlsPairs>,
    /// The only source is the version table: the self-check must confirm it.
    pub(super) unconfirmed: bool,
    /// One clause per source.
    pub(super) evidence: Vec<String>,
}

impl ContextFacts {
    fn unknown(reason: Reason, evidence: Vec<String>) -> Self {
        Self {
            reader: Known::Unknown(reason),
            pairs: None,
            unconfirmed: false,
            evidence,
        }
    }
}

/// A static that holds `Context`: offset and size in the TLS block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContextSymbol {
    offset: u64,
    size: u64,
}

/// Finds the reader for an executable; `info` is the file with its symbols and debug information.
pub(super) fn context_facts(
    (elf, info): (&Elf<'_>, &Elf<'_>),
    code: &CodeRanges,
    pointers: &CodePointers,
    vtables: &[Vtable],
    version: Option<TokioVersion>,
) -> ContextFacts {
    let mut evidence = Vec::new();
    if version.is_some_and(|v| v.minor < 22) {
        let reason =
            Reason::new("tokio before 1.22 does not keep the current task's id in the thread");
        return ContextFacts::unknown(reason, evidence);
    }
    let pairs = is_shared_object(elf).then(|| TlsPairs::read(elf));
    let base = if pairs.is_some() { "block" } else { "fs" };
    let Some(block) = TlsBlock::read(elf) else {
        let reason = Reason::new("the file has no thread-local storage of its own");
        return ContextFacts::unknown(reason, evidence);
    };
    let symbols = context_symbols(info);
    for symbol in &symbols {
        evidence.push(format!(
            "symbol tokio::runtime::context::CONTEXT at TLS offset {:#x}, {} bytes",
            symbol.offset, symbol.size
        ));
    }
    let layout = context_layout(info);
    let from_dwarf = layout.as_ref().map(|l| from_layout(block, l));
    if let (Some(layout), Some(reader)) = (&layout, &from_dwarf) {
        evidence.push(format!(
            "debug information: Context::current_task_id at {} of {} bytes, {base}{:+}",
            layout.id,
            layout.id_size.unwrap_or(0),
            reader.id_offset
        ));
    }
    let vote = vote_for_id(elf, pointers, pairs.as_ref(), vtables);
    evidence.push(describe_vote(&vote, base));
    let locals = ThreadLocals::Static;
    let from_code = vote.as_ref().ok().map(|v| TokioReader {
        locals,
        id_offset: v.offset,
        id_form: v.form,
        entered_offset: None,
        budget_offset: None,
    });
    let from_table = match (symbols.as_slice(), version) {
        (&[symbol], Some(version)) => table(elf, block, symbol, version),
        _ => None,
    };
    let sources = [from_dwarf, from_code, from_table];
    let mut known = sources.iter().flatten();
    let Some(first) = known.next() else {
        return ContextFacts::unknown(no_source_reason(&vote), evidence);
    };
    // The table comes last: it was measured with one compiler, so alone it must be confirmed live,
    // and where code or debug information speaks it has no say.
    let unconfirmed = sources[..2].iter().flatten().next().is_none();
    if let (Some(a), Some(b)) = (&sources[0], &sources[1])
        && (a.id_offset, a.id_form) != (b.id_offset, b.id_form)
    {
        let reason = Reason::with(format!(
            "debug information and code disagree on tokio's task id ({base}{:+} and {base}{:+})",
            a.id_offset, b.id_offset
        ));
        return ContextFacts::unknown(reason, evidence);
    }
    if let (Some(t), false) = (&sources[2], unconfirmed) {
        let same = (t.id_offset, t.id_form) == (first.id_offset, first.id_form);
        let says = if same {
            "agrees"
        } else {
            "differs (another compiler's layout)"
        };
        evidence.push(format!("layout table of the version {says}"));
    }
    let inside = symbols.is_empty()
        || symbols.iter().any(|s| {
            let start = block.start + s.offset as i64;
            (start..start + s.size as i64).contains(&first.id_offset)
        });
    let length = if first.id_form == TokioIdForm::Tagged {
        16
    } else {
        8
    };
    if !inside || !block.contains(first.id_offset, length) || first.id_offset % 8 != 0 {
        let reason = Reason::with(format!(
            "the word that task polls replace ({base}{:+}) is not in tokio's CONTEXT",
            first.id_offset
        ));
        return ContextFacts::unknown(reason, evidence);
    }
    let mut reader = *first;
    let fields = find_small_fields(elf, pairs.as_ref(), code);
    let inside = |field: Option<(i64, usize)>, size| field.filter(|f| block.contains(f.0, size));
    reader.entered_offset = agree(
        ("EnterRuntime byte", base),
        "legal blocking is not told apart",
        sources[0].and_then(|s| s.entered_offset),
        inside(fields.entered, 1),
        sources[2].and_then(|s| s.entered_offset),
        &mut evidence,
    );
    reader.budget_offset = agree(
        ("cooperative budget", base),
        "a parked worker is not told from a task that blocks in futex or epoll",
        sources[0].and_then(|s| s.budget_offset),
        inside(fields.budget, 2),
        sources[2].and_then(|s| s.budget_offset),
        &mut evidence,
    );
    ContextFacts {
        reader: Known::Known(reader),
        pairs,
        unconfirmed,
        evidence,
    }
}

/// A field that debug information and code may know: they must agree. Where neither does, the table
/// of the version answers, if the initial values of the thread-locals confirm it.
fn agree(
    (field, base): (&str, &str),
    loss: &str,
    from_dwarf: Option<i64>,
    from_code: Option<(i64, usize)>,
    from_table: Option<i64>,
    evidence: &mut Vec<String>,
) -> Option<i64> {
    if let Some((at, hits)) = from_code {
        evidence.push(format!(
            "code: {field} at {base}{at:+} (places that agree: {hits})"
        ));
    }
    match (from_dwarf, from_code) {
        (Some(a), Some((b, _))) if a != b => {
            evidence.push(format!(
                "{field} unused: debug information says {base}{a:+}, code says {base}{b:+}; {loss}"
            ));
            None
        }
        (Some(at), _) | (None, Some((at, _))) => Some(at),
        (None, None) if from_table.is_some() => {
            evidence.extend(from_table.map(|at| {
                format!(
                    "layout table and initial values of the thread-locals: {field} at {base}{at:+}"
                )
            }));
            from_table
        }
        (None, None) => {
            evidence.push(format!("{field} not found: {loss}"));
            None
        }
    }
}

fn from_layout(block: TlsBlock, layout: &ContextLayout) -> TokioReader {
    let at = |field: u64| block.start + layout.context.saturating_add(field) as i64;
    let tagged = layout.id_size == Some(16);
    TokioReader {
        locals: ThreadLocals::Static,
        id_offset: at(layout.id),
        id_form: if tagged {
            TokioIdForm::Tagged
        } else {
            TokioIdForm::NonZero
        },
        entered_offset: layout.entered.map(at),
        budget_offset: layout.budget.map(at),
    }
}

/// A layout of `Context`. Offsets in bytes.
#[derive(Debug, Clone, Copy)]
struct Layout {
    id: u64,
    id_form: TokioIdForm,
    /// Where EnterRuntime and the budget may be.
    small: &'static [(u64, u64)],
}

/// Layouts measured with rustc 1.95 (see docs/tokio.md).
fn layout_of(minor: u16) -> Option<Layout> {
    let (id, id_form, small): (_, _, &[_]) = match minor {
        22 => (0, TokioIdForm::Tagged, &[]),
        23..=39 => (32, TokioIdForm::Tagged, &[(82, 80), (78, 76)]),
        40..=54 => (48, TokioIdForm::NonZero, &[(70, 68)]),
        _ => return None,
    };
    Some(Layout { id, id_form, small })
}

/// What the table of layouts says of a program with this symbol. The small fields are only taken
/// where the static's initial value has what tokio starts with: `NotEntered` (2) and no budget.
fn table(
    elf: &Elf<'_>,
    block: TlsBlock,
    symbol: ContextSymbol,
    version: TokioVersion,
) -> Option<TokioReader> {
    let Layout { id, id_form, small } = layout_of(version.minor)?;
    let initial = initial_value(elf, symbol).unwrap_or_default();
    let starts_as = |at: u64, value: u8| {
        usize::try_from(at).ok().and_then(|at| initial.get(at)) == Some(&value)
    };
    let mut confirmed = small
        .iter()
        .filter(|(entered, budget)| starts_as(*entered, 2) && starts_as(*budget, 0));
    let only = confirmed.next().filter(|_| confirmed.next().is_none());
    let at = |field: u64| block.start + (symbol.offset + field) as i64;
    (id + 8 <= symbol.size).then(|| TokioReader {
        locals: ThreadLocals::Static,
        id_offset: at(id),
        id_form,
        entered_offset: only.map(|fields| at(fields.0)),
        budget_offset: only.map(|fields| at(fields.1)),
    })
}

/// What the file gives a thread-local as its first value.
fn initial_value<'a>(elf: &Elf<'a>, symbol: ContextSymbol) -> Option<&'a [u8]> {
    let header = elf
        .elf_program_headers()
        .iter()
        .find(|p| p.p_type(Endianness::Little) == PT_TLS)?;
    let image = header.data(Endianness::Little, elf.data()).ok()?;
    let start = usize::try_from(symbol.offset).ok()?;
    let end = start.checked_add(usize::try_from(symbol.size).ok()?)?;
    image.get(start..end)
}

/// Symbols of the thread-local, in either mangling: `..7runtime7context7CONTEXT..`.
fn context_symbols(elf: &Elf<'_>) -> Vec<ContextSymbol> {
    let Some(table) = elf.symbol_table() else {
        return Vec::new();
    };
    let mut found: Vec<ContextSymbol> = table
        .symbols()
        .filter(|s| s.kind() == object::SymbolKind::Tls)
        .filter(|s| s.name_bytes().is_ok_and(is_context_name))
        .map(|s| ContextSymbol {
            offset: s.address(),
            size: s.size(),
        })
        .take(MAX_COPIES)
        .collect();
    found.dedup();
    found
}

/// The static itself, not its `STATE` byte (older std) nor another crate's.
fn is_context_name(name: &[u8]) -> bool {
    let has = |needle: &[u8]| memchr::memmem::find(name, needle).is_some();
    has(b"5tokio") && has(b"7runtime") && has(b"7context") && has(b"7CONTEXT") && !has(b"5STATE")
}

fn describe_vote(vote: &Result<IdVote, NoVote>, base: &str) -> String {
    match vote {
        Ok(v) => format!(
            "code: {} of {} task polls replace the word at {base}{:+} ({})",
            v.votes,
            v.polls,
            v.offset,
            match v.form {
                TokioIdForm::NonZero => "one word, 0 is none",
                TokioIdForm::Tagged => "tag and value",
            }
        ),
        Err(NoVote::NoFunctions) => "code: no .eh_frame_hdr, function boundaries unknown".into(),
        Err(NoVote::NoPolls) => "code: no task vtable found".into(),
        Err(NoVote::NoSwap) => "code: no task poll replaces a thread-local word".into(),
        Err(NoVote::Ambiguous(words)) => {
            let words: Vec<_> = words.iter().map(|w| format!("{base}{w:+}")).collect();
            format!(
                "code: task polls replace several words: {}",
                words.join(", ")
            )
        }
    }
}

fn no_source_reason(vote: &Result<IdVote, NoVote>) -> Reason {
    match vote {
        Err(NoVote::Ambiguous(_)) => Reason::new(
            "the code names several candidates for tokio's task id (several tokio copies?)",
        ),
        Err(NoVote::NoPolls) => Reason::new("no tokio task type found in the executable"),
        _ => Reason::new("tokio's thread-local CONTEXT was not found in the executable"),
    }
}
