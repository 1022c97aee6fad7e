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
#[path = "../../../src/proxy/inflate.rs"]
pub mod inflate;
#[path = "../../../src/mcp/mod.rs"]
pub mod mcp;
#[path = "../../../src/w3c/mod.rs"]
pub mod w3c;

pub mod admission;
pub mod detect;
pub mod export;
#[path = "../../../src/shim/mod.rs"]
pub mod shim;
#[path = "../../../src/capture/reply.rs"]
pub mod reply;
#[path = "../../../src/trace/telling.rs"]
pub mod telling;
#[path = "../../../src/net/spelling/mod.rs"]
pub mod spelling;
