//! Spans, context, sampling and parents: pure values and rules. Nothing here
//! does I/O or reads a clock that it is not given.

pub mod aged;
pub mod context;
pub mod glob;
pub mod hop;
pub mod ids;
pub mod links;
pub mod outgoing;
pub mod places;
pub mod protobuf;
pub mod rate;
pub mod redact;
pub mod rules;
pub mod sampler;
pub mod sampler_config;
pub mod semconv;
pub mod server_spans;
pub mod span;
pub mod tally;
pub mod telling;
pub mod time;
