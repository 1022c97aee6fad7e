//! Calls that carry nothing: what is made of them, and how the span says so.

use serde_json::{Value, json};

use super::held::{Held, id_in, meta_of};
use crate::support::mesh::{Call, Era, Side, Span, legacy_call, modern_call, request};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn reasons(span: &Span) -> Vec<(&str, &str)> {
    span.links.iter().map(|link| (link.id.as_str(), link.reason.as_str())).collect()
}

fn method(span: &Span) -> (String, bool) {
    span.parent_method()
}

fn said(method: &str) -> (String, bool) {
    (method.to_owned(), false)
}

#[tokio::test]
async fn nothing_in_flight_is_background() {
    let held = Held::start().await;
    legacy_call(1, json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), method(&span)), ("", said("background")));
    assert_eq!(span.attribute("meshtrace.parent.candidates"), Value::Null);
    assert!(span.links.is_empty());
}

/// An agent that works on one request at a time gets its calls under it, for
/// MCP and HTTP alike, with the caller's state, and marked as inferred. Whose
/// baggage to send is not guessed.
#[tokio::test]
async fn the_one_in_flight_is_the_parent() {
    let mut held = Held::start().await;
    let call = modern_call(1, json!({"traceparent": CALLER, "tracestate": "vendor=1", "baggage": "k=v"}));
    let asked = held.begin(call).await;
    let to = held.sidecar.outbound();
    legacy_call(2, json!({})).send(to).await;
    Call::get("/v1/models").send(to).await;
    let sent = held.peer.last();
    let spans = held.spans(Side::Client).await;
    for span in &spans {
        assert_eq!((span.parent.clone(), method(span)), (id_in(&asked), said("inferred.single")));
        assert_eq!(span.trace, CALLER[3..35]);
        assert_eq!(span.tracestate, format!("mt={},vendor=1", span.id));
        assert_eq!(span.attribute("meshtrace.parent.candidates"), Value::Null);
    }
    assert!(!sent.header("baggage").unwrap().contains("k=v"));
}

/// A destination that is also called while nothing is in flight proves nothing.
#[tokio::test]
async fn a_heartbeat_is_not_taken_for_a_call_of_the_one_in_flight() {
    let mut held = Held::start().await;
    let to = held.sidecar.outbound();
    Call::get("/heartbeat/1").send(to).await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    Call::get("/heartbeat/2").send(to).await;
    Call::get("/orders/2").send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!(method(&spans[0]), said("background"));
    assert_eq!((spans[1].parent.as_str(), method(&spans[1])), ("", said("ambiguous")));
    assert_eq!(reasons(&spans[1]), [(id_in(&asked).as_str(), "candidate")]);
    assert_eq!((spans[2].parent.clone(), method(&spans[2])), (id_in(&asked), said("inferred.single")));
}

/// Several in flight and nothing said: a root of its own that says between
/// how many, with links to them.
#[tokio::test]
async fn several_in_flight_are_ambiguous() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for id in 0..10 {
        asked.push(id_in(&held.begin(legacy_call(id, json!({}))).await));
    }
    legacy_call(99, json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), method(&span)), ("", said("ambiguous")));
    assert_eq!(span.attribute("meshtrace.parent.candidates"), json!(10));
    assert_eq!(span.links.len(), 8);
    for link in &span.links {
        assert!(asked.contains(&link.id) && link.reason == "candidate", "{link:?}");
    }
}

/// An orchestrator that fans out: all in flight are of its trace, so the call is too.
#[tokio::test]
async fn a_common_trace_is_kept() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for id in 0..3 {
        asked.push(id_in(&held.begin(legacy_call(id, json!({"traceparent": CALLER}))).await));
    }
    legacy_call(99, json!({})).send(held.sidecar.outbound()).await;
    let other = CALLER.replace("00f067aa0ba902b7", "1111111111111111");
    held.begin(legacy_call(4, json!({"traceparent": other}))).await;
    legacy_call(99, json!({})).send(held.sidecar.outbound()).await;
    held.begin(legacy_call(5, json!({}))).await;
    legacy_call(99, json!({})).send(held.sidecar.outbound()).await;
    let spans = held.spans(Side::Client).await;
    // One span called them all; then two of one trace did; then there are two traces.
    let expect = [
        (&CALLER[3..35], &CALLER[36..52], "trace.common"),
        (&CALLER[3..35], "", "trace.common"),
        ("", "", "ambiguous"),
    ];
    for ((span, (trace, parent, by)), candidates) in spans.iter().zip(expect).zip([3, 4, 5]) {
        assert_eq!((span.parent.as_str(), method(span)), (parent, said(by)));
        assert!(span.trace == trace || trace.is_empty(), "{span:#?}");
        assert_eq!(span.attribute("meshtrace.parent.candidates"), json!(candidates));
        assert_eq!(span.links.len(), candidates);
        assert!(asked.iter().all(|id| span.links.iter().any(|link| link.id == *id)));
    }
}

/// Requests that were answered are no candidates.
#[tokio::test]
async fn answered_requests_are_not_candidates() {
    let mut held = Held::start().await;
    for id in 0..3 {
        held.begin(legacy_call(id, json!({}))).await;
    }
    for _ in 0..3 {
        held.end_one().await;
    }
    legacy_call(9, json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!(method(&span), said("background"));
}

/// A request that has been answered may be making calls still: nothing is
/// inferred until one begins alone.
#[tokio::test]
async fn the_last_of_several_is_not_taken_for_the_caller() {
    let mut held = Held::start().await;
    let to = held.sidecar.outbound();
    held.begin(legacy_call(1, json!({}))).await;
    held.begin(legacy_call(2, json!({}))).await;
    held.end_one().await;
    legacy_call(9, json!({})).send(to).await;
    held.end_one().await;
    let asked = held.begin(legacy_call(3, json!({}))).await;
    legacy_call(9, json!({})).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!((spans[0].parent.as_str(), method(&spans[0])), ("", said("ambiguous")));
    assert_eq!(spans[0].attribute("meshtrace.parent.candidates"), Value::Null);
    assert_eq!((spans[1].parent.clone(), method(&spans[1])), (id_in(&asked), said("inferred.single")));
}

/// Requests without a span may make calls as well.
#[tokio::test]
async fn an_ignored_request_in_flight_is_somebody_who_may_call() {
    let mut held = Held::with("spans: { ignore: [{ path: /healthz }] }", &[]).await;
    let to = held.sidecar.outbound();
    held.begin(Call::get("/healthz")).await;
    Call::get("/a").send(to).await;
    held.begin(legacy_call(1, json!({}))).await;
    Call::get("/b").send(to).await;
    held.end_one().await;
    held.end_one().await;
    let asked = held.begin(legacy_call(2, json!({}))).await;
    Call::get("/c").send(to).await;
    let spans = held.spans(Side::Client).await;
    for span in &spans[..2] {
        assert_eq!((span.parent.as_str(), method(span)), ("", said("ambiguous")));
    }
    assert_eq!(spans[1].attribute("meshtrace.parent.candidates"), json!(2));
    assert_eq!((spans[2].parent.clone(), method(&spans[2])), (id_in(&asked), said("inferred.single")));
}

/// An ignored request hands the context of its caller on, so that is the parent.
#[tokio::test]
async fn calls_of_an_ignored_request_hang_under_its_caller() {
    let mut held = Held::with("spans: { ignore: [{ path: /quiet }] }", &[]).await;
    held.begin(Call::get("/quiet").header("traceparent", CALLER)).await;
    Call::get("/a").send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), method(&span)), (&CALLER[36..52], said("inferred.single")));
}

#[tokio::test]
async fn inference_can_be_a_link_or_off() {
    for (word, by, links) in [("links", "inferred.single", 1), ("off", "ambiguous", 0)] {
        let mut held = Held::with(&format!("propagation: {{ inference: {word} }}"), &[]).await;
        let asked = held.begin(legacy_call(1, json!({}))).await;
        legacy_call(2, json!({})).send(held.sidecar.outbound()).await;
        let span = held.spans(Side::Client).await.remove(0);
        assert_eq!((span.parent.as_str(), method(&span)), ("", said(by)));
        let expect = [(id_in(&asked).as_str().to_owned(), "inferred.single")];
        let found: Vec<_> = reasons(&span).into_iter().map(|(id, reason)| (id.to_owned(), reason)).collect();
        assert_eq!(found, expect[..links]);
    }
}

/// The calls of a request that is not recorded are not recorded either, and
/// are not taken for calls of one that is.
#[tokio::test]
async fn what_is_not_recorded_is_a_candidate_too() {
    let unsampled = CALLER.replace("-01", "-00");
    let mut held = Held::start().await;
    let to = held.sidecar.outbound();
    held.begin(legacy_call(1, json!({"traceparent": unsampled}))).await;
    legacy_call(2, json!({})).send(to).await;
    let sent = held.peer.last();
    assert_eq!(sent.header("traceparent"), Some(unsampled.as_str()));
    let recorded = held.begin(legacy_call(3, json!({}))).await;
    legacy_call(4, json!({})).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!((spans[0].parent.as_str(), method(&spans[0])), ("", said("ambiguous")));
    assert_eq!(reasons(&spans[0]), [(id_in(&recorded).as_str(), "candidate")]);
}

/// A call among requests of which none is recorded starts no trace.
#[tokio::test]
async fn a_root_follows_its_candidates() {
    let mut held = Held::start().await;
    for id in 0..2 {
        let context = format!("00-{id:032x}-00f067aa0ba902b7-00", id = id + 1);
        held.begin(legacy_call(id, json!({"traceparent": context}))).await;
    }
    legacy_call(9, json!({})).send(held.sidecar.outbound()).await;
    assert_eq!(held.spans(Side::Client).await, []);
}

fn order(id: i64, meta: Value, order: &str) -> Call {
    let params = json!({"name": "ship", "arguments": {"order": order}, "_meta": meta});
    request(Era::Legacy, id.into(), "tools/call", params)
}

const ORDERS: [&str; 2] = ["order-20261126-0001", "order-20261126-0002"];

/// A value that one request alone was given: a link to it, for MCP and HTTP
/// alike, and for values within a longer text.
#[tokio::test]
async fn a_value_of_one_request_links_to_it() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for (id, number) in ORDERS.iter().zip(0..) {
        asked.push(id_in(&held.begin(order(number, json!({}), id)).await));
    }
    let to = held.sidecar.outbound();
    order(9, json!({}), ORDERS[1]).send(to).await;
    Call::get(&format!("/orders/{}/items", ORDERS[0])).send(to).await;
    Call::post(json!({"text": format!("where is {}?", ORDERS[1])}).to_string()).send(to).await;
    order(9, json!({}), "order-20261126-0003").send(to).await;
    let spans = held.spans(Side::Client).await;
    for (span, owner) in spans[..3].iter().zip([1, 0, 1]) {
        assert_eq!((span.parent.as_str(), method(span)), ("", said("inferred.unique_value")));
        assert_eq!(reasons(span), [(asked[owner].as_str(), "inferred.unique_value")]);
    }
    assert_eq!(method(&spans[3]), said("ambiguous"));
}

/// A client that lost track of what it works on sends the context of another
/// request: its claim stands, and is no longer called exact.
#[tokio::test]
async fn a_contradicted_claim_says_so() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for (id, number) in ORDERS.iter().zip(0..) {
        asked.push(held.begin(order(number, json!({}), id)).await);
    }
    let to = held.sidecar.outbound();
    order(9, meta_of(&asked[0]), ORDERS[1]).send(to).await;
    order(9, meta_of(&asked[1]), ORDERS[1]).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!((spans[0].parent.clone(), method(&spans[0])), (id_in(&asked[0]), said("propagated.meta")));
    assert_eq!(spans[0].attribute("meshtrace.parent.conflict"), json!(true));
    assert_eq!(reasons(&spans[0]), [(id_in(&asked[1]).as_str(), "conflict")]);
    assert_eq!(
        (spans[1].parent.clone(), method(&spans[1])),
        (id_in(&asked[1]), ("propagated.meta".to_owned(), true))
    );
    assert_eq!(spans[1].attribute("meshtrace.parent.conflict"), Value::Null);
}

/// What HTTP that is not MCP was given counts too: in its path or in its body.
#[tokio::test]
async fn http_requests_are_known_by_what_they_say() {
    let mut held = Held::start().await;
    let path = id_in(&held.begin(Call::get(&format!("/orders/{}/items", ORDERS[0]))).await);
    let body = id_in(&held.begin(Call::post(json!({"order": ORDERS[1]}).to_string())).await);
    let to = held.sidecar.outbound();
    for number in ORDERS {
        Call::get(&format!("/stock?order={number}")).send(to).await;
    }
    let spans = held.spans(Side::Client).await;
    for (span, owner) in spans.iter().zip([path, body]) {
        assert_eq!((span.parent.as_str(), method(span)), ("", said("inferred.unique_value")));
        assert_eq!(reasons(span), [(owner.as_str(), "inferred.unique_value")]);
    }
}
