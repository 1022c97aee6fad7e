//! Feeds bytes to the readers of messages to agents and of their answers: `cargo +nightly fuzz run --fuzz-dir tests/fuzz a2a`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::a2a::fuzz_a2a(data));
