//! Sockets: accepting, telling protocols apart, TLS, dialling, copying bytes.
//! Nothing here knows of spans.

pub mod ask;
pub mod detect;
pub mod dial;
pub mod io;
pub mod listen;
pub mod original_dst;
pub mod probe;
pub mod registry;
pub mod resolve;
pub mod spelling;
pub mod tls;
pub mod tunnel;
