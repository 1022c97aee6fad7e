//! Feeds bytes to the search for values that tell requests apart: `cargo +nightly fuzz run --fuzz-dir tests/fuzz telling`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::telling::check(data));
