//! What the first bytes of a connection begin.

#[path = "../../../src/net/detect/judge.rs"]
pub mod judge;
#[path = "../../../src/net/detect/tls.rs"]
pub mod tls;
