//! What the encoder writes, read back by the generated types.

use opentelemetry::trace::TraceFlags;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as proto, ScopeSpans, span};

use super::*;
use crate::trace::span::{SpanLimits, Value};

/// The same span by the generated types, the slow and obvious way.
fn expected(span: &Span) -> proto::Span {
    let (code, message) = match span.status() {
        Status::Unset => (0, String::new()),
        Status::Error(message) => (2, message.to_owned()),
    };
    let flags = |flags: u8, remote| u32::from(flags) + 256 + if remote { 512 } else { 0 };
    let link = |link: Link<'_>| span::Link {
        trace_id: link.trace_id.to_bytes().to_vec(),
        span_id: link.span_id.to_bytes().to_vec(),
        attributes: link.attributes().map(key_value).collect(),
        dropped_attributes_count: link.dropped_attributes,
        flags: flags(link.flags.to_u8(), link.remote),
        ..span::Link::default()
    };
    proto::Span {
        trace_id: span.trace_id.to_bytes().to_vec(),
        span_id: span.span_id.to_bytes().to_vec(),
        trace_state: span.tracestate().to_owned(),
        parent_span_id: span.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        flags: flags(span.flags.to_u8(), span.parent_remote),
        name: span.name().to_owned(),
        kind: span::SpanKind::from(span.kind.clone()) as i32,
        start_time_unix_nano: span.start_unix_nanos,
        end_time_unix_nano: span.end_unix_nanos,
        attributes: span.attributes().map(key_value).collect(),
        dropped_attributes_count: span.dropped_attributes(),
        links: span.links().map(link).collect(),
        dropped_links_count: span.dropped_links(),
        status: Some(proto::Status { code, message }),
        ..proto::Span::default()
    }
}

fn key_value((key, value): (&str, Value<'_>)) -> KeyValue {
    let string = |text: &str| any_value::Value::StringValue(text.to_owned());
    let value = match value {
        Value::Str(text) => string(text),
        Value::Int(number) => any_value::Value::IntValue(number),
        Value::Bool(truth) => any_value::Value::BoolValue(truth),
        Value::Double(number) => any_value::Value::DoubleValue(number),
        Value::Strings(texts) => {
            let values = texts.into_iter().map(|text| AnyValue { value: Some(string(text)) }).collect();
            any_value::Value::ArrayValue(ArrayValue { values })
        }
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn text(&mut self, bound: u64) -> String {
        let len = self.below(bound + 1);
        (0..len).map(|_| if self.below(9) == 0 { 'é' } else { 'x' }).collect()
    }
}

const KEYS: [&str; 8] = ["", "a", "mcp.method.name", "error.type", "server.address", "server.port", "b", "c"];

fn any_span(numbers: &mut Numbers) -> Span {
    let mut span = Span::new(SpanLimits { attribute_count: 6, link_count: 3, ..SpanLimits::default() });
    span.trace_id = TraceId::from_bytes(u128::from(numbers.next()).to_be_bytes());
    span.span_id = SpanId::from_bytes(numbers.next().to_be_bytes());
    span.flags = TraceFlags::new(numbers.below(4) as u8);
    span.parent = (numbers.below(2) == 0).then(|| SpanId::from_bytes(numbers.next().to_be_bytes()));
    span.parent_remote = numbers.below(2) == 0;
    span.kind =
        [SpanKind::Internal, SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer]
            [numbers.below(5) as usize]
            .clone();
    span.start_unix_nanos = numbers.next();
    span.end_unix_nanos = numbers.below(2);
    span.set_name(&numbers.text(30));
    span.set_tracestate(&numbers.text(200));
    for _ in 0..numbers.below(10) {
        let key = KEYS[numbers.below(8) as usize];
        match numbers.below(7) {
            0 => span.set_int(key, numbers.next().cast_signed() >> numbers.below(64)),
            1 => span.set_bool(key, numbers.below(2) == 0),
            2 => span.set_double(key, numbers.below(100) as f64 / 8.0),
            3 => span.set_strings(key, &[&numbers.text(3), &numbers.text(200)]),
            4 => span.set_static(key, "fixed"),
            5 => span.set_named(&numbers.text(3), ""),
            _ => span.set_str(key, &numbers.text(20_000)),
        }
    }
    for _ in 0..numbers.below(5) {
        let text = numbers.text(200);
        let attributes = [
            ("meshtrace.link.reason", Value::Str(&text)),
            ("n", Value::Int(0)),
            ("l", Value::Strings(vec![&text])),
        ];
        let count = numbers.below(4) as usize;
        span.add_link(span.trace_id, span.span_id, span.flags, numbers.below(2) == 0, &attributes[..count]);
    }
    if numbers.below(3) == 0 {
        span.error("timeout", &numbers.text(100));
    }
    span
}

#[test]
fn spans_of_every_shape_decode_to_what_they_hold() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..500 {
        let spans: Vec<_> = (0..3).map(|_| any_span(&mut numbers)).collect();
        let mut bytes = Vec::new();
        for span in &spans {
            encode_span(span, &mut bytes);
        }
        let decoded = ScopeSpans::decode(bytes.as_slice()).unwrap();
        assert_eq!(decoded.spans, spans.iter().map(expected).collect::<Vec<_>>());
        // Every length is in its shortest form, so that the generated encoder gives the same number of bytes.
        assert_eq!(bytes.len(), decoded.encoded_len());
    }
}

#[test]
fn lengths_at_the_bounds_of_their_forms() {
    for len in (100..140).chain(16_340..16_400) {
        let mut span = Span::new(SpanLimits::default());
        span.set_name(&"n".repeat(len));
        let mut bytes = b"before".to_vec();
        encode_span(&span, &mut bytes);
        let decoded = ScopeSpans::decode(&bytes[6..]).unwrap();
        assert_eq!(decoded.spans, [expected(&span)]);
        assert_eq!(bytes.len() - 6, decoded.encoded_len());
    }
}

#[test]
fn attributes_at_the_bound_of_the_short_form() {
    for len in 100..140 {
        let mut span = Span::new(SpanLimits::default());
        span.set_str("key", &"v".repeat(len));
        span.set_int(Box::leak("k".repeat(len).into_boxed_str()), -1);
        span.set_named("", "empty key");
        let mut bytes = Vec::new();
        encode_span(&span, &mut bytes);
        let decoded = ScopeSpans::decode(bytes.as_slice()).unwrap();
        assert_eq!(decoded.spans, [expected(&span)]);
        assert_eq!(bytes.len(), decoded.encoded_len());
    }
}

#[test]
fn the_envelope_goes_around_spans_as_they_are() {
    let mut numbers = Numbers(7);
    let (resource, _) = crate::export::resource::from_env(&|_| None, 1);
    let envelope = Envelope::new(&resource.to_proto());
    for count in [0, 1, 2, 40] {
        let spans: Vec<_> = (0..count).map(|_| any_span(&mut numbers)).collect();
        let mut chunk = Vec::new();
        spans.iter().for_each(|span| encode_span(span, &mut chunk));
        let mut bytes = envelope.prefix(chunk.len());
        bytes.extend_from_slice(&chunk);
        let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(request.encoded_len(), bytes.len());
        let [resource_spans] = request.resource_spans.as_slice() else { panic!("one resource") };
        assert_eq!(resource_spans.resource, Some(resource.to_proto()));
        assert_eq!(resource_spans.schema_url, SCHEMA_URL);
        let [scope_spans] = resource_spans.scope_spans.as_slice() else { panic!("one scope") };
        let scope = scope_spans.scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("meshtrace", env!("CARGO_PKG_VERSION")));
        assert_eq!(scope_spans.schema_url, SCHEMA_URL);
        assert_eq!(scope_spans.spans, spans.iter().map(expected).collect::<Vec<_>>());
    }
}

#[test]
fn a_warm_buffer_is_not_moved() {
    let mut numbers = Numbers(3);
    let span = any_span(&mut numbers);
    let mut buffer = Vec::new();
    encode_span(&span, &mut buffer);
    encode_span(&span, &mut buffer);
    buffer.reserve(16);
    let (place, capacity) = (buffer.as_ptr(), buffer.capacity());
    buffer.clear();
    encode_span(&span, &mut buffer);
    assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, capacity));
}
