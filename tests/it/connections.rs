//! One upstream connection for each downstream connection, and what the end
//! of one of them means for the other.

mod drain;
mod endings;
mod http2;
mod keeping;
mod turns;
