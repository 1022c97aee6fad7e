//! Feeds bytes to the reader of large calls: `cargo +nightly fuzz run --fuzz-dir tests/fuzz rows`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::mcp::fuzz_rows(data));
