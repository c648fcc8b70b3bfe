//! The symbolizer's thread: it owns blazesym, the processes' mappings and the caches.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use blazesym::MaybeDefault;
use blazesym::symbolize::Input;
use blazesym::symbolize::source::{Elf, Kernel, Source};

use super::cache::Cache;
use super::found::{self, Failure, MAX_INLINED, at, qualify_inlined};
use super::modules::{Module, Modules};
use super::plugin::ResolvedFrame;
use super::space::{Place, Space};
use super::texts::Texts;
use super::{Addresses, Request, SymbolizerConfig, SymbolizerStats, unknown_frame};
use crate::model::{Frame, FrameKind, Pid, Reason};
use crate::resolve::classify;
use crate::sys::usage;

/// The module of kernel frames.
const KERNEL: &str = "kernel";

/// Memory that blazesym may come to use, in bytes: what it has read of debug information it keeps,
/// and single parts can not be given back. Enough for the index of a large file.
const MAX_GROWTH: u64 = 36 << 20;
/// What may be kept of a file that is not needed any more, likewise.
const MODULE_GROWTH: u64 = 4 << 20;
/// Between looks at how much that is: addresses that were not known yet.
const LOOK_EVERY: u32 = 32;

/// The frames of one address in a module, still without an address in a process, or why there are none.
type Answer = Result<Arc<[Frame]>, Reason>;

struct Worker {
    blazesym: blazesym::symbolize::Symbolizer,
    /// Resident memory when blazesym was new, and its lookups since.
    blazesym_new: (u64, u32),
    spaces: HashMap<Pid, Space>,
    modules: Modules,
    /// By module serial (0: the kernel) and address in it.
    answers: Cache<(u64, u64), Answer>,
    texts: Texts,
    max_processes: usize,
    requests: u64,
    stats: SymbolizerStats,
}

/// Serves requests until all handles are gone.
pub fn run(requests: &Receiver<Request>, config: SymbolizerConfig) {
    let mut worker = Worker {
        blazesym: new_blazesym(),
        blazesym_new: (usage::own_rss(), 0),
        spaces: HashMap::new(),
        modules: Modules::new(config.plugins, config.limits.modules),
        answers: Cache::new(config.limits.addresses),
        texts: Texts::default(),
        max_processes: config.limits.processes.max(1),
        requests: 0,
        stats: SymbolizerStats::default(),
    };
    while let Ok(request) = requests.recv() {
        worker.serve(request);
    }
}

fn new_blazesym() -> blazesym::symbolize::Symbolizer {
    blazesym::symbolize::Symbolizer::builder()
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(false)
        .build()
}

impl Worker {
    fn serve(&mut self, request: Request) {
        self.requests += 1;
        match request {
            Request::Prepare(pid, reply) => reply(self.prepare(pid)),
            Request::Process(pid, addresses, meaning, reply) => {
                reply(self.process(pid, &addresses, meaning));
            }
            Request::Kernel(addresses, reply) => reply(self.kernel(&addresses)),
            Request::Register(id, symbols) => self.modules.register(id, symbols),
            Request::Forget(pid) => drop(self.spaces.remove(&pid)),
            Request::Evict => {
                self.renew_blazesym();
                self.answers.clear();
                self.texts.clear();
            }
            Request::Learn(pid, addresses, reply) => {
                self.learn(pid, addresses);
                reply(());
            }
            Request::Stats(reply) => {
                let modules = self.modules.len();
                reply(SymbolizerStats {
                    processes: self.spaces.len(),
                    modules,
                    cached: self.answers.len(),
                    dropped: self.answers.dropped(),
                    ..self.stats
                });
            }
        }
    }

    fn renew_blazesym(&mut self) {
        self.blazesym = new_blazesym();
        usage::release_freed_memory();
        self.blazesym_new = (usage::own_rss(), 0);
    }

    /// Bounds the memory for what files' debug information says.
    fn bound_blazesym(&mut self) {
        let (at_first, lookups) = &mut self.blazesym_new;
        *lookups += 1;
        if *lookups % LOOK_EVERY == 0 && usage::own_rss().saturating_sub(*at_first) > MAX_GROWTH {
            self.renew_blazesym();
        }
    }

    fn prepare(&mut self, pid: Pid) -> Result<(), Reason> {
        // Room first: what has exited, then what was not asked for longest.
        if self.spaces.len() >= self.max_processes && !self.spaces.contains_key(&pid) {
            let victim = self
                .spaces
                .iter()
                .min_by_key(|(_, space)| (space.is_alive(), space.used))
                .map(|(pid, _)| *pid);
            if let Some(victim) = victim {
                self.spaces.remove(&victim);
            }
        }
        let space = Space::read(pid, &mut self.modules)?;
        self.spaces.insert(pid, space);
        Ok(())
    }

    fn process(&mut self, pid: Pid, addresses: &[u64], meaning: Addresses) -> Vec<Frame> {
        if !self.spaces.contains_key(&pid)
            && let Err(reason) = self.prepare(pid)
        {
            let nameless = |&a| unknown_frame(a, FrameKind::User, None, reason.clone());
            return addresses.iter().map(nameless).collect();
        }
        let mut frames = Vec::with_capacity(addresses.len());
        for (index, &address) in addresses.iter().enumerate() {
            self.address(pid, address, meaning.lookup(index, address), &mut frames);
        }
        frames
    }

    /// Remembers what addresses that follow calls mean, file by file.
    fn learn(&mut self, pid: Pid, mut addresses: Vec<u64>) {
        addresses.sort_unstable();
        addresses.dedup();
        if !self.spaces.contains_key(&pid) && self.prepare(pid).is_err() {
            return;
        }
        let mut last = None;
        let mut frames = Vec::new();
        for address in addresses {
            let lookup = Addresses::AfterCall.lookup(0, address);
            let module = match self.spaces.get(&pid).and_then(|space| space.find(lookup)) {
                Some(Place::File(module, _)) => Some(module.serial),
                _ => None,
            };
            if module.is_some() && module != last {
                self.leave_module();
                last = module;
            }
            self.address(pid, address, lookup, &mut frames);
            frames.clear();
        }
        self.leave_module();
    }

    /// Frees what was read of a file whose addresses are all known now, if it is much.
    fn leave_module(&mut self) {
        if usage::own_rss().saturating_sub(self.blazesym_new.0) > MODULE_GROWTH {
            self.renew_blazesym();
        }
    }

    fn address(&mut self, pid: Pid, address: u64, lookup: u64, frames: &mut Vec<Frame>) {
        let unmapped = || {
            unknown_frame(
                address,
                FrameKind::User,
                None,
                Reason::new("no code is mapped there: the stack is broken or the code is gone"),
            )
        };
        let Some(space) = self.spaces.get_mut(&pid) else {
            frames.push(unmapped());
            return;
        };
        space.used = self.requests;
        if space.find(lookup).is_none() {
            space.refresh(&mut self.modules);
        }
        let (module, offset) = match space.find(lookup) {
            None => {
                frames.push(unmapped());
                return;
            }
            Some(Place::Nameless(name, reason)) => {
                let kind = match name {
                    Some(name) => classify::nameless(name),
                    None => FrameKind::User,
                };
                let name = name.map(|name| self.texts.share(name));
                frames.push(unknown_frame(address, kind, name, reason));
                return;
            }
            Some(Place::File(module, offset)) => (Rc::clone(module), offset),
        };
        let name = module.file.name();
        let vaddr = match &module.layout {
            Ok(layout) => layout.vaddr(offset).ok_or_else(|| {
                Reason::with(format!("{name} maps no code at that place of the file"))
            }),
            Err(reason) => Err(reason.clone()),
        };
        let at_file = vaddr.as_ref().ok().copied();
        match vaddr.and_then(|vaddr| self.cached(&module, vaddr)) {
            Ok(found) => frames.extend(at(address, &found)),
            Err(reason) => frames.push(Frame {
                module_offset: at_file.map(|at| at.wrapping_add(address.wrapping_sub(lookup))),
                ..unknown_frame(
                    address,
                    module.nameless(at_file),
                    Some(self.texts.share(name)),
                    reason,
                )
            }),
        }
    }

    fn cached(&mut self, module: &Module, vaddr: u64) -> Answer {
        self.stats.lookups += 1;
        let key = (module.serial, vaddr);
        if let Some(answer) = self.answers.get(&key) {
            self.stats.hits += 1;
            return answer;
        }
        let answer = self.lookup(module, vaddr);
        self.bound_blazesym();
        self.answers.insert(key, answer.clone());
        answer
    }

    fn lookup(&mut self, module: &Module, vaddr: u64) -> Answer {
        if let Some(own) = &module.symbols
            && let Some(found) = own.lookup(vaddr)
            && !found.is_empty()
        {
            return Ok(self.frames(&found, module.file.name(), None));
        }
        let source = Elf::new(module.file.reopen_path());
        let mut found = self.blazesym(&Source::Elf(source.clone()), Input::VirtOffset(vaddr));
        if let Ok(frames) = &mut found
            && let Some(outer) = frames.last_mut()
            && !outer.function.contains("::")
        {
            // Debug information of line tables only names functions without their path; the
            // symbol table has the whole name of the function that was not inlined.
            let plain = Elf {
                debug_syms: false,
                ..source
            };
            if let Ok(named) = self.blazesym(&Source::Elf(plain), Input::VirtOffset(vaddr))
                && let Some(name) = named.into_iter().next_back().map(|f| f.function)
                && name.contains("::")
            {
                outer.function = name;
            }
        }
        let why = |otherwise: &str| match &module.layout {
            // The file's own state says more than "not found".
            Ok(layout) if !module.answered.get() => layout
                .symbols
                .reason()
                .cloned()
                .unwrap_or_else(|| Reason::with(format!("{} {otherwise}", module.file.name()))),
            Ok(_) => Reason::with(format!("{} {otherwise}", module.file.name())),
            Err(reason) => reason.clone(),
        };
        module.answered.set(module.answered.get() || found.is_ok());
        let kind = match found.as_deref() {
            Ok([one]) if one.file.is_none() && !one.function.contains("::") => {
                module.plain_function(vaddr)
            }
            _ => None,
        };
        found
            .map(|found| self.frames(&found, module.file.name(), kind))
            .map_err(|why_not| match why_not {
                Failure::None => why("has no symbol for that address"),
                Failure::Far => why("has no symbol that covers that address"),
                Failure::Error(text) => Reason::with(format!("{}: {text}", module.file.name())),
            })
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Frame> {
        // kallsyms only: a vmlinux with debug information costs seconds and hundreds of megabytes.
        let source = Source::Kernel(Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        });
        let mut frames = Vec::with_capacity(addresses.len());
        for &address in addresses {
            self.stats.lookups += 1;
            let lookup = address.saturating_sub(1);
            let answer = if let Some(answer) = self.answers.get(&(0, lookup)) {
                self.stats.hits += 1;
                answer
            } else {
                let found = self.blazesym(&source, Input::AbsAddr(lookup));
                let answer = found
                    .map(|found| self.frames(&found, KERNEL, Some(FrameKind::Kernel)))
                    .map_err(|why| match why {
                        Failure::Error(text) => {
                            Reason::with(format!("kernel symbols can not be read: {text}"))
                        }
                        Failure::None | Failure::Far => Reason::new(
                            "no kernel symbol there: addresses hidden (needs CAP_SYSLOG and \
                         kernel.kptr_restrict < 2) or the module is gone",
                        ),
                    });
                self.answers.insert((0, lookup), answer.clone());
                answer
            };
            match answer {
                Ok(found) => frames.extend(at(address, &found)),
                Err(reason) => frames.push(unknown_frame(
                    address,
                    FrameKind::Kernel,
                    Some(self.texts.share(KERNEL)),
                    reason,
                )),
            }
        }
        frames
    }

    /// What was found as frames of a module, still without an address. `kind`: of all of them, when that
    /// is known.
    fn frames(
        &mut self,
        found: &[ResolvedFrame],
        module: &str,
        kind: Option<FrameKind>,
    ) -> Arc<[Frame]> {
        let mut frames: Vec<Frame> = found
            .iter()
            .take(MAX_INLINED + 1)
            .map(|one| Frame {
                address: 0,
                function: Some(self.texts.share(&one.function)),
                file: one.file.as_deref().map(|file| self.texts.share(file)),
                line: one.line,
                module: Some(self.texts.share(module)),
                module_offset: None,
                kind: kind
                    .or(one.kind)
                    .unwrap_or_else(|| classify::kind(&one.function, one.file.as_deref(), module)),
                unknown_reason: None,
            })
            .collect();
        qualify_inlined(&mut frames);
        frames.into()
    }

    fn blazesym(
        &mut self,
        source: &Source<'_>,
        input: Input<u64>,
    ) -> Result<Vec<ResolvedFrame>, Failure> {
        let blazesym = &self.blazesym;
        // A damaged file must cost its own symbols only. After a panic the caches inside may be
        // half-made, so that nothing of the old object is used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            found::functions(blazesym, source, input)
        }));
        outcome.unwrap_or_else(|_| {
            self.stats.failures += 1;
            self.renew_blazesym();
            Err(Failure::Error("its symbols are damaged".to_owned()))
        })
    }
}
