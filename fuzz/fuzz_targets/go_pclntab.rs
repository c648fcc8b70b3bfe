//! Any bytes as a Go function table, asked everything at a few addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::runtimes::go::pclntab::Pclntab;

fuzz_target!(|data: &[u8]| {
    let Ok(table) = Pclntab::parse(data, None) else {
        return;
    };
    let functions = (0..table.len().min(64)).filter_map(|i| table.function(i));
    for function in functions {
        for pc in [function.entry, function.entry.wrapping_add(1), function.end] {
            let _ = table.find(pc).and_then(|f| f.name());
            let _ = (function.file(pc), function.line(pc), function.frame_size(pc));
            let _ = function.inline_tree();
            let _ = function.inlined_at(data, pc);
        }
        let _ = function.start_line();
    }
    let _ = table.by_name("main.main").map(|f| f.entry);
});
