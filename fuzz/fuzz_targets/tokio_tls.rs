//! Any bytes as the code of tokio's polls: a well-formed small program whose code is the input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::model::Known;
use observer::runtimes::tokio::{TokioImage, example_library, example_program};

fuzz_target!(|code: &[u8]| {
    let program = example_program(code);
    let Some(image) = TokioImage::from_bytes(&program) else {
        panic!("the frame of the example is not recognised");
    };
    // Whatever the code says, an id outside the program's own thread-locals is refused.
    if let Known::Known(reader) = image.reader() {
        assert!((-0x100..=-8).contains(&reader.id_offset), "{reader:?}");
    }
    // As a library: offsets count from the start of its block.
    let Some(image) = TokioImage::from_bytes(&example_library(code)) else {
        panic!("the frame of the library is not recognised");
    };
    if let Known::Known(reader) = image.reader() {
        assert!((0..=0xf8).contains(&reader.id_offset), "{reader:?}");
    }
});
