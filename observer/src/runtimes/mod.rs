//! Runtimes seen from outside: what they are, and where the running task's identity lies.
//!
//! `Runtime` (one per language) -> `RuntimeImage` (per executable) -> `RuntimeInstance` (per process).

use std::fmt::Debug;
use std::sync::Arc;

use crate::model::census::Census;
use crate::model::event::LeftStack;
use crate::model::memory::Memory;
use crate::model::task::{TaskFacts, TaskRef};
use crate::model::{Frame, Known, Mono, Reason};
use crate::probes::spec::CodeProbe;
use crate::sys::elf::ElfImage;
use crate::sys::process::Process;

pub mod go;
pub mod reading;
pub mod tokio;

/// The runtimes that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// Go.
    Go,
    /// Rust with tokio.
    Tokio,
    /// Anything else: threads only.
    Native,
}

impl RuntimeKind {
    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Tokio => "tokio",
            Self::Native => "native",
        }
    }
}

/// How the kernel side reads the goroutine that a thread runs: offsets in bytes.
/// `fsbase + tls_offset -> g -> g.m -> m.curg -> goid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoReader {
    /// From the thread's TLS base to the word that holds `g` (negative on x86-64).
    pub tls_offset: i64,
    /// `g.m`.
    pub g_m: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.atomicstatus`.
    pub g_status: u32,
    /// `g.waitreason`.
    pub g_waitreason: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `m.procid`.
    pub m_procid: u32,
    /// What stacks of C calls need, when the program calls C.
    pub cgo: Option<CgoReader>,
}

/// Where a goroutine that called C left its own stack. Offsets in bytes; addresses in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgoReader {
    /// `g.stack.lo`; `hi` follows.
    pub g_stack: u32,
    /// `g.syscallsp`; `syscallpc` follows.
    pub g_syscallsp: u32,
    /// First address of the program's Go code.
    pub text: u64,
    /// One past its last address.
    pub text_end: u64,
}

/// The own stack of a task whose thread runs on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStack {
    /// Return addresses, nearest first.
    pub addresses: Vec<u64>,
    /// Why it is not whole, when it is not.
    pub cut: Option<Reason>,
}

/// Walks the own stacks of tasks whose threads run on others: goroutines that called C.
pub trait TaskStacks: Debug + Send {
    /// Whether the code at an address is the runtime's language's: its frames have frame pointers.
    fn is_runtime_code(&self, address: u64) -> bool;

    /// Whether a return address is in the function that leaves a task's own stack.
    fn leaves_stack(&self, address: u64) -> bool;

    /// Walks a stack that was copied.
    fn walk(&mut self, left: LeftStack<'_>) -> TaskStack;

    /// Reads and walks the stack of the task at an address of the process. `None` when it has not left
    /// its stack, or can not be read.
    fn read(&mut self, memory: &dyn Memory, task_at: u64) -> Option<TaskStack>;
}

/// How tokio keeps the current task's id in its thread-local `CONTEXT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokioIdForm {
    /// `Option<NonZeroU64>`: 8 bytes, 0 is none (tokio 1.40 and later).
    NonZero,
    /// `Option<u64>`: a tag word, then the value (tokio 1.22 to 1.39).
    Tagged,
}

/// Where a module's thread-locals lie in a thread (ELF TLS ABI, x86-64, variant II).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadLocals {
    /// At a fixed distance from the TLS base: the executable's, and those of a library that was
    /// linked or placed so. Offsets count from the TLS base (negative).
    Static,
    /// In a block of their own, by way of the thread's vector of blocks (glibc: `dtv_t`, 16 bytes
    /// each; the vector is the second word at the TLS base). Offsets count from the block's start.
    Dynamic {
        /// The module's number in that vector.
        module: u64,
    },
}

/// How the kernel side reads the tokio task that a thread polls: offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokioReader {
    /// What the offsets count from.
    pub locals: ThreadLocals,
    /// To the task id field.
    pub id_offset: i64,
    /// The id's form.
    pub id_form: TokioIdForm,
    /// To the EnterRuntime byte
    /// (2 = not entered, 1 = entered multi_thread, 0 = entered current_thread), if known.
    pub entered_offset: Option<i64>,
    /// To the cooperative budget (`Option<u8>`: tag byte, then value),
    /// if known. It is `Some` exactly while a worker or `block_on` polls a task, so it tells a
    /// parked worker from a task that blocks.
    pub budget_offset: Option<i64>,
}

/// Copies of tokio in one process whose tasks are read at most (each linked one has ids, runtimes
/// and thread-locals of its own). The kernel side has room for as many.
pub const MAX_TOKIO_COPIES: usize = 4;

/// The readers of all copies of tokio in one process; a copy keeps its place, read or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokioReaders(pub [Option<TokioReader>; MAX_TOKIO_COPIES]);

impl TokioReaders {
    /// The copies that are read, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &TokioReader)> {
        (0_u8..)
            .zip(&self.0)
            .filter_map(|(copy, reader)| Some((copy, reader.as_ref()?)))
    }
}

/// What the kernel side needs to identify the running task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskReader {
    /// A goroutine.
    Go(GoReader),
    /// A tokio task.
    Tokio(TokioReaders),
}

/// What the kernel side needs to know in order to follow goroutines from `runtime.casgstatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoTransitions {
    /// `g.m`.
    pub g_m: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.waitreason`.
    pub g_waitreason: u32,
    /// `g.gopc`.
    pub g_gopc: u32,
    /// `g.sched.pc`.
    pub g_sched_pc: u32,
    /// `g.sched.bp`.
    pub g_sched_bp: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// Whether entering and leaving a system call goes through `casgstatus` (before Go 1.26).
    pub syscalls: bool,
    /// The minor version: numbers of wait reasons depend on it.
    pub minor: u32,
    /// `g.atomicstatus`.
    pub g_status: u32,
    /// Address of `runtime.allgs` in the process.
    pub allgs: u64,
}

/// A task type that probes on polls meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokioPollType {
    /// Address of its vtable in the process.
    pub vtable: u64,
    /// Where its tasks keep their id, in bytes from their header.
    pub id_offset: u64,
}

/// Names task types by the address of their vtable in the process.
pub trait TaskTypes: Debug {
    /// What tasks of a type are. Slow at first.
    fn describe(&self, vtable: u64) -> TaskFacts;
}

/// How the kernel side reads what probes in a runtime's code see.
#[derive(Debug, Clone)]
pub enum CodeReader {
    /// Goroutines.
    Go(GoTransitions),
    /// Tasks of tokio.
    Tokio {
        /// Their types.
        types: Vec<TokioPollType>,
        /// What these are.
        names: Arc<dyn TaskTypes>,
    },
}

/// Probes in a runtime's own code, for one process.
#[derive(Debug, Clone)]
pub struct CodeProbes {
    /// The probes, those without a place too.
    pub probes: Vec<CodeProbe>,
    /// What their programs need to know.
    pub reader: CodeReader,
}

/// A runtime that can be recognised in an executable.
pub trait Runtime: Debug + Sync {
    /// Which one.
    fn kind(&self) -> RuntimeKind;

    /// Recognises the runtime in a process's executable (or in its libraries, where that is
    /// possible); `None` when it is not there.
    /// Never panics and never allocates without bound, whatever the files hold.
    fn detect(&self, elf: &Arc<ElfImage>, process: &Process) -> Option<Box<dyn RuntimeImage>>;
}

/// A runtime in one executable: what can be known without the process.
pub trait RuntimeImage: Debug + Send + Sync {
    /// Version, such as `1.26.8`.
    fn version(&self) -> Known<String>;

    /// How it was recognised and where each offset comes from, one clause each.
    fn evidence(&self) -> Vec<String>;

    /// The task reader for one live process, after its self-check on that process's memory.
    /// Unknown means: observe threads only, and say why.
    ///
    /// # Errors
    /// Never: failures are the `Unknown` reason.
    fn task_reader(&self, process: &Process, memory: &dyn Memory) -> Known<TaskReader>;

    /// What walks the own stacks of tasks that have left them, where there are such tasks.
    fn task_stacks(&self, process: &Process, reader: &TaskReader) -> Option<Box<dyn TaskStacks>> {
        let _ = (process, reader);
        None
    }

    /// What lists the tasks of one live process, after the same self-check.
    ///
    /// # Errors
    /// Never: failures are the `Unknown` reason.
    fn census(&self, process: &Process, memory: &dyn Memory) -> Known<Box<dyn TaskCensus>> {
        let _ = (process, memory);
        Known::unknown("this runtime keeps no list of its tasks that can be read from outside")
    }

    /// Probes in the runtime's own code that tell every change of a task's state (tier `runtime`).
    ///
    /// # Errors
    /// Never: failures are the `Unknown` reason.
    fn code_probes(&self, process: &Process, memory: &dyn Memory) -> Known<CodeProbes> {
        let _ = (process, memory);
        Known::unknown("no probes are known for this runtime's code")
    }

    /// What tells tasks' types from their stacks in one live process, when the runtime's tasks have
    /// types.
    fn task_finder(&self, process: &Process) -> Option<Box<dyn TaskFinder>> {
        let _ = process;
        None
    }
}

/// A stack of a task, and the memory that it was taken from.
#[derive(Debug, Clone, Copy)]
pub struct PolledStack<'a> {
    /// The instruction pointer, then return addresses, nearest first.
    pub frames: &'a [u64],
    /// For each frame the stack pointer in it; may be shorter.
    pub stack_pointers: &'a [u64],
    /// Address of the first byte of `bytes`.
    pub start: u64,
    /// The stack's bytes from the stack pointer up; may be empty.
    pub bytes: &'a [u8],
}

/// Tells what tasks are from the stacks on which they are polled. One per process and program.
pub trait TaskFinder: Debug + Send {
    /// Whether a task is known for certain, so that no more of its stacks are wanted.
    fn knows(&self, task: TaskRef) -> bool;

    /// Looks at a stack on which `task` is polled now or was a moment ago. Bounded work.
    fn look(&mut self, task: TaskRef, stack: &PolledStack<'_>, memory: &dyn Memory);

    /// The runtime's own list has a task with this id and [`CensusTask::entry`]. For when nothing better was
    /// seen.
    ///
    /// [`CensusTask::entry`]: crate::model::census::CensusTask::entry
    fn listed(&mut self, id: u64, entry: u64);

    /// What a task is; `frames`: a stack of it, for when nothing better was seen. Slow at first:
    /// types are named then.
    fn describe(&mut self, task: TaskRef, frames: &[u64]) -> TaskFacts;
}

/// Lists the tasks of one process, again and again. Keeps buffers: one per process.
pub trait TaskCensus: Debug + Send {
    /// Takes a census; `now` is the time that it carries. Unknown: there is none to be had now, but
    /// later there may be.
    ///
    /// # Errors
    /// The reason when the list can not be read any more: the process is gone, or runs another program.
    fn take(&mut self, memory: &dyn Memory, now: Mono) -> Result<Known<Census>, Reason>;

    /// Ids and [`CensusTask::entry`] of the tasks that were listed so far, when an id is never given again.
    ///
    /// [`CensusTask::entry`]: crate::model::census::CensusTask::entry
    fn entries(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }

    /// What could not be told of the tasks, one clause each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a word of a census's stacks, or a task's `entry`, stands for when it is no address of code:
    /// the place of an await, a task's type. Slow at first.
    fn frame(&mut self, word: u64) -> Option<Frame> {
        let _ = word;
        None
    }

    /// Asks the next censuses for the frames that refer to these channels and mutexes
    /// ([`Census::mentions`]). A runtime that can not tell ignores it.
    fn watch(&mut self, addresses: &[u64]) {
        let _ = addresses;
    }

    /// How many connections [`Self::watch_connections`] takes.
    fn connections_at_most(&self) -> usize {
        0
    }

    /// Asks the next censuses for the frames that refer to the connections with these descriptors
    /// ([`Census::holders`]). A runtime that can not tell ignores it.
    fn watch_connections(&mut self, fds: &[i32]) {
        let _ = fds;
    }
}

/// The runtimes, in the order in which they are tried (a cgo binary can hold both).
pub const RUNTIMES: &[&dyn Runtime] = &[&go::Go, &tokio::Tokio];

/// The reason given when no runtime was recognised.
pub const NO_RUNTIME: Reason = Reason::new("no Go or tokio runtime in the executable");
