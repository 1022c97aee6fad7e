//! Feeds bytes to the reader of compressed bodies: `cargo +nightly fuzz run --fuzz-dir tests/fuzz inflate`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::inflate::fuzz_inflate(data));
