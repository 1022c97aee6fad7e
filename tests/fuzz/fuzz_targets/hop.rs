//! Feeds bytes to what sidecars read of each other: `cargo +nightly fuzz run --fuzz-dir tests/fuzz hop`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::hop::fuzz_hop(data));
