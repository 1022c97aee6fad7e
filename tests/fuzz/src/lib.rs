//! What reads bytes of the network or of the kernel, compiled without the rest
//! of the program: it needs nothing above it, and the fuzzer builds in seconds.

#[path = "../../../src/trace/hop.rs"]
pub mod hop;
#[path = "../../../src/a2a/mod.rs"]
pub mod a2a;
#[path = "../../../src/genai/mod.rs"]
pub mod genai;
#[path = "../../../src/stdio/lines.rs"]
pub mod lines;
#[path = "../../../src/mcp/mod.rs"]
pub mod mcp;
#[path = "../../../src/w3c/mod.rs"]
pub mod w3c;

pub mod detect;
#[path = "../../../src/capture/reply.rs"]
pub mod reply;
#[path = "../../../src/trace/telling.rs"]
pub mod telling;
#[path = "../../../src/net/spelling/mod.rs"]
pub mod spelling;
