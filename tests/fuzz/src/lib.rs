//! The two rooms that read bytes of the network, compiled without the rest of
//! the program: they stand on the lowest floor and need nothing above it, and
//! the fuzzer builds in seconds.

#[path = "../../../src/mcp/mod.rs"]
pub mod mcp;
#[path = "../../../src/w3c/mod.rs"]
pub mod w3c;
