//! Feeds bytes to the framing of pipes: `cargo +nightly fuzz run --fuzz-dir tests/fuzz lines`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::lines::fuzz_lines(data));
