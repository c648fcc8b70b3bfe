//! One live Go process: load bias, addresses, and the check that the offsets fit it.

use object::Object;

use super::offsets::{GoOffsets, M_G0};
use super::symbols::GoSymbols;
use crate::model::Reason;
use crate::model::memory::{Memory, ReadError};
use crate::sys::elf::{self, Elf};
use crate::sys::process::Process;

/// Goroutines that are looked at by the check.
const CHECKED: u64 = 64;
/// The list changes while it is read: a check that fails is tried again.
const ATTEMPTS: usize = 3;
/// More goroutines than a process can hold.
pub const MAX_LISTED: u64 = 64 << 20;
/// Ids above this are garbage: a program would have to make a million goroutines a second for days.
pub const MAX_GOID: u64 = 1 << 40;
/// Bits of a status without `_Gscan` (`src/runtime/runtime2.go`).
pub const STATUS_MASK: u32 = 0xfff;
/// `_Grunning`.
pub const RUNNING: u32 = 2;
/// `_Gsyscall`.
pub const SYSCALL: u32 = 3;
/// `_Gdead`.
pub const DEAD: u32 = 6;
/// The highest status (`_Gdeadextra`, Go 1.26).
const LAST_STATUS: u32 = 11;

/// Where variables lie: file virtual addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Anchors {
    /// `runtime.allgs`.
    pub allgs: Option<u64>,
    /// `runtime.g0`.
    pub g0: Option<u64>,
}

impl Anchors {
    /// From symbols, else from the code that uses them.
    pub fn find(elf: &Elf<'_>, symbols: &GoSymbols) -> Self {
        let variables = symbols.tables().variables;
        let code = |name: &str| {
            let function = symbols.pclntab()?.by_name(name)?;
            let size = usize::try_from(function.end.checked_sub(function.entry)?).ok()?;
            let code = elf::bytes_at(elf, function.entry)?;
            Some((&code[..code.len().min(size)], function.entry))
        };
        Self {
            allgs: variables.allgs.or_else(|| {
                let (bytes, at) = code("runtime.forEachG")?;
                super::decode::first_load(bytes, at)
            }),
            g0: variables.g0.or_else(|| {
                let (bytes, at) = code("runtime.rt0_go")?;
                super::decode::first_lea(bytes, at)
            }),
        }
    }
}

/// What is added to a file virtual address to get the address in the process.
///
/// # Errors
/// The reason when the executable's mapping is not there.
pub fn load_bias(elf: &Elf<'_>, process: &Process) -> Result<u64, Reason> {
    if elf.kind() == object::ObjectKind::Executable {
        return Ok(0);
    }
    let base = elf::base_address(elf).ok_or(Reason::new("the executable has no segments"))?;
    let mappings = process
        .mappings()
        .map_err(|e| Reason::with(e.to_string()))?;
    mappings
        .iter()
        .find(|m| m.path.as_deref() == Some(process.exe.as_path()) && m.offset == 0)
        .map(|m| m.start.wrapping_sub(base & !0xfff))
        .ok_or(Reason::new(
            "the executable is not mapped where it was expected",
        ))
}

/// The header of `allgs`: address of the array and number of entries.
///
/// # Errors
/// When it can not be read or is not plausible.
pub fn read_allgs(memory: &dyn Memory, address: u64) -> Result<(u64, u64), Reason> {
    let mut header = [0; 24];
    memory
        .read(address, &mut header)
        .map_err(|e| Reason::with(format!("the list of goroutines could not be read: {e}")))?;
    let word = |i: usize| u64_at(&header, 8 * i).unwrap_or(0);
    let (array, len, capacity) = (word(0), word(1), word(2));
    if array == 0 || len == 0 {
        return Err(Reason::new(
            "the list of goroutines is empty: the runtime has not started yet",
        ));
    }
    if len > capacity
        || len > MAX_LISTED
        || !array.is_multiple_of(8)
        || array.checked_add(8 * len).is_none()
    {
        return Err(Reason::new(
            "the list of goroutines is not where it was expected",
        ));
    }
    Ok((array, len))
}

/// What the check looks at.
#[derive(Debug)]
pub struct Check<'a> {
    /// Offsets under test.
    pub offsets: &'a GoOffsets,
    /// Functions of the executable.
    pub symbols: &'a GoSymbols,
    /// Address of `allgs` in the process.
    pub allgs: u64,
    /// Address of `g0` in the process.
    pub g0: Option<u64>,
    /// Load bias.
    pub bias: u64,
}

impl Check<'_> {
    /// Tests the offsets on the live process: ids and states are plausible, creation sites are Go
    /// code, and each running goroutine's thread is a thread of the process.
    ///
    /// # Errors
    /// What did not fit.
    pub fn run(&self, memory: &dyn Memory, process: &Process) -> Result<String, Reason> {
        let mut last = Reason::new("the goroutines could not be checked");
        for _ in 0..ATTEMPTS {
            let threads = process
                .namespace_threads()
                .map_err(|e| Reason::with(e.to_string()))?;
            let is_thread = |id: u64| threads.iter().any(|t| u64::from(t.0) == id);
            match self.once(memory, &is_thread) {
                Ok(evidence) => return Ok(evidence),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }

    fn once(&self, memory: &dyn Memory, is_thread: &dyn Fn(u64) -> bool) -> Result<String, Reason> {
        let o = self.offsets;
        let unreadable = |e: ReadError| Reason::with(format!("a goroutine could not be read: {e}"));
        let mut threads = 0;
        if let Some(g0) = self.g0 {
            let m0 = memory
                .read_u64(g0.wrapping_add(u64::from(o.g_m)))
                .map_err(unreadable)?;
            let fits = m0 != 0
                && memory.read_u64(m0.wrapping_add(M_G0)) == Ok(g0)
                && memory
                    .read_u64(m0.wrapping_add(u64::from(o.m_procid)))
                    .is_ok_and(is_thread);
            if !fits {
                return Err(Reason::new(
                    "the runtime's first thread is not a thread of the process",
                ));
            }
            threads += 1;
        }
        let (array, len) = read_allgs(memory, self.allgs)?;
        let mut goroutines = 0;
        let half = len.min(CHECKED / 2);
        for i in (0..half).chain(half.max(len.saturating_sub(CHECKED / 2))..len) {
            let g = memory.read_u64(array + 8 * i).map_err(unreadable)?;
            let mut bytes = vec![0; o.g_size()];
            memory.read(g, &mut bytes).map_err(unreadable)?;
            let word = |at: u32| u64_at(&bytes, at as usize).unwrap_or(0);
            let status = word(o.g_status) as u32 & STATUS_MASK;
            if status > LAST_STATUS {
                return Err(Reason::with(format!(
                    "a goroutine has status {status}, which no version has"
                )));
            }
            if status == DEAD || status == 0 || status >= 10 {
                continue;
            }
            let goid = word(o.g_goid);
            if goid == 0 || goid > MAX_GOID {
                return Err(Reason::with(format!(
                    "a goroutine has id {goid}, which is not plausible"
                )));
            }
            let resolves = |pc: u64| self.symbols.function_name(pc.wrapping_sub(self.bias));
            let start = resolves(word(o.g_startpc));
            if start.is_none() || (goid == 1 && start != Some("runtime.main")) {
                return Err(Reason::with(format!(
                    "goroutine {goid} does not start in a Go function"
                )));
            }
            goroutines += 1;
            let m = word(o.g_m);
            if (status == RUNNING || status == SYSCALL)
                && m != 0
                && memory.read_u64(m.wrapping_add(u64::from(o.m_curg))) == Ok(g)
            {
                // It may have moved on since: only a thread that still runs it is evidence.
                let tid = memory
                    .read_u64(m.wrapping_add(u64::from(o.m_procid)))
                    .map_err(unreadable)?;
                if !is_thread(tid) {
                    return Err(Reason::with(format!(
                        "goroutine {goid} runs on thread {tid}, which the process does not have"
                    )));
                }
                threads += 1;
            }
        }
        if goroutines == 0 || threads == 0 {
            return Err(Reason::new(
                "no goroutine is alive to check the offsets with",
            ));
        }
        Ok(format!(
            "offsets checked on the live process: {goroutines} goroutines, {threads} of its threads"
        ))
    }
}

/// A little-endian word in bytes that were read.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// A little-endian half word in bytes that were read.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
