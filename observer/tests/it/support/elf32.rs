//! A 32-bit x86 program, made by hand: compilers for it are rarely installed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes a program that waits for a signal for ever.
pub fn pauses_in(dir: &Path) -> PathBuf {
    let exe = dir.join("narrow");
    fs::write(&exe, image()).expect("write");
    fs::set_permissions(&exe, Permissions::from_mode(0o755)).expect("chmod");
    exe
}

/// Why such programs do not run here; `None` when they do.
pub fn refused() -> Option<String> {
    let dir = tempfile::tempdir().expect("tempdir");
    let started = Command::new(pauses_in(dir.path()))
        .stdin(Stdio::null())
        .spawn();
    match started {
        Ok(mut child) => {
            child.kill().expect("our child takes a signal");
            child.wait().expect("our child ends");
            None
        }
        Err(error) => Some(format!("this kernel does not run 32-bit programs: {error}")),
    }
}

/// `1: mov eax, 29 (pause); int 0x80; jmp 1b`, in one segment.
fn image() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let size = HEADERS + code.len() as u32;
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());

    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for the 386.
    half(&mut elf, 2);
    half(&mut elf, 3);
    // Version, entry, program headers, no sections, no flags.
    for value in [1, BASE + HEADERS, 52, 0, 0] {
        word(&mut elf, value);
    }
    // Sizes and counts of the headers.
    for value in [52, 32, 1, 40, 0, 0] {
        half(&mut elf, value);
    }
    // Loaded, at offset 0, to BASE, with these sizes, readable and executable.
    for value in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        word(&mut elf, value);
    }
    elf.extend(code);
    elf
}
