//! What the first bytes of a connection begin.

#[path = "../../../src/net/detect/judge.rs"]
#[allow(dead_code)] // What else it tells is asked where connections are.
pub mod judge;
#[path = "../../../src/net/detect/tls.rs"]
pub mod tls;
