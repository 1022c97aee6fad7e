//! Feeds bytes to the rewriter of streams: `cargo +nightly fuzz run --fuzz-dir tests/fuzz rewrite`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::mcp::fuzz_rewrite(data));
