//! Feeds bytes to the readers of calls of models and of their answers: `cargo +nightly fuzz run --fuzz-dir tests/fuzz genai`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::genai::fuzz_genai(data));
