//! What a task type is called. The name is the future's type, from (in this order) the poll's own
//! symbol in v0 mangling, the `drop_in_place` that dealloc or shutdown calls (legacy mangling names
//! generic arguments only there), the future's own code that the poll calls, debug information. What cannot be named
//! keeps a stable label and says why.

use std::collections::{BTreeSet, HashMap};

use object::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, SymbolKind};

use crate::model::Known;
use crate::sys::elf::Elf;

use super::dwarf::poll_arguments;
use super::flow::{Callee, summarize};
use super::functions::Functions;
use super::pointers::CodePointers;
use super::vtables::Vtable;

/// How far below a vtable's function a `drop_in_place` is looked for.
const MAX_DEPTH: usize = 3;
/// Functions looked at for one task type.
const MAX_FUNCTIONS: usize = 60;
/// Instructions decoded for all names.
const BUDGET: usize = 3_000_000;
/// A longer name is cut (bytes): types nest without end.
const MAX_NAME: usize = 512;

/// Who runs the tasks of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// The multi-threaded scheduler.
    MultiThread,
    /// The current-thread scheduler.
    CurrentThread,
    /// A `LocalSet`.
    LocalSet,
    /// The blocking pool: `spawn_blocking`, and the workers themselves.
    BlockingPool,
}

impl SchedulerKind {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MultiThread => "multi_thread",
            Self::CurrentThread => "current_thread",
            Self::LocalSet => "local_set",
            Self::BlockingPool => "blocking_pool",
        }
    }

    /// From the scheduler's type name (tokio `runtime/scheduler`, `task/local.rs`, `runtime/blocking`).
    fn from_type(text: &str) -> Option<Self> {
        if text.contains("BlockingSchedule") || text.contains("NoopSchedule") {
            Some(Self::BlockingPool)
        } else if text.contains("task::local::Shared") {
            Some(Self::LocalSet)
        } else if text.contains("current_thread") || text.contains("basic_scheduler") {
            Some(Self::CurrentThread)
        } else if text.contains("multi_thread") || text.contains("thread_pool") {
            Some(Self::MultiThread)
        } else {
            None
        }
    }
}

/// A task type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskType {
    /// The vtable's address, as in the file.
    pub vtable: u64,
    /// The future's type (or the closure's, for the blocking pool).
    pub name: Known<String>,
    /// Who runs it, if known.
    pub scheduler: Option<SchedulerKind>,
    /// A worker's own task: what the pool runs to be a worker (`worker::Launch`).
    pub is_worker: bool,
    /// How the name was found.
    pub source: &'static str,
}

impl TaskType {
    /// The name, or a label that stays the same for the same file.
    pub fn label(&self) -> String {
        match &self.name {
            Known::Known(name) => name.clone(),
            Known::Unknown(_) => format!("tokio task type {:#x}", self.vtable),
        }
    }
}

/// Names the task types; `info` is the file with the symbols and debug information of `elf`.
pub(super) fn task_types(
    (elf, info): (&Elf<'_>, &Elf<'_>),
    pointers: &CodePointers,
    vtables: &[Vtable],
    minor: Option<u16>,
) -> Vec<TaskType> {
    let mut namer = Namer {
        elf,
        pointers,
        symbols: Symbols::read(info),
        functions: Functions::read(elf),
        callees: HashMap::new(),
        budget: BUDGET,
    };
    let claims: Vec<Claims> = vtables.iter().map(|v| namer.claims(v)).collect();
    // The compiler merges functions with identical code: one symbol then stands for several types.
    // A type is a (future, scheduler) pair, so two polls with one scheduler never have one name.
    let mut owners: HashMap<(&str, Option<u64>), BTreeSet<u64>> = HashMap::new();
    let mut polls: HashMap<u64, usize> = HashMap::new();
    for (vtable, claims) in vtables.iter().zip(&claims) {
        *polls.entry(vtable.poll).or_default() += 1;
        if let Some(name) = &claims.dropped {
            owners
                .entry((name, vtable.schedule))
                .or_default()
                .insert(vtable.poll);
        }
    }
    let mut types: Vec<TaskType> = vtables
        .iter()
        .zip(&claims)
        .map(|(vtable, claims)| {
            let alone = polls.get(&vtable.poll) == Some(&1);
            let dropped = claims.dropped.as_deref().filter(|name| {
                alone
                    && owners
                        .get(&(*name, vtable.schedule))
                        .is_some_and(|polls| polls.len() == 1)
            });
            let polled = claims.polled.as_deref().filter(|_| alone);
            let mut found = if let Some(arguments) = &claims.own {
                named(vtable, arguments, "symbol")
            } else if let Some(arguments) = dropped {
                named(vtable, arguments, "drop_in_place")
            } else if let Some(future) = polled {
                named(vtable, future, "call in poll")
            } else {
                unnamed(vtable, namer.why_not(claims))
            };
            found.scheduler = found.scheduler.or(claims.scheduler);
            if minor.and_then(|m| vtable.is_blocking(m)) == Some(true) {
                found.scheduler = Some(SchedulerKind::BlockingPool);
            }
            found
        })
        .collect();
    name_by_debug_information(info, vtables, &polls, &mut types);
    types
}

/// Names what is still unnamed: debug information tells merged functions no better than symbols do,
/// so only polls of one type are looked up.
fn name_by_debug_information(
    elf: &Elf<'_>,
    vtables: &[Vtable],
    polls: &HashMap<u64, usize>,
    types: &mut [TaskType],
) {
    let wanted: BTreeSet<u64> = vtables
        .iter()
        .zip(types.iter())
        .filter(|(v, t)| t.name.known().is_none() && polls.get(&v.poll) == Some(&1))
        .map(|(v, _)| v.poll)
        .collect();
    if wanted.is_empty() {
        return;
    }
    let arguments = poll_arguments(elf, &wanted);
    for (vtable, found) in vtables.iter().zip(types) {
        if let (Some(arguments), None) = (arguments.get(&vtable.poll), found.name.known()) {
            let scheduler = found.scheduler;
            *found = named(vtable, arguments, "debug information");
            found.scheduler = found.scheduler.or(scheduler);
        }
    }
}

/// What the functions of one vtable say. Each may stand for several types.
#[derive(Debug, Default)]
struct Claims {
    /// `F, S` from a v0 symbol of the vtable's own functions.
    own: Option<String>,
    /// `F, S` or `F` from what dealloc or shutdown drops.
    dropped: Option<String>,
    /// `F` from the future's code that the poll calls.
    polled: Option<String>,
    /// From the schedule function.
    scheduler: Option<SchedulerKind>,
}

fn unnamed(vtable: &Vtable, reason: &'static str) -> TaskType {
    TaskType {
        vtable: vtable.address,
        name: Known::unknown(reason),
        scheduler: None,
        is_worker: false,
        source: "none",
    }
}

/// Function symbols by address (several may share one).
#[derive(Debug, Default)]
struct Symbols<'a> {
    sorted: Vec<(u64, &'a str)>,
}

impl<'a> Symbols<'a> {
    fn read(elf: &Elf<'a>) -> Self {
        let Some(table) = elf.symbol_table() else {
            return Self::default();
        };
        let mut sorted: Vec<_> = table
            .symbols()
            .filter(|s| s.kind() == SymbolKind::Text && s.is_definition())
            .filter_map(|s| Some((s.address(), s.name().ok()?)))
            .collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    fn at(&self, address: u64) -> impl Iterator<Item = &'a str> + '_ {
        let start = self.sorted.partition_point(|s| s.0 < address);
        self.sorted[start..]
            .iter()
            .take_while(move |s| s.0 == address)
            .map(|s| s.1)
    }
}

struct Namer<'a, 'e> {
    elf: &'a Elf<'e>,
    pointers: &'a CodePointers,
    symbols: Symbols<'e>,
    functions: Option<Functions<'e>>,
    callees: HashMap<u64, Vec<u64>>,
    budget: usize,
}

impl Namer<'_, '_> {
    fn claims(&mut self, vtable: &Vtable) -> Claims {
        if self.symbols.sorted.is_empty() {
            return Claims::default();
        }
        // v0: any function of the vtable names both type arguments, unless types share its code.
        let own = [vtable.poll, vtable.dealloc, vtable.shutdown]
            .into_iter()
            .find_map(|function| {
                let names: BTreeSet<String> = self
                    .symbols
                    .at(function)
                    .filter_map(raw_arguments)
                    .collect();
                names
                    .into_iter()
                    .next()
                    .filter(|_| self.symbols.at(function).count() == 1)
            });
        let dropped = [vtable.dealloc, vtable.shutdown, vtable.poll]
            .into_iter()
            .find_map(|root| self.find_below(root, dropped_cell));
        let scheduler = vtable
            .schedule
            .and_then(|function| self.scheduler(function));
        Claims {
            own,
            dropped,
            polled: self.find_below(vtable.poll, future_code),
            scheduler,
        }
    }

    /// The scheduler of `raw::schedule::<S>`: its own name, or that of what it calls.
    fn scheduler(&mut self, function: u64) -> Option<SchedulerKind> {
        let callees = self.callees_of(function);
        std::iter::once(function)
            .chain(callees)
            .find_map(|f| self.symbols.at(f).find_map(scheduler_of))
    }

    fn why_not(&self, claims: &Claims) -> &'static str {
        if self.symbols.sorted.is_empty() {
            "the file is stripped"
        } else if claims.dropped.is_some() || claims.polled.is_some() {
            "the compiler merged its code with that of other task types"
        } else {
            "no symbol near the task's functions names its type"
        }
    }

    /// The first name that `pick` accepts among the functions below `root`, nearest first.
    fn find_below(&mut self, root: u64, pick: fn(&str) -> Option<String>) -> Option<String> {
        let mut seen = BTreeSet::from([root]);
        let mut level = vec![root];
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for function in level {
                for callee in self.callees_of(function) {
                    if seen.len() >= MAX_FUNCTIONS || !seen.insert(callee) {
                        continue;
                    }
                    if let Some(name) = self.symbols.at(callee).find_map(pick) {
                        return Some(name);
                    }
                    // What another crate's drop does inside is another type's business.
                    if self
                        .symbols
                        .at(callee)
                        .any(|s| is_tokio_task_code(&demangle(s)))
                    {
                        next.push(callee);
                    }
                }
            }
            level = next;
        }
        None
    }

    fn callees_of(&mut self, function: u64) -> Vec<u64> {
        if let Some(known) = self.callees.get(&function) {
            return known.clone();
        }
        let found = self.functions.and_then(|table| {
            let range = table.containing(self.elf, function)?;
            let summary = summarize(self.elf, &range, self.budget);
            self.budget -= summary.instructions.min(self.budget);
            Some(summary.callees)
        });
        let targets: Vec<u64> = found
            .unwrap_or_default()
            .into_iter()
            .filter_map(|callee| match callee {
                Callee::Direct(target) | Callee::Tail(target) => Some(target),
                Callee::Through(at) | Callee::TailThrough(at) => self.pointers.at(at),
            })
            .collect();
        self.callees.insert(function, targets.clone());
        targets
    }
}

fn demangle(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// `core::mem::drop` is a function of its own in unoptimized programs only.
fn is_tokio_task_code(name: &str) -> bool {
    name.contains("tokio::runtime::task::") || name == "core::mem::drop"
}

/// `tokio::runtime::task::raw::poll::<F, S>` -> `F, S`.
fn raw_arguments(symbol: &str) -> Option<String> {
    let name = demangle(symbol);
    let rest = name.split_once("tokio::runtime::task::raw::")?.1;
    let (function, arguments) = rest.split_once("::<")?;
    matches!(function, "poll" | "dealloc" | "shutdown")
        .then(|| arguments.strip_suffix('>').map(ToOwned::to_owned))?
}

/// `drop_in_place<..Cell<F,S>..>` or `drop_in_place<..Stage<F>>` -> the arguments.
fn dropped_cell(symbol: &str) -> Option<String> {
    let name = demangle(symbol);
    let rest = &name[name.find("drop_in_place")?..];
    [
        "task::core::Cell<",
        "task::core::Core<",
        "task::core::CoreStage<",
        "task::core::Stage<",
    ]
    .iter()
    .find_map(|outer| {
        let arguments = &rest[rest.find(outer)? + outer.len()..];
        Some(balanced(arguments)?.to_owned())
    })
}

/// The code of an async block or function that a poll calls: `app::handler::{{closure}}`.
fn future_code(symbol: &str) -> Option<String> {
    let name = demangle(symbol);
    let own = !["tokio::", "core::", "std::", "alloc::", "<"]
        .iter()
        .any(|p| name.starts_with(p));
    (own && (name.ends_with("{{closure}}") || name.contains("{closure#"))).then_some(name)
}

/// The scheduler whose code a symbol is.
fn scheduler_of(symbol: &str) -> Option<SchedulerKind> {
    let name = demangle(symbol);
    name.contains("tokio")
        .then(|| SchedulerKind::from_type(&name))?
}

/// The text up to the bracket that closes what was opened before it.
fn balanced(text: &str) -> Option<&str> {
    let mut depth = 0_u32;
    for (i, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // `->` in a function type is no bracket.
            '>' if text[..i].ends_with('-') => {}
            '>' | ')' | ']' if depth == 0 => return Some(&text[..i]),
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Splits `F, S` at the top level.
fn split_arguments(text: &str) -> (&str, &str) {
    let mut depth = 0_u32;
    for (i, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if text[..i].ends_with('-') => {}
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return (text[..i].trim(), text[i + 1..].trim()),
            _ => {}
        }
    }
    (text.trim(), "")
}

fn named(vtable: &Vtable, arguments: &str, source: &'static str) -> TaskType {
    let (future, scheduler) = split_arguments(arguments);
    // The pool wraps its closures: `BlockingTask<F>`.
    let blocking = future
        .split_once("blocking::task::BlockingTask<")
        .and_then(|(_, rest)| balanced(rest));
    // What the pool runs to be a worker: `Launch::launch`, and the successor in `block_in_place`.
    let worker = [
        "tokio::runtime::scheduler::multi_thread::worker::",
        "tokio::runtime::thread_pool::worker::",
    ];
    let is_worker =
        blocking.is_some_and(|future| worker.iter().any(|path| future.starts_with(path)));
    let mut name = blocking.unwrap_or(future).to_owned();
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME)
            .rev()
            .find(|&i| name.is_char_boundary(i))
            .unwrap_or(0);
        name.truncate(end);
        name.push('…');
    }
    TaskType {
        vtable: vtable.address,
        name: Known::Known(name),
        scheduler: SchedulerKind::from_type(scheduler)
            .or(blocking.map(|_| SchedulerKind::BlockingPool)),
        is_worker,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manglings_give_the_future_and_the_scheduler() {
        let path = "drop_in_place$LT$tokio..runtime..task..core..Cell$LT$app..main..\
                    $u7b$$u7b$closure$u7d$$u7d$$C$alloc..sync..Arc$LT$tokio..runtime..scheduler..\
                    multi_thread..handle..Handle$GT$$GT$$GT$";
        let text = format!("_ZN4core3ptr{}{path}17h0123456789abcdefE", path.len());
        let arguments = dropped_cell(&text).unwrap();
        assert_eq!(
            split_arguments(&arguments),
            (
                "app::main::{{closure}}",
                "alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>"
            )
        );
        assert_eq!(split_arguments("fn(A, B) -> C, S"), ("fn(A, B) -> C", "S"));
        assert_eq!(balanced("a<b>>rest"), Some("a<b>"));
        assert_eq!(balanced("never closed"), None);
    }
}
