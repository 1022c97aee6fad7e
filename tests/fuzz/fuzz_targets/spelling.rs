//! Feeds bytes to the spelling of names: `cargo +nightly fuzz run --fuzz-dir tests/fuzz spelling`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::spelling::fuzz::check(data));
