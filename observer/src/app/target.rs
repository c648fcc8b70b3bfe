//! One observed process: what it runs, how its tasks are read, what became of it.

use std::collections::HashMap;
use std::sync::Arc;

use observer_common::config::{TARGET_COPY_STACKS, TARGET_NO_FRAME_POINTERS};

use super::target_config::target_config;
use crate::model::event::SeedEvent;
use crate::model::memory::Memory as _;
use crate::model::{Known, Reason, Tid};
use crate::resolve::unwind::{Regs, Unwinder, Unwound, has_frame_pointers};
use crate::runtimes::{
    CodeProbes, NO_RUNTIME, PolledStack, RUNTIMES, RuntimeImage, RuntimeKind, TaskCensus,
    TaskFinder, TaskReader, TaskStacks,
};
use crate::sys::elf::{ElfImage, thread_locals_size};
use crate::sys::memory::ProcessMemory;
use crate::sys::modules::code_mappings;
use crate::sys::process::Process;
use crate::sys::usage;

/// The stack of a thread that is blocked.
#[derive(Debug)]
pub struct BlockedStack {
    /// Its frames.
    pub unwound: Unwound,
    /// Its stack pointer.
    pub start: u64,
    /// What was read from there on.
    pub bytes: Vec<u8>,
}

impl BlockedStack {
    /// As a task finder wants it.
    pub fn shown(&self) -> PolledStack<'_> {
        PolledStack {
            frames: &self.unwound.frames,
            stack_pointers: &self.unwound.stack_pointers,
            start: self.start,
            bytes: &self.bytes,
        }
    }
}

/// An observed process.
#[derive(Debug)]
pub struct Target {
    /// Who it is. After exec: the new program.
    pub process: Process,
    /// Which runtime it has.
    pub runtime: RuntimeKind,
    /// The runtime as found in the executable.
    pub image: Option<Box<dyn RuntimeImage>>,
    /// How tasks are read, or why only threads are observed.
    pub reader: Known<TaskReader>,
    /// User stacks are copied and unwound by tables: everything but Go, which keeps frame pointers.
    /// In Go programs that call C, only stacks that begin in C code.
    pub copy_stacks: bool,
    /// Bytes of the program's own thread-locals.
    thread_locals: u32,
    /// The program itself has no frame pointers.
    pub no_frame_pointers: bool,
    /// How it ended.
    pub ended: Option<String>,
    /// Names of its threads.
    pub thread_names: HashMap<Tid, String>,
    /// The runtime was found but its structures were not ready: try again.
    pub retry: bool,
    /// Executable mappings when the runtime was looked for.
    mapped: usize,
    /// CPU time when observation began.
    pub cpu_at_start: Option<std::time::Duration>,
    /// Threads when last counted.
    pub threads: u32,
    /// Threads when first counted.
    pub threads_at_start: u32,
    /// The largest count.
    pub threads_max: u32,
}

impl Target {
    /// Looks at a process: runtime, offsets, frame pointers.
    pub fn inspect(process: Process) -> Self {
        let mut target = Self::before_exec(process);
        target.detect();
        target.count_threads();
        target
    }

    /// A process that is about to call exec: what it runs now does not matter.
    pub fn before_exec(process: Process) -> Self {
        let pid = process.id.pid;
        Self {
            process,
            runtime: RuntimeKind::Native,
            image: None,
            reader: Known::Unknown(NO_RUNTIME),
            copy_stacks: false,
            thread_locals: 0,
            no_frame_pointers: false,
            ended: None,
            thread_names: HashMap::new(),
            retry: false,
            mapped: 0,
            cpu_at_start: usage::cpu_of(pid),
            threads: 0,
            threads_at_start: 0,
            threads_max: 0,
        }
    }

    /// Detects the runtime anew (at attach and after exec).
    pub fn detect(&mut self) {
        self.runtime = RuntimeKind::Native;
        self.image = None;
        self.reader = Known::Unknown(NO_RUNTIME);
        self.copy_stacks = false;
        self.thread_locals = 0;
        self.no_frame_pointers = false;
        self.retry = false;
        self.mapped = code_mappings(self.process.id.pid).map_or(0, |all| all.len());
        let elf = match ElfImage::open(&self.process.exe_handle()) {
            Ok(elf) => Arc::new(elf),
            Err(error) => {
                self.reader = Known::Unknown(Reason::with(error.to_string()));
                return;
            }
        };
        for runtime in RUNTIMES {
            if let Some(image) = runtime.detect(&elf, &self.process) {
                self.runtime = runtime.kind();
                self.image = Some(image);
                self.read_runtime();
                break;
            }
        }
        self.thread_locals = elf.parse().map_or(0, |elf| {
            u32::try_from(thread_locals_size(&elf)).unwrap_or(0)
        });
        if self.runtime != RuntimeKind::Go {
            self.copy_stacks = true;
            self.no_frame_pointers = has_frame_pointers(&elf).known().is_some_and(|fp| !fp);
        }
        elf.release_pages();
    }

    /// Detects the runtime anew when code was mapped since the last look and there was none: Python
    /// and Node load extensions when they are used first. True when there is one now.
    pub fn look_again(&mut self) -> bool {
        if self.image.is_some() {
            return false;
        }
        let mapped = code_mappings(self.process.id.pid).map_or(0, |all| all.len());
        if mapped <= self.mapped {
            return false;
        }
        self.detect();
        self.image.is_some()
    }

    /// Reads the runtime's structures in the live process.
    pub fn read_runtime(&mut self) {
        let Some(image) = &self.image else { return };
        let memory = self.memory();
        self.reader = image.task_reader(&self.process, &memory);
        self.retry = self.reader.known().is_none();
        if let Known::Known(TaskReader::Go(go)) = &self.reader {
            self.copy_stacks = go.cgo.is_some();
        }
        if let Some(reason) = self.reader.reason() {
            tracing::debug!(pid = self.process.id.pid.0, %reason, "no task reader");
        }
    }

    /// Its memory.
    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory::new(self.process.id.pid)
    }

    /// What lists its tasks, or why nothing does.
    pub fn census(&self) -> Known<Box<dyn TaskCensus>> {
        match &self.image {
            Some(image) => image.census(&self.process, &self.memory()),
            None => Known::Unknown(NO_RUNTIME),
        }
    }

    /// What tells its tasks' types from their stacks, when they have types.
    pub fn task_finder(&self) -> Option<Box<dyn TaskFinder>> {
        self.image.as_ref()?.task_finder(&self.process)
    }

    /// What walks stacks that its tasks left for another, where they do.
    pub fn task_stacks(&self) -> Option<Box<dyn TaskStacks>> {
        self.image
            .as_ref()?
            .task_stacks(&self.process, self.reader.known()?)
    }

    /// Whether the code at an address has frame pointers for sure: Go's.
    pub fn has_frame_pointers_at(&self, ip: u64) -> bool {
        match &self.reader {
            Known::Known(TaskReader::Go(go)) => go
                .cgo
                .is_none_or(|cgo| (cgo.text..cgo.text_end).contains(&ip)),
            _ => false,
        }
    }

    /// Probes in its runtime's own code, or why there are none.
    pub fn code_probes(&self) -> Known<CodeProbes> {
        match &self.image {
            Some(image) => image.code_probes(&self.process, &self.memory()),
            None => Known::Unknown(NO_RUNTIME),
        }
    }

    /// What the kernel side is told about it.
    pub fn config(&self) -> observer_common::config::TargetConfig {
        let reader = self.reader.known();
        let same_pid_namespace = usage::same_pid_namespace(self.process.id.pid);
        let mut config = target_config(reader, same_pid_namespace);
        config.thread_locals = self.thread_locals;
        if self.copy_stacks {
            config.flags |= TARGET_COPY_STACKS;
        }
        if self.no_frame_pointers {
            config.flags |= TARGET_NO_FRAME_POINTERS;
        }
        config
    }

    /// Why only threads are observed although there is a runtime, or the file could not be read.
    pub fn degraded(&self) -> Option<Reason> {
        match &self.reader {
            Known::Unknown(reason) if *reason != NO_RUNTIME => Some(reason.clone()),
            _ => None,
        }
    }

    /// Remembers the name of a thread while it lives.
    pub fn learn_thread(&mut self, tid: Tid) {
        let pid = self.process.id.pid;
        if self.ended.is_none()
            && !self.thread_names.contains_key(&tid)
            && let Some(name) = usage::thread_name(pid, tid)
        {
            self.thread_names.insert(tid, name);
        }
    }

    /// Counts threads, while it lives.
    pub fn count_threads(&mut self) {
        if let Ok(threads) = self.process.threads() {
            self.threads = threads.len() as u32;
            self.threads_max = self.threads_max.max(self.threads);
            if self.threads_at_start == 0 {
                self.threads_at_start = self.threads;
            }
        }
    }

    /// The stack of a thread that is blocked now: by frame pointers, or by unwinding a piece of it.
    pub fn blocked_stack(
        &self,
        unwinder: Option<&mut Unwinder>,
        (ip, sp, bp): (u64, u64, u64),
    ) -> BlockedStack {
        const PIECE: usize = 1024;
        const MOST: usize = 64 * 1024;
        let memory = self.memory();
        let by_tables = self.copy_stacks && !self.has_frame_pointers_at(ip);
        let Some(unwinder) = unwinder.filter(|_| by_tables) else {
            return BlockedStack {
                unwound: Unwound {
                    frames: crate::runtimes::reading::walk_frame_pointers(&memory, ip, bp, 127),
                    stack_pointers: Vec::new(),
                    truncated: None,
                },
                start: sp,
                bytes: Vec::new(),
            };
        };
        let mut bytes = vec![0; MOST];
        let mut len = 0;
        while len < MOST
            && memory
                .read(sp + len as u64, &mut bytes[len..len + PIECE])
                .is_ok()
        {
            len += PIECE;
        }
        bytes.truncate(len);
        let bp = Some(bp);
        BlockedStack {
            unwound: unwinder.unwind(Regs { ip, sp, bp }, &bytes, 127),
            start: sp,
            bytes,
        }
    }

    /// The task and stack of a thread that was blocked before observation.
    pub fn read_seed(
        &self,
        seed: &SeedEvent,
        class: crate::model::event::WaitClass,
    ) -> crate::runtimes::reading::TaskRead {
        crate::runtimes::reading::task_of(
            self.reader.known(),
            &self.memory(),
            seed.fsbase,
            seed.tid,
            class,
        )
    }
}
