//! Addresses to functions, on a thread of its own.
//!
//! blazesym is neither `Send` nor cheap to start, so one thread owns it together with all caches;
//! everyone else holds a [`SymbolizerHandle`] and sends requests through a bounded channel.
//! Processes are remembered by their mappings and open files from [`SymbolizerHandle::prepare`]
//! on, so that stacks of a process that has exited are still symbolized.

mod cache;
mod demangle;
mod found;
mod go;
mod modules;
mod plugin;
mod space;
#[cfg(test)]
mod tests;
mod texts;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;

use crate::model::{Frame, FrameKind, Pid, Reason};
use crate::sys::modules::ModuleId;

pub use cache::Cache;
pub use go::go_symbols;
pub use plugin::{ModuleSymbols, ModuleSymbolsFactory, ResolvedFrame};

/// Requests that wait for the thread at most; senders of blocking requests wait for room.
const QUEUE: usize = 256;
/// Addresses taken from one request: more than any stack has (`kernel.perf_event_max_stack`).
pub const MAX_ADDRESSES: usize = 1024;

/// What the addresses of a stack mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Each is an instruction.
    Exact,
    /// Each follows a call (or a syscall instruction): the caller is found one byte before it. So
    /// are stacks of threads that blocked in a syscall.
    AfterCall,
    /// The first is an instruction (page fault, preemption, a function pointer), the others
    /// follow calls.
    LeafExact,
}

impl Addresses {
    /// The address to look up for the `index`th address of a stack.
    pub fn lookup(self, index: usize, address: u64) -> u64 {
        match self {
            Self::Exact => address,
            Self::LeafExact if index == 0 => address,
            Self::AfterCall | Self::LeafExact => address.saturating_sub(1),
        }
    }
}

/// How much the symbolizer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Addresses whose functions are remembered (twice that for a moment).
    pub addresses: usize,
    /// Processes remembered.
    pub processes: usize,
    /// Files held open.
    pub modules: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            addresses: 16 << 10,
            processes: 256,
            modules: 400,
        }
    }
}

/// What the symbolizer starts with.
#[derive(Default)]
pub struct SymbolizerConfig {
    /// Bounds.
    pub limits: Limits,
    /// Languages with their own symbol tables, tried in this order for every module met.
    pub plugins: Vec<ModuleSymbolsFactory>,
}

impl fmt::Debug for SymbolizerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SymbolizerConfig")
            .field("limits", &self.limits)
            .field("plugins", &self.plugins.len())
            .finish()
    }
}

/// What the symbolizer holds now and has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SymbolizerStats {
    /// Processes remembered.
    pub processes: usize,
    /// Files held open.
    pub modules: usize,
    /// Addresses remembered.
    pub cached: usize,
    /// Addresses dropped from memory so far.
    pub dropped: u64,
    /// Addresses looked up so far.
    pub lookups: u64,
    /// Of these, answered from memory.
    pub hits: u64,
    /// Damaged files that made the symbol reader fail.
    pub failures: u64,
}

/// The symbolizer takes no more requests now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Its queue is full: count it, or ask again later.
    #[error("the symbolizer's queue is full")]
    Full,
    /// Its thread has ended.
    #[error("the symbolizer has stopped")]
    Stopped,
}

type Reply<T> = Box<dyn FnOnce(T) + Send>;

enum Request {
    Prepare(Pid, Reply<Result<(), Reason>>),
    Process(Pid, Vec<u64>, Addresses, Reply<Vec<Frame>>),
    Kernel(Vec<u64>, Reply<Vec<Frame>>),
    Register(ModuleId, Box<dyn ModuleSymbols>),
    Forget(Pid),
    Evict,
    Learn(Pid, Vec<u64>, Reply<()>),
    Stats(Reply<SymbolizerStats>),
}

/// Asks the symbolizer. Cheap to clone; the thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct SymbolizerHandle {
    requests: SyncSender<Request>,
}

impl fmt::Debug for SymbolizerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymbolizerHandle")
    }
}

/// Starts symbolizers.
#[derive(Debug)]
pub struct Symbolizer;

impl Symbolizer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(config: SymbolizerConfig) -> std::io::Result<SymbolizerHandle> {
        let (sender, receiver): (_, Receiver<Request>) = mpsc::sync_channel(QUEUE);
        thread::Builder::new()
            .name("symbolizer".to_owned())
            .spawn(move || worker::run(&receiver, config))?;
        Ok(SymbolizerHandle { requests: sender })
    }
}

impl SymbolizerHandle {
    /// Reads a process's mappings and opens the files behind its code, so that its stacks can be
    /// symbolized after it has exited. To be called at attach and after exec (then symbolize the
    /// stacks of the earlier program first). Blocks for about a millisecond.
    ///
    /// # Errors
    /// The reason, when the process is gone or may not be read.
    pub fn prepare(&self, pid: Pid) -> Result<(), Reason> {
        self.ask(|reply| Request::Prepare(pid, reply))
            .unwrap_or(Err(STOPPED))
    }

    /// Symbolizes one stack of a process. Inlined functions are expanded, innermost first, so
    /// that there can be more frames than addresses; all frames of one address carry it unchanged.
    /// Blocks: the first address in a file with debug information can take a second.
    pub fn process(&self, pid: Pid, addresses: &[u64], meaning: Addresses) -> Vec<Frame> {
        let taken = limit(addresses);
        self.ask(|reply| Request::Process(pid, taken.clone(), meaning, reply))
            .unwrap_or_else(|| nameless(&taken, FrameKind::User))
    }

    /// Symbolizes kernel addresses of a stack (its frames follow calls). Blocks; the first call
    /// reads the kernel's symbol list (about 100 ms).
    pub fn kernel(&self, addresses: &[u64]) -> Vec<Frame> {
        let taken = limit(addresses);
        self.ask(|reply| Request::Kernel(taken.clone(), reply))
            .unwrap_or_else(|| nameless(&taken, FrameKind::Kernel))
    }

    /// As [`Self::process`], without blocking: `reply` is called on the symbolizer's thread and
    /// must only pass the answer on.
    ///
    /// # Errors
    /// When the queue is full or the thread has ended; `reply` is then dropped.
    pub fn submit(
        &self,
        pid: Pid,
        addresses: &[u64],
        meaning: Addresses,
        reply: impl FnOnce(Vec<Frame>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        let request = Request::Process(pid, limit(addresses), meaning, Box::new(reply));
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::Full,
                TrySendError::Disconnected(_) => SubmitError::Stopped,
            })
    }

    /// Gives a module its own symbols, used from now on before all others. For modules met later,
    /// [`SymbolizerConfig::plugins`] is simpler.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn register(
        &self,
        module: ModuleId,
        symbols: Box<dyn ModuleSymbols>,
    ) -> Result<(), SubmitError> {
        self.send(Request::Register(module, symbols))
    }

    /// Forgets a process and closes the files that no other one uses.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn forget(&self, pid: Pid) -> Result<(), SubmitError> {
        self.send(Request::Forget(pid))
    }

    /// Frees all cached symbols and debug information; processes stay prepared. For long runs:
    /// blazesym only ever adds to its caches.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn evict(&self) -> Result<(), SubmitError> {
        self.send(Request::Evict)
    }

    /// Looks up addresses that follow calls, each once and by rising address, for [`Self::process`] to
    /// answer from memory afterwards (see [`Limits::addresses`]). So each part of a file's debug
    /// information is read once, and what was read of one file is freed before the next. Blocks.
    pub fn learn(&self, pid: Pid, addresses: Vec<u64>) {
        // A thread that has ended says so in every stack.
        let _ended = self
            .ask(|reply| Request::Learn(pid, addresses, reply))
            .is_none();
    }

    /// What the symbolizer holds and has done. `None` when its thread has ended.
    pub fn stats(&self) -> Option<SymbolizerStats> {
        self.ask(Request::Stats)
    }

    fn send(&self, request: Request) -> Result<(), SubmitError> {
        self.requests
            .send(request)
            .map_err(|_| SubmitError::Stopped)
    }

    fn ask<T: Send + 'static>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let reply = Box::new(move |answer| {
            // The asker waits below until this is called or dropped: it can not be gone.
            drop(sender.send(answer));
        });
        self.requests.send(request(reply)).ok()?;
        receiver.recv().ok()
    }
}

const STOPPED: Reason = Reason::new("the symbolizer has stopped");

fn limit(addresses: &[u64]) -> Vec<u64> {
    addresses.iter().copied().take(MAX_ADDRESSES).collect()
}

fn nameless(addresses: &[u64], kind: FrameKind) -> Vec<Frame> {
    addresses
        .iter()
        .map(|&address| unknown_frame(address, kind, None, STOPPED))
        .collect()
}

fn unknown_frame(address: u64, kind: FrameKind, module: Option<Arc<str>>, why: Reason) -> Frame {
    Frame {
        address,
        function: None,
        file: None,
        line: None,
        module,
        module_offset: None,
        kind,
        unknown_reason: Some(why),
    }
}
