//! Any bytes as a Go build record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::runtimes::go::buildinfo;

fuzz_target!(|data: &[u8]| {
    if let Some(info) = buildinfo::search(data) {
        let _ = info.go_version();
    }
});
