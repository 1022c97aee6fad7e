//! What a proxy has to know about MCP, the Model Context Protocol, and nothing more: a borrowed
//! view of one JSON-RPC message, the table of its methods, byte edits of `params._meta`, and a tap
//! on server-sent events.
//!
//! Nothing here does I/O or builds a tree. Whatever is not understood beyond doubt is reported as a
//! [`message::Doubt`], so that the caller can pass the bytes on as they came.

pub mod batch;
pub mod mesh;
pub mod message;
pub mod meta;
pub mod method;
pub mod rewrite;
pub mod sse;

// The other readers of JSON are made of these.
pub(crate) mod keys;
pub(crate) mod scan;
pub(crate) mod values;

mod block;
mod ends;
mod fuzz;
mod id;
mod lanes;
mod read;
mod rows;
mod skim;
mod skip;
mod text;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use fuzz::{fuzz_mesh, fuzz_message, fuzz_rewrite, fuzz_rows, fuzz_splice, fuzz_sse};
