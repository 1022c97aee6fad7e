//! Feeds bytes to the entry of detection: `cargo +nightly fuzz run --fuzz-dir tests/fuzz detect`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::detect::tls::check(data));
