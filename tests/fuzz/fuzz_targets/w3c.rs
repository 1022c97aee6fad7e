//! Feeds bytes to every codec for trace context headers: `cargo +nightly fuzz run --fuzz-dir tests/fuzz w3c`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::w3c::fuzz_w3c(data));
