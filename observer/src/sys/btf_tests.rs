//! Tests of the BTF reader: on the running kernel's types, on made-up ones, on damaged ones.

use super::*;
use crate::skips::skip;

/// Builds BTF from types and names, so that a test can say what it means.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn record(&mut self, kind: u8, name: &str, flag: bool, members: &[(&str, u32, u32)]) {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | u32::from(kind) << 24 | members.len() as u32;
        self.words(&[name, info, 64]);
        for &(name, id, bits) in members {
            let name = self.name(name);
            self.words(&[name, id, bits]);
        }
    }

    fn reference(&mut self, kind: u8, name: &str, to: u32) {
        let name = self.name(name);
        self.words(&[name, u32::from(kind) << 24, to]);
    }

    fn build(self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut out = Vec::new();
        out.extend(0x0001_eb9f_u32.to_le_bytes());
        for word in [24, 0, types, types, strings] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.types);
        out.extend(self.strings);
        out
    }
}

fn offset(btf: &Btf<'_>, name: &str, path: &str) -> u32 {
    match btf.member_offset(name, path) {
        Known::Known(offset) => offset,
        Known::Unknown(reason) => panic!("{name}.{path}: {reason}"),
    }
}

fn reason(btf: &Btf<'_>, name: &str, path: &str) -> String {
    btf.member_offset(name, path)
        .reason()
        .map_or_else(|| "known".to_owned(), ToString::to_string)
}

#[test]
fn members_are_found_through_anonymous_unions_qualifiers_and_typedefs() {
    let mut b = Builder::new();
    b.record(KIND_STRUCT, "inner", false, &[("x", 0, 0), ("y", 0, 64)]); // 1
    b.reference(KIND_CONST, "", 1); // 2
    b.reference(KIND_TYPEDEF, "inner_t", 2); // 3
    b.record(KIND_UNION, "", false, &[("a", 0, 0), ("", 6, 0)]); // 4
    b.record(
        KIND_STRUCT,
        "outer",
        false,
        &[("first", 0, 0), ("", 4, 128), ("in", 3, 256)],
    ); // 5
    b.record(KIND_STRUCT, "", false, &[("deep", 0, 32)]); // 6
    let bytes = b.build();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(offset(&btf, "outer", "in.y"), 40);
    assert_eq!(offset(&btf, "outer", "deep"), 20);
    assert_eq!(offset(&btf, "outer", "__new|a"), 16);
    assert_eq!(btf.struct_size("outer"), Some(64));
    assert!(reason(&btf, "outer", "gone").contains("no member gone"));
    assert!(reason(&btf, "outer", "first.y").contains("not a struct"));
    assert!(reason(&btf, "nowhere", "x").contains("no struct nowhere"));
}

#[test]
fn a_bitfield_and_an_ambiguous_struct_are_unknown_not_guessed() {
    let mut b = Builder::new();
    b.record(KIND_STRUCT, "flags", true, &[("one", 0, 1 << 24 | 8)]);
    b.record(KIND_STRUCT, "twin", false, &[("m", 0, 0)]);
    b.record(KIND_STRUCT, "twin", false, &[("m", 0, 64)]);
    let bytes = b.build();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(reason(&btf, "flags", "one").contains("bitfield"));
    assert!(reason(&btf, "twin", "m").contains("differ"));
}

#[test]
fn a_struct_that_contains_itself_ends_the_search() {
    let mut b = Builder::new();
    let members: Vec<_> = (0..64).map(|_| ("", 1, 0)).collect();
    b.record(KIND_STRUCT, "loop", false, &members);
    b.reference(KIND_TYPEDEF, "t", 2);
    b.record(KIND_STRUCT, "holder", false, &[("t", 2, 0)]);
    let bytes = b.build();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(reason(&btf, "loop", "x").contains("no member x"));
    assert!(reason(&btf, "holder", "t.x").contains("not a struct"));
}

#[test]
fn the_running_kernel_has_the_fields_that_the_probes_read() {
    let Ok(image) = BtfImage::vmlinux() else {
        skip!("a kernel without BTF");
    };
    let started = std::time::Instant::now();
    let btf = Btf::parse(image.bytes()).unwrap();
    let parsed = started.elapsed();
    assert!(btf.len() > 10_000);
    assert_eq!(
        offset(&btf, "task_struct", "tgid"),
        offset(&btf, "task_struct", "pid") + 4
    );
    assert!(offset(&btf, "task_struct", "thread.fsbase") > offset(&btf, "task_struct", "thread"));
    assert!(btf.struct_size("task_struct").unwrap() > 1000);
    assert!(btf.has_func("schedule"));
    assert!(btf.tracepoint_arguments("sched_switch").unwrap() >= 3);
    assert_eq!(btf.tracepoint_arguments("no_such_tracepoint"), None);
    assert!(!btf.has_func("no_such_function_anywhere"));
    assert!(parsed.as_millis() < 200, "parsing took {parsed:?}");
}

#[test]
fn cut_or_changed_type_information_never_panics() {
    let mut b = Builder::new();
    b.record(KIND_STRUCT, "task", false, &[("pid", 2, 0), ("", 1, 64)]);
    b.reference(KIND_TYPEDEF, "pid_t", 1);
    b.record(KIND_DATASEC, ".data..percpu", false, &[]);
    let made = b.build();
    let real = BtfImage::vmlinux().map_or_else(|_| Vec::new(), |i| i.bytes().to_vec());
    for whole in [&made, &real] {
        let step = (whole.len() / 12).max(1);
        for len in (0..whole.len()).step_by(step) {
            ask(&whole[..len]);
        }
        // A cheap generator is enough: the point is many different damages, the same each run.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let rounds = if whole.len() > 1 << 20 { 8 } else { 3000 };
        let mut bytes = whole.clone();
        for round in 0..rounds {
            for _ in 0..=(round % 8) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let range = if seed & 1 == 0 {
                    bytes.len()
                } else {
                    bytes.len().min(400)
                };
                if range > 0 {
                    bytes[(seed >> 8) as usize % range] = seed as u8;
                }
            }
            ask(&bytes);
            bytes.clone_from(whole);
        }
    }
}

fn ask(bytes: &[u8]) {
    if let Ok(btf) = Btf::parse(bytes) {
        let _offset = btf.member_offset("task_struct|task", "thread.fsbase");
        let _offset = btf.member_offset("task", "pid.x");
        let _section = btf.section_variable(".data..percpu", "__preempt_count");
        let _func = btf.has_func("schedule");
    }
}
