//! `propagation.trust_inbound: false`: traces restart at the door. What came
//! is linked to and goes no further, whatever kind of request it came with.

use serde_json::{Value, json};

use super::{A, B, SPAN_A, SPAN_B, TRACE, assert_written, pass, pass_all};
use crate::support::mesh::{Asked, Call, Era, Link, Side, legacy_call, notification, request};

const UNTRUSTED: &str = "propagation: { trust_inbound: false }";

fn link(id: &str) -> Link {
    Link { trace: TRACE.to_owned(), id: id.to_owned(), reason: "untrusted".to_owned() }
}

fn meta() -> Value {
    json!({"traceparent": A, "tracestate": "secret=1", "baggage": "user=1"})
}

fn assert_nothing_came_through(asked: &Asked) {
    let text = format!("{:?}{}", asked.headers, String::from_utf8_lossy(&asked.body));
    for theirs in [TRACE, SPAN_A, SPAN_B, "secret=1", "user=1"] {
        assert!(!text.contains(theirs), "{theirs} came through: {text}");
    }
}

fn with_headers(call: Call) -> Call {
    call.header("traceparent", A).header("tracestate", "secret=1").header("baggage", "user=1")
}

#[tokio::test]
async fn calls_restart_and_link() {
    for call in [
        legacy_call(1, meta()),
        with_headers(legacy_call(1, json!({}))),
        with_headers(legacy_call(1, meta())),
    ] {
        let (span, asked) = pass(UNTRUSTED, &[], Side::Server, call).await;
        assert_eq!(span.parent, "");
        assert_eq!(span.links, [link(SPAN_A)]);
        assert_written(&asked, &span, "03");
        assert_nothing_came_through(&asked);
    }
}

#[tokio::test]
async fn http_restarts_and_links() {
    let (span, asked) = pass(UNTRUSTED, &[], Side::Server, with_headers(Call::get("/"))).await;
    assert_eq!((span.parent.as_str(), span.links), ("", vec![link(SPAN_A)]));
    assert_nothing_came_through(&asked);
    assert_eq!(asked.header("baggage"), None);
}

#[tokio::test]
async fn sessions_restart_too() {
    let initialize = request(
        Era::Legacy,
        0.into(),
        "initialize",
        json!({"protocolVersion": "2025-06-18", "_meta": meta()}),
    );
    let calls = vec![
        (Side::Server, with_headers(initialize)),
        (Side::Server, with_headers(notification("notifications/initialized", json!({"_meta": meta()})))),
    ];
    let (spans, asked) = pass_all(UNTRUSTED, &[], calls).await;
    assert_eq!(spans.len(), 2);
    for span in &spans {
        assert_eq!((span.parent.as_str(), &span.links), ("", &vec![link(SPAN_A)]), "{span:#?}");
    }
    asked.iter().for_each(assert_nothing_came_through);
}

/// Neither what has no span brings context in.
#[tokio::test]
async fn requests_without_a_span_bring_nothing_in() {
    let calls = vec![
        (Side::Server, with_headers(request(Era::Legacy, 1.into(), "ping", json!({"_meta": meta()})))),
        (Side::Server, with_headers(Call::get("/sse").header("accept", "text/event-stream"))),
        (Side::Server, with_headers(Call::get("/healthz"))),
    ];
    let yaml =
        "{ propagation: { trust_inbound: false }, spans: { http: false, ignore: [{ method: ping }] } }";
    let (spans, asked) = pass_all(yaml, &[], calls).await;
    assert_eq!(spans, []);
    assert_eq!(asked.len(), 3);
    asked.iter().for_each(assert_nothing_came_through);
}

/// Calls of our own application are not somebody else's.
#[tokio::test]
async fn outbound_is_trusted() {
    let (span, _) = pass(UNTRUSTED, &[], Side::Client, legacy_call(1, json!({"traceparent": B}))).await;
    assert_eq!(span.parent, SPAN_B);
}
