//! Feeds bytes to the webhook's review: `cargo +nightly fuzz run --fuzz-dir tests/fuzz review`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::admission::fuzz::review(data));
