//! The code that a process has mapped, and the files behind it, kept open past the process's end.
//!
//! /proc/PID/maps is parsed here and not by crate `procfs`, whose parser panics on a mapped file
//! that is called `/SYSV`, which any target can arrange.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, ObjectSymbolTable};

use super::elf::ElfImage;
use crate::model::{Known, Pid, Reason};

/// Processes with more mappings exist (`vm.max_map_count` can be raised); few of them are code.
const MAX_MAPS_BYTES: u64 = 64 << 20;
/// Executable mappings kept per process.
const MAX_CODE_MAPPINGS: usize = 16 << 10;
/// Segments kept per file.
const MAX_SEGMENTS: usize = 256;

/// A file, told apart from every other one while it is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
}

impl ModuleId {
    /// The executable of a process.
    pub fn of_exe(pid: Pid) -> Option<Self> {
        fs::metadata(format!("/proc/{pid}/exe"))
            .ok()
            .map(|meta| Self::of(&meta))
    }

    fn of(meta: &fs::Metadata) -> Self {
        Self {
            dev: meta.dev(),
            inode: meta.ino(),
        }
    }
}

/// What stands behind a range of executable memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file: path as the kernel tells it (` (deleted)` cut off), inode number.
    File {
        /// Path in the target's mount namespace.
        path: String,
        /// Inode number as the mapping shows it (may differ from stat's on stacked file systems).
        inode: u64,
        /// The name is gone: the file was deleted or replaced.
        deleted: bool,
    },
    /// The kernel's own page of user code.
    Vdso,
    /// Memory without a file: code made at run time.
    Anonymous,
}

/// One executable range of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// What is mapped.
    pub backing: Backing,
}

/// The executable ranges of a process, in address order.
///
/// # Errors
/// The reason, when the process is gone or may not be read.
pub fn code_mappings(pid: Pid) -> Result<Vec<CodeMapping>, Reason> {
    let path = format!("/proc/{pid}/maps");
    let file = File::open(&path).map_err(|e| explain(&path, &e))?;
    let mut reader = BufReader::new(file.take(MAX_MAPS_BYTES));
    let mut found = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(found),
            Ok(_) => {}
            Err(e) => return Err(explain(&path, &e)),
        }
        if let Some(mapping) = parse_line(&String::from_utf8_lossy(&line)) {
            if found.len() == MAX_CODE_MAPPINGS {
                return Ok(found);
            }
            found.push(mapping);
        }
    }
}

/// `55d0-55f0 r-xp 00002000 fe:00 1234    /usr/bin/x (deleted)` (Linux `fs/proc/task_mmu.c`,
/// `show_map_vma`). `None` for memory that is not code, and for lines that are not understood.
fn parse_line(line: &str) -> Option<CodeMapping> {
    let mut rest = line.trim_end_matches('\n');
    let mut field = || {
        let trimmed = rest.trim_start();
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        let (word, tail) = trimmed.split_at(end);
        rest = tail;
        word
    };
    let (start, end) = field().split_once('-')?;
    let executable = field().as_bytes().get(2) == Some(&b'x');
    let offset = u64::from_str_radix(field(), 16).ok()?;
    let _device = field();
    let inode = field().parse().ok()?;
    let path = rest.trim_start();
    let backing = match path {
        "[vdso]" => Backing::Vdso,
        // The kernel answers these calls itself; nothing can block in that page.
        "[vsyscall]" | "[uprobes]" => return None,
        _ if path.starts_with('/') => Backing::File {
            path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
            inode,
            deleted: path.ends_with(" (deleted)"),
        },
        _ => Backing::Anonymous,
    };
    executable.then_some(CodeMapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset,
        backing,
    })
}

fn explain(path: &str, error: &std::io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => {
            Reason::new("the process ended before its code could be looked at")
        }
        Some(libc::EACCES | libc::EPERM) => Reason::with(format!(
            "no permission to read {path}: needs CAP_SYS_PTRACE"
        )),
        _ => Reason::with(format!("{path}: {error}")),
    }
}

/// A loadable part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Virtual address that the file asks for.
    pub vaddr: u64,
}

/// A file and its state: a file that was changed, or another one with a reused number, differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    id: ModuleId,
    size: u64,
    /// When it was changed last, seconds and nanoseconds (the system's own time, which no program
    /// sets).
    changed: (i64, i64),
}

/// A mapped file, held open: it can be read after the process has exited or the file is deleted.
#[derive(Debug)]
pub struct ModuleFile {
    file: File,
    id: ModuleId,
    name: String,
    path: String,
}

impl ModuleFile {
    /// Opens the file behind a mapping of `pid`.
    ///
    /// Tried in order: `map_files` (the very file, even when deleted or in another mount
    /// namespace; needs CAP_CHECKPOINT_RESTORE), `exe`, and the path below the target's root, the
    /// last two only when the inode is the mapped one.
    ///
    /// # Errors
    /// The reason, when none works.
    pub fn open(pid: Pid, mapping: &CodeMapping) -> Result<Self, Reason> {
        let Backing::File {
            path,
            inode,
            deleted,
        } = &mapping.backing
        else {
            return Err(Reason::new("no file is mapped there"));
        };
        let exact = format!(
            "/proc/{pid}/map_files/{:x}-{:x}",
            mapping.start, mapping.end
        );
        let mut tries = vec![(exact, false), (format!("/proc/{pid}/exe"), true)];
        if !deleted {
            tries.push((format!("/proc/{pid}/root{path}"), true));
        }
        let mut denied = false;
        for (candidate, check) in tries {
            match open_regular(&candidate) {
                Ok((file, id)) if !check || id.inode == *inode => {
                    return Ok(Self {
                        file,
                        id,
                        name: path.rsplit('/').next().unwrap_or(path).to_owned(),
                        path: path.clone(),
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    denied |= error.kind() == std::io::ErrorKind::PermissionDenied;
                }
            }
        }
        Err(Reason::with(if denied {
            format!("no permission to open {path}: needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE")
        } else {
            format!("{path} was deleted or replaced after it was mapped")
        }))
    }

    /// Which file it is.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// What tells it from every other file and from its own later content; `None` when the system
    /// does not say.
    pub fn stamp(&self) -> Option<FileStamp> {
        let meta = self.file.metadata().ok()?;
        Some(FileStamp {
            id: self.id,
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Its file name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path in the target's mount namespace.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A path by which this process can open it for as long as `self` lives.
    pub fn reopen_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Maps and parses it.
    ///
    /// # Errors
    /// The reason, when it is not a 64-bit ELF file.
    pub fn image(&self) -> Result<ElfImage, Reason> {
        ElfImage::open(&self.reopen_path()).map_err(|error| match error {
            super::elf::ElfError::ThirtyTwoBit { .. } => {
                Reason::with(format!("{} is 32-bit code", self.name))
            }
            _ => Reason::with(format!("{} is not a readable ELF file", self.name)),
        })
    }
}

/// Only regular files: opening a device or a pipe could block or have effects.
fn open_regular(path: &str) -> std::io::Result<(File, ModuleId)> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    Ok((file, ModuleId::of(&meta)))
}

/// What a file can tell about its addresses, and how addresses translate.
#[derive(Debug, Clone)]
pub struct ModuleLayout {
    segments: Vec<Segment>,
    /// Why functions may be nameless in it; `Known` when it has a full symbol table.
    pub symbols: Known<()>,
    /// Where asynchronous tables of frames exist (`.eh_frame`), so that a cut stack is explained.
    pub has_debug_info: bool,
}

impl ModuleLayout {
    /// Reads the headers of a module.
    ///
    /// # Errors
    /// The reason, when it is not a 64-bit ELF file.
    pub fn read(module: &ModuleFile) -> Result<Self, Reason> {
        let image = module.image()?;
        let elf = image
            .parse()
            .map_err(|_| Reason::with(format!("{} is damaged", module.name())))?;
        let segments = elf
            .segments()
            .take(MAX_SEGMENTS)
            .map(|segment| {
                let (offset, size) = segment.file_range();
                Segment {
                    offset,
                    size,
                    vaddr: segment.address(),
                }
            })
            .collect();
        // A table of only a few file and section entries names nothing: look for one function.
        let has_functions = elf.symbol_table().is_some_and(|table| {
            table
                .symbols()
                .any(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.is_definition())
        });
        let has_debug_info = elf.sections().any(|section| {
            section
                .name()
                .is_ok_and(|name| matches!(name, ".debug_info" | ".gnu_debugdata"))
        });
        Ok(Self {
            segments,
            symbols: if has_functions {
                Known::Known(())
            } else {
                Known::Unknown(Reason::with(format!(
                    "{} is stripped: install its debug symbols, or build it without strip",
                    module.name()
                )))
            },
            has_debug_info,
        })
    }

    /// The virtual address (as in the file, without load bias) of a file offset.
    pub fn vaddr(&self, file_offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let within = file_offset.checked_sub(segment.offset)?;
            (within < segment.size).then(|| segment.vaddr.checked_add(within))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_lines_are_understood_and_hostile_ones_do_no_harm() {
        let line = "7f00-7f10 r-xp 00002000 fe:00 1234       /opt/a b/lib.so (deleted)\n";
        assert_eq!(
            parse_line(line),
            Some(CodeMapping {
                start: 0x7f00,
                end: 0x7f10,
                offset: 0x2000,
                backing: Backing::File {
                    path: "/opt/a b/lib.so".into(),
                    inode: 1234,
                    deleted: true
                }
            })
        );
        let backing = |text| parse_line(text).map(|m| m.backing);
        assert_eq!(backing("1-2 r-xp 0 00:00 0 [vdso]"), Some(Backing::Vdso));
        assert_eq!(backing("1-2 rwxp 0 00:00 0 "), Some(Backing::Anonymous));
        assert_eq!(backing("1-2 r--p 0 00:00 0 /x"), None);
        for text in [
            "",
            "\n",
            "-",
            "1-2",
            "1-2 r-xp",
            "zz-2 r-xp 0 0 0 /x",
            "é-é é é é é",
        ] {
            assert_eq!(backing(text), None, "{text}");
        }
        assert!(backing("1-2 r-xp 0 00:01 5 /SYSV").is_some());
    }

    #[test]
    fn this_process_shows_its_executable_with_symbols() {
        let pid = Pid(std::process::id());
        let code = code_mappings(pid).unwrap();
        let here = code_mappings as *const () as u64;
        let mapping = code
            .iter()
            .find(|m| (m.start..m.end).contains(&here))
            .unwrap();
        let module = ModuleFile::open(pid, mapping).unwrap();
        assert_eq!(Some(module.id()), ModuleId::of_exe(pid));
        let layout = ModuleLayout::read(&module).unwrap();
        assert!(layout.symbols.known().is_some());
        let vaddr = layout.vaddr(here - mapping.start + mapping.offset).unwrap();
        assert_eq!(vaddr & 0xfff, here & 0xfff);
        assert_eq!(layout.vaddr(u64::MAX), None);
    }
}
