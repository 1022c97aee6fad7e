//! Feeds bytes to the reader of MCP Mesh's arguments: `cargo +nightly fuzz run --fuzz-dir tests/fuzz mesh`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| meshtrace_fuzz::mcp::fuzz_mesh(data));
