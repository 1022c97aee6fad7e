//! Spans as OTLP protobuf, written straight into a buffer: `opentelemetry/proto/trace/v1/trace.proto`, version 1.
//!
//! A span is encoded once, when it ends, as one element of `ScopeSpans.spans`; its attributes are so from when they were set. A request is a short prefix with the
//! resource and the scope in front of any number of such elements, which are never touched again.

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::trace::protobuf::{
    LEN, VARINT, bytes, fixed32, fixed64, low_seven_bits, tag, text, varint, varint_len,
};
use crate::trace::span::{Link, Span, Status};

/// The semantic conventions that resource and spans follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The name of the instrumentation scope of every span.
pub const SCOPE_NAME: &str = "meshtrace";

/// `SpanFlags` of the protocol: whether the parent is remote is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Appends `span` to `out` as one element of `ScopeSpans.spans`: tag, length, message.
///
/// Allocates only if `out` has to grow.
pub fn encode_span(span: &Span, out: &mut Vec<u8>) {
    nested(out, 2, |out| {
        ids(out, span.trace_id, span.span_id);
        text(out, 3, span.tracestate());
        if let Some(parent) = span.parent {
            bytes(out, 4, &parent.to_bytes());
        }
        text(out, 5, span.name());
        out.extend_from_slice(&[6 << 3 | VARINT, kind(&span.kind)]);
        time(out, 7, span.start_unix_nanos);
        time(out, 8, span.end_unix_nanos);
        out.extend_from_slice(span.encoded_attributes());
        count(out, 10, span.dropped_attributes());
        for link in span.links() {
            encode_link(out, &link);
        }
        count(out, 14, span.dropped_links());
        status(out, span.status());
        fixed32(out, 16, context_flags(span.flags.to_u8(), span.parent_remote));
    });
}

/// The most bytes that the span takes, which is little more than it does.
pub fn most_bytes(span: &Span) -> usize {
    /// Tags, lengths, ids, times and flags.
    const BESIDE: usize = 128;
    const BESIDE_LINK: usize = 64;
    let description = match span.status() {
        Status::Unset => 0,
        Status::Error(description) => description.len(),
    };
    let links: usize = span.links().map(|link| BESIDE_LINK + link.encoded_attributes().len()).sum();
    BESIDE
        + span.encoded_attributes().len()
        + span.name().len()
        + span.tracestate().len()
        + description
        + links
}

/// What stands in front of the spans of every request: the resource and the scope, encoded once at start.
#[derive(Clone, Debug)]
pub struct Envelope {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Envelope {
    /// Encodes the resource and the scope `meshtrace` of this version.
    pub fn new(resource: &Resource) -> Self {
        let mut head = Vec::new();
        bytes(&mut head, 1, &resource.encode_to_vec());
        text(&mut head, 3, SCHEMA_URL);
        let mut scope = Vec::new();
        nested(&mut scope, 1, |out| {
            text(out, 1, SCOPE_NAME);
            text(out, 2, env!("CARGO_PKG_VERSION"));
        });
        text(&mut scope, 3, SCHEMA_URL);
        Self { resource: head, scope }
    }

    /// The bytes that make an `ExportTraceServiceRequest` of `spans_len` bytes of encoded spans that follow.
    pub fn prefix(&self, spans_len: usize) -> Vec<u8> {
        let scope_spans = self.scope.len() + spans_len;
        let resource_spans = self.resource.len() + 1 + varint_len(scope_spans as u64) + scope_spans;
        let mut out = Vec::with_capacity(self.resource.len() + self.scope.len() + 24);
        tag(&mut out, 1, LEN);
        varint(&mut out, resource_spans as u64);
        out.extend_from_slice(&self.resource);
        tag(&mut out, 2, LEN);
        varint(&mut out, scope_spans as u64);
        out.extend_from_slice(&self.scope);
        out
    }
}

fn encode_link(out: &mut Vec<u8>, link: &Link<'_>) {
    nested(out, 13, |out| {
        ids(out, link.trace_id, link.span_id);
        out.extend_from_slice(link.encoded_attributes());
        count(out, 5, link.dropped_attributes);
        fixed32(out, 6, context_flags(link.flags.to_u8(), link.remote));
    });
}

/// The status is always written, empty when unset, as the OpenTelemetry SDK does.
fn status(out: &mut Vec<u8>, status: Status<'_>) {
    nested(out, 15, |out| {
        if let Status::Error(message) = status {
            text(out, 2, message);
            tag(out, 3, VARINT);
            out.push(2);
        }
    });
}

/// Fields 1 and 2 of a span and of a link, written in one go.
fn ids(out: &mut Vec<u8>, trace_id: TraceId, span_id: SpanId) {
    let mut fields = [0; 28];
    fields[..2].copy_from_slice(&[1 << 3 | LEN, 16]);
    fields[2..18].copy_from_slice(&trace_id.to_bytes());
    fields[18..20].copy_from_slice(&[2 << 3 | LEN, 8]);
    fields[20..].copy_from_slice(&span_id.to_bytes());
    out.extend_from_slice(&fields);
}

fn kind(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn context_flags(flags: u8, remote: bool) -> u32 {
    u32::from(flags) | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 }
}

/// Writes a message whose length is known only afterwards. Two bytes are kept for the length, which fits messages of
/// 128 to 16,383 bytes, nearly all of ours; the others are moved, so that the length is always the shortest form.
fn nested(out: &mut Vec<u8>, field: u8, body: impl FnOnce(&mut Vec<u8>)) {
    const KEPT: usize = 2;
    tag(out, field, LEN);
    let start = out.len();
    out.extend_from_slice(&[0; KEPT]);
    body(out);
    let end = out.len();
    let len = end - start - KEPT;
    let needed = varint_len(len as u64);
    if needed > KEPT {
        out.resize(end + needed - KEPT, 0);
    }
    if needed != KEPT {
        out.copy_within(start + KEPT..end, start + needed);
        out.truncate(start + needed + len);
    }
    let mut rest = len as u64;
    for slot in &mut out[start..start + needed] {
        *slot = low_seven_bits(rest) | 0x80;
        rest >>= 7;
    }
    out[start + needed - 1] &= 0x7f;
}

fn count(out: &mut Vec<u8>, field: u8, count: u32) {
    if count > 0 {
        tag(out, field, VARINT);
        varint(out, u64::from(count));
    }
}

fn time(out: &mut Vec<u8>, field: u8, unix_nanos: u64) {
    if unix_nanos > 0 {
        fixed64(out, field, unix_nanos);
    }
}

#[cfg(test)]
mod tests;
