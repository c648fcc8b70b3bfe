//! A small well-formed program that looks like tokio's: one vtable whose poll is given code. Made for
//! tests and fuzzing of the disassembly, which need no compiler this way.

/// Where the code lies, in the file and in memory.
const CODE: u64 = 0x1000;
/// Where the vtable lies.
const DATA: u64 = 0x40_000;
/// Size of the thread-locals in bytes.
const TLS_SIZE: u64 = 0x100;
/// More code than this is cut.
const MAX_CODE: usize = 0x10_000;

/// Where the pair of words lies by which a library's code reaches its thread-locals.
const PAIR: u64 = DATA + 0x200;

/// An ELF file (fixed address, no sections) with `code` as the poll of one task type.
pub fn example_program(code: &[u8]) -> Vec<u8> {
    build(code, false)
}

/// The same as a shared object: its vtable is relocated, and its thread-locals are reached by a pair
/// of words at 0x40200 (the code lies at 0x1000).
pub fn example_library(code: &[u8]) -> Vec<u8> {
    build(code, true)
}

fn build(code: &[u8], library: bool) -> Vec<u8> {
    let code = &code[..code.len().min(MAX_CODE)];
    let mut file = vec![0_u8; CODE as usize];
    // File header: 64-bit, little-endian, ET_EXEC, x86-64, program headers at 64.
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put16(&mut file, 16, if library { 3 } else { 2 });
    put16(&mut file, 18, 62);
    put16(&mut file, 20, 1);
    put64(&mut file, 32, 64);
    put16(&mut file, 52, 64);
    put16(&mut file, 54, 56);
    put16(&mut file, 56, if library { 5 } else { 4 });
    file.extend_from_slice(code);
    // One byte more, so that there is a function even without code.
    file.push(0xc3);
    let code_size = code.len() as u64 + 1;
    file.resize(DATA as usize, 0);
    // The vtable: seven functions, then trailer, scheduler and id offsets (tokio 1.40 and later).
    for _ in 0..7 {
        file.extend_from_slice(&CODE.to_le_bytes());
    }
    for offset in [0x200_u64, 0x20, 0x28] {
        file.extend_from_slice(&offset.to_le_bytes());
    }
    // .eh_frame_hdr with one entry, and its FDE (length, CIE, start, size).
    let header = file.len() as u64;
    let frame = header + 20;
    file.extend_from_slice(&[1, 0x1b, 0x03, 0x3b]);
    file.extend_from_slice(&((frame - header - 4) as u32).to_le_bytes());
    file.extend_from_slice(&1_u32.to_le_bytes());
    file.extend_from_slice(&(CODE.wrapping_sub(header) as u32).to_le_bytes());
    file.extend_from_slice(&((frame - header) as u32).to_le_bytes());
    for word in [12_u32, 0, 0, code_size as u32] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(b"/tokio-1.54.1/src/runtime/");
    let dynamic = library.then(|| add_relocations(&mut file));
    let end = file.len() as u64;
    let headers = [
        (1, 5, CODE, code_size, 16),
        (1, 6, DATA, end - DATA, 16),
        (7, 4, DATA, TLS_SIZE, 8),
        (0x6474_e550, 4, header, 20, 4),
    ]
    .into_iter()
    .chain(dynamic.map(|at| (2, 6, at, end - at, 8)));
    for (i, (kind, flags, address, size, align)) in headers.enumerate() {
        let at = 64 + i * 56;
        put32(&mut file, at, kind);
        put32(&mut file, at + 4, flags);
        put64(&mut file, at + 8, address);
        put64(&mut file, at + 16, address);
        put64(&mut file, at + 32, size);
        put64(&mut file, at + 40, size);
        put64(&mut file, at + 48, align);
    }
    file
}

/// Relocations of the vtable's functions and of the pair, and the dynamic table, whose address is
/// given.
fn add_relocations(file: &mut Vec<u8>) -> u64 {
    let size = usize::try_from(PAIR).unwrap_or(usize::MAX) + 16;
    file.resize(file.len().max(size).next_multiple_of(8), 0);
    let table = file.len() as u64;
    // R_X86_64_RELATIVE is 8, R_X86_64_DTPMOD64 16; the pair's second word (offset 0) is in place.
    let functions = (0..7).map(|i| (DATA + i * 8, 8, CODE));
    for (at, kind, addend) in functions.chain([(PAIR, 16, 0)]) {
        for word in [at, kind, addend] {
            file.extend_from_slice(&word.to_le_bytes());
        }
    }
    let dynamic = file.len() as u64;
    // DT_RELA is 7, DT_RELASZ 8, the end 0.
    for word in [7, table, 8, dynamic - table, 0, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    dynamic
}

fn put16(file: &mut [u8], at: usize, value: u16) {
    file[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::TokioImage;
    use super::*;
    use crate::model::Known;
    use crate::runtimes::{ThreadLocals, TokioIdForm, TokioReader};

    fn reader(code: &[u8]) -> Known<TokioReader> {
        TokioImage::from_bytes(&example_program(code))
            .unwrap()
            .reader()
            .clone()
    }

    #[test]
    fn each_form_of_the_replacement_is_understood() {
        let direct = [
            0x64, 0x48, 0x8b, 0x04, 0x25, 0xc0, 0xff, 0xff, 0xff, // mov rax, fs:-0x40
            0x64, 0x48, 0x89, 0x0c, 0x25, 0xc0, 0xff, 0xff, 0xff, // mov fs:-0x40, rcx
        ];
        let expect = |form| TokioReader {
            locals: ThreadLocals::Static,
            id_offset: -0x40,
            id_form: form,
            entered_offset: None,
            budget_offset: None,
        };
        assert_eq!(reader(&direct), Known::Known(expect(TokioIdForm::NonZero)));
        let by_address = [
            0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, // mov rax, fs:0
            0x48, 0x8d, 0x80, 0xb0, 0xff, 0xff, 0xff, // lea rax, [rax-0x50]
            0x48, 0x8b, 0x48, 0x10, // mov rcx, [rax+0x10]
            0x48, 0x89, 0x58, 0x10, // mov [rax+0x10], rbx
        ];
        assert_eq!(
            reader(&by_address),
            Known::Known(expect(TokioIdForm::NonZero))
        );
        let tagged = [
            0x64, 0x48, 0x8b, 0x04, 0x25, 0xc0, 0xff, 0xff, 0xff, // mov rax, fs:-0x40
            0x64, 0x48, 0x8b, 0x14, 0x25, 0xc8, 0xff, 0xff, 0xff, // mov rdx, fs:-0x38
            0x64, 0x48, 0xc7, 0x04, 0x25, 0xc0, 0xff, 0xff, 0xff, 1, 0, 0,
            0, // mov fs:-0x40, 1
            0x64, 0x48, 0x89, 0x1c, 0x25, 0xc8, 0xff, 0xff, 0xff, // mov fs:-0x38, rbx
        ];
        assert_eq!(reader(&tagged), Known::Known(expect(TokioIdForm::Tagged)));
    }

    #[test]
    fn counters_and_words_outside_the_thread_locals_are_refused() {
        let counter = [
            0x64, 0x48, 0x8b, 0x04, 0x25, 0xc0, 0xff, 0xff, 0xff, // mov rax, fs:-0x40
            0x48, 0x8d, 0x48, 0x01, // lea rcx, [rax+1]
            0x64, 0x48, 0x89, 0x0c, 0x25, 0xc0, 0xff, 0xff, 0xff, // mov fs:-0x40, rcx
        ];
        assert!(reader(&counter).known().is_none());
        let outside = [
            0x64, 0x48, 0x8b, 0x04, 0x25, 0x00, 0xfe, 0xff, 0xff, // mov rax, fs:-0x200
            0x64, 0x48, 0x89, 0x0c, 0x25, 0x00, 0xfe, 0xff, 0xff, // mov fs:-0x200, rcx
        ];
        assert!(reader(&outside).known().is_none());
        assert!(reader(&[]).known().is_none());
    }

    #[test]
    fn a_librarys_thread_locals_are_followed_through_the_loaders_pair() {
        let read = |code: &[u8]| TokioImage::from_bytes(&example_library(code)).unwrap();
        // lea rdi, [rip+X]: the pair seen from the end of the instruction.
        let lea = |pair: u64| {
            let distance = pair.wrapping_sub(CODE + 7) as u32;
            [&[0x48, 0x8d, 0x3d][..], &distance.to_le_bytes()].concat()
        };
        let rest = [
            0xe8, 0xf0, 0xff, 0x00, 0x00, // call __tls_get_addr
            0x48, 0x8b, 0x48, 0x30, // mov rcx, [rax+0x30]
            0x48, 0x89, 0x58, 0x30, // mov [rax+0x30], rbx
        ];
        let image = read(&[&lea(PAIR), &rest[..]].concat());
        let reader = image.reader().known().unwrap();
        assert_eq!(
            (reader.id_offset, reader.id_form),
            (0x30, TokioIdForm::NonZero)
        );
        // Another address is no pair: what the call gives is not known.
        let image = read(&[&lea(PAIR + 0x40), &rest[..]].concat());
        assert!(image.reader().known().is_none(), "{:?}", image.reader());
    }
}
