//! Feeds bytes to the entry of the kernel's answers: `cargo +nightly fuzz run --fuzz-dir tests/fuzz reply`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::reply::check(data));
