//! What the programs of the process-level benchmark share: command lines, HTTP/1.1 framing for
//! the ends that must be cheaper than the proxy between them, and the traffic itself.
//!
//! Only the proxies use hyper. The load generator and the upstream read and write sockets
//! directly, so that together they need less CPU than any proxy and never become the bottleneck.

pub mod args;
pub mod payload;
pub mod wire;
