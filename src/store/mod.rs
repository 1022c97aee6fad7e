//! A small OTLP receiver with a bounded trace store in memory.
//!
//! It stands where a collector would: `demo` shows its traces, and tests look at what a sidecar
//! really sent. It is not a database: nothing survives the process, and the oldest traces go first.

pub mod receiver;
pub mod spans;
pub(crate) mod web;

pub use receiver::{Limits, Received, Receiver};
pub use spans::{Capacity, Counts, Missing, SpanStore, StoredSpan, Trace};
