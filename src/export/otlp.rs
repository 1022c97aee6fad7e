//! Spans as OTLP protobuf, written straight into a buffer: `opentelemetry/proto/trace/v1/trace.proto`, version 1.
//!
//! A span is encoded once, when it ends, as one element of `ScopeSpans.spans`. A request is a short prefix with the
//! resource and the scope in front of any number of such elements, which are never touched again.

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::trace::span::{Link, Span, Status, Value};

/// The semantic conventions that resource and spans follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The name of the instrumentation scope of every span.
pub const SCOPE_NAME: &str = "meshtrace";

/// `SpanFlags` of the protocol: whether the parent is remote is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Wire types of protobuf, as the low three bits of a field's tag.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

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
        for (key, value) in span.attributes() {
            key_value(out, 9, key, &value);
        }
        count(out, 10, span.dropped_attributes());
        for link in span.links() {
            encode_link(out, &link);
        }
        count(out, 14, span.dropped_links());
        status(out, span.status());
        fixed32(out, 16, context_flags(span.flags.to_u8(), span.parent_remote));
    });
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
        for (key, value) in link.attributes() {
            key_value(out, 4, key, &value);
        }
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

fn key_value(out: &mut Vec<u8>, field: u8, key: &str, value: &Value<'_>) {
    if let Value::Str(text) = value
        && short_text(out, field, key, text)
    {
        return;
    }
    let value_len = any_value_len(value);
    tag(out, field, LEN);
    varint(out, (text_len(key) + 1 + varint_len(value_len as u64) + value_len) as u64);
    text(out, 1, key);
    tag(out, 2, LEN);
    varint(out, value_len as u64);
    any_value(out, value);
}

/// Writes a text attribute if it is short enough for every length in it to be one byte, as nearly all are. Such
/// attributes are most of a span, and with the bytes between the texts written together they take half the time.
fn short_text(out: &mut Vec<u8>, field: u8, key: &str, text: &str) -> bool {
    const AROUND: usize = 6;
    if key.is_empty() || key.len() + text.len() + AROUND > 0x7f {
        return false;
    }
    let (key_len, text_len) = (key.len() as u8, text.len() as u8);
    out.extend_from_slice(&[field << 3 | LEN, key_len + text_len + AROUND as u8, 1 << 3 | LEN, key_len]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[2 << 3 | LEN, text_len + 2, 1 << 3 | LEN, text_len]);
    out.extend_from_slice(text.as_bytes());
    true
}

/// `AnyValue` is a oneof: the field is written even when it holds the default of its type.
fn any_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Str(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => {
            tag(out, 2, VARINT);
            out.push(u8::from(*truth));
        }
        Value::Int(number) => {
            tag(out, 3, VARINT);
            varint(out, number.cast_unsigned());
        }
        Value::Double(number) => fixed64(out, 4, number.to_bits()),
        Value::Strings(texts) => {
            tag(out, 5, LEN);
            varint(out, texts.iter().map(|text| list_item_len(text)).sum::<usize>() as u64);
            for text in texts {
                tag(out, 1, LEN);
                varint(out, one_text_len(text) as u64);
                bytes(out, 1, text.as_bytes());
            }
        }
    }
}

fn any_value_len(value: &Value<'_>) -> usize {
    match value {
        Value::Str(text) => one_text_len(text),
        Value::Bool(_) => 2,
        Value::Int(number) => 1 + varint_len(number.cast_unsigned()),
        Value::Double(_) => 9,
        Value::Strings(texts) => {
            let len: usize = texts.iter().map(|text| list_item_len(text)).sum();
            1 + varint_len(len as u64) + len
        }
    }
}

fn one_text_len(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

fn list_item_len(text: &str) -> usize {
    let len = one_text_len(text);
    1 + varint_len(len as u64) + len
}

fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { one_text_len(text) }
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

/// Field numbers up to 15 take one byte of tag, the one above (16) two.
fn tag(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    if field < 16 {
        out.push(field << 3 | wire_type);
    } else {
        varint(out, u64::from(field) << 3 | u64::from(wire_type));
    }
}

fn text(out: &mut Vec<u8>, field: u8, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    tag(out, field, LEN);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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

fn fixed64(out: &mut Vec<u8>, field: u8, number: u64) {
    let mut bytes = [field << 3 | FIXED64; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&bytes);
}

fn fixed32(out: &mut Vec<u8>, field: u8, number: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&number.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_seven_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_seven_bits(number));
}

fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn low_seven_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

#[cfg(test)]
mod tests;
