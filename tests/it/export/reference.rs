//! Our bytes against those of OpenTelemetry's own exporter: the same spans decode to the same messages.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use meshtrace::export::config::Protocol;
use meshtrace::trace::span::{Span, SpanLimits, Value};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::trace::v1 as proto;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use super::{Pipeline, config};
use crate::support::collector::{Collector, Received};

const START: u64 = 1_790_000_000_123_456_789;

/// One span in both worlds.
struct Case {
    ours: Span,
    theirs: SpanData,
}

fn cases() -> Vec<Case> {
    let trace_id = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
    let span_id = SpanId::from_hex("00f067aa0ba902b7").unwrap();
    let other = SpanId::from_hex("b7ad6b7169203331").unwrap();
    let mut cases = Vec::new();
    for (index, kind) in
        [SpanKind::Server, SpanKind::Client, SpanKind::Internal, SpanKind::Producer, SpanKind::Consumer]
            .into_iter()
            .enumerate()
    {
        let full = index % 2 == 0;
        let flags = TraceFlags::new(if full { 3 } else { 1 });
        let state = if full { "mt=00f067aa0ba902b7,ot=th:c" } else { "" };
        let mut ours = Span::new(SpanLimits::default());
        ours.trace_id = trace_id;
        ours.span_id = span_id;
        ours.flags = flags;
        ours.parent = full.then_some(other);
        ours.parent_remote = full;
        ours.kind = kind.clone();
        ours.start_unix_nanos = START;
        ours.end_unix_nanos = START + 1_500_000;
        ours.set_tracestate(state);
        ours.set_name_parts("tools/call", "wéather");
        let mut theirs = SpanData {
            span_context: SpanContext::new(
                trace_id,
                span_id,
                flags,
                false,
                state.parse::<TraceState>().unwrap_or_default(),
            ),
            parent_span_id: if full { other } else { SpanId::INVALID },
            parent_span_is_remote: full,
            span_kind: kind,
            name: Cow::Borrowed("tools/call wéather"),
            start_time: SystemTime::UNIX_EPOCH + Duration::from_nanos(START),
            end_time: SystemTime::UNIX_EPOCH + Duration::from_nanos(START + 1_500_000),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("meshtrace").build(),
        };
        if full {
            fill(
                &mut ours,
                &mut theirs,
                SpanContext::new(trace_id, other, TraceFlags::SAMPLED, true, TraceState::default()),
            );
        }
        cases.push(Case { ours, theirs });
    }
    cases
}

fn fill(ours: &mut Span, theirs: &mut SpanData, linked: SpanContext) {
    ours.set_static("mcp.method.name", "tools/call");
    ours.set_str("gen_ai.tool.name", "wéather");
    ours.set_int("server.port", 8080);
    ours.set_int("negative", -1);
    ours.set_int("zero", 0);
    ours.set_bool("meshtrace.parent.exact", false);
    ours.set_double("ratio", 0.25);
    ours.set_str("empty", "");
    ours.set_strings("list", &["a", ""]);
    ours.error("tool_error", "no such city");
    let reason = [("meshtrace.link.reason", Value::Str("candidate"))];
    ours.add_link(linked.trace_id(), linked.span_id(), linked.trace_flags(), true, &reason);
    theirs.attributes = vec![
        KeyValue::new("error.type", "tool_error"),
        KeyValue::new("mcp.method.name", "tools/call"),
        KeyValue::new("gen_ai.tool.name", "wéather"),
        KeyValue::new("server.port", 8080),
        KeyValue::new("negative", -1),
        KeyValue::new("zero", 0),
        KeyValue::new("meshtrace.parent.exact", false),
        KeyValue::new("ratio", 0.25),
        KeyValue::new("empty", ""),
        KeyValue::new(
            "list",
            opentelemetry::Value::Array(Array::String(vec![StringValue::from("a"), StringValue::from("")])),
        ),
    ];
    theirs.status = Status::error("no such city");
    theirs.links.links =
        vec![Link::new(linked, vec![KeyValue::new("meshtrace.link.reason", "candidate")], 0)];
}

fn comparable(received: &[Received]) -> Vec<proto::Span> {
    let mut spans: Vec<_> = received.iter().flat_map(Received::spans).cloned().collect();
    for span in &mut spans {
        span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
    }
    spans.sort_by_key(|span| span.kind);
    spans
}

#[tokio::test]
async fn the_same_spans_decode_equal() {
    let (ours, theirs): (Vec<_>, Vec<_>) = cases().into_iter().map(|case| (case.ours, case.theirs)).unzip();

    let reference = Collector::start(&[]);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("http://{}/v1/traces", reference.addr))
        .build()
        .unwrap();
    exporter.export(theirs).await.unwrap();

    for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson] {
        let collector = Collector::start(&[]);
        let pipeline = Pipeline::start(&config(collector.addr, protocol, |_| {}));
        ours.iter().for_each(|span| pipeline.recorder.end(span));
        pipeline.flush().await;
        let (ours, theirs) = (comparable(&collector.received()), comparable(&reference.received()));
        assert_eq!(ours.len(), 5);
        assert_eq!(ours, theirs);
    }
}
