//! Feeds bytes to the sse entry of the MCP view: `cargo +nightly fuzz run --fuzz-dir tests/fuzz sse`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::mcp::fuzz_rewrite(data));
