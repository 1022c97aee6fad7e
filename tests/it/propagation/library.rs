//! MCP Mesh, a library for agents: what its calls carry joins them to the
//! requests that they are made for, and its own ids pass untouched.

use serde_json::{Value, json};

use super::held::{Held, id_in};
use crate::support::mesh::{Asked, Call, Side, Span};

const T: &str = "3333333333333333333333333333333a";
const P: &str = "4444444444444444";
const OWN: &str = "5555555555555555";

/// A call as the library makes it: no session, no revision, ids in headers and arguments.
fn call(ids: Option<(&str, &str)>, headers: Value) -> Call {
    let mut arguments = json!({"city": "Oslo"});
    let mut call = Call::post("");
    if let Some((trace, parent)) = ids {
        arguments["_trace_id"] = trace.into();
        arguments["_parent_span"] = parent.into();
        call = call.header("x-trace-id", trace).header("x-parent-span", parent);
    }
    for (name, value) in headers.as_object().into_iter().flatten() {
        call = call.header(name, value.as_str().unwrap());
        arguments["_mesh_headers"][name] = value.clone();
    }
    let params = json!({"name": "forecast", "arguments": arguments});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    call.header("x-mesh-timeout", "300").with_body(message.to_string())
}

fn context_of(asked: &Asked) -> Value {
    json!({"traceparent": asked.header("traceparent"), "tracestate": asked.header("tracestate")})
}

fn found(span: &Span) -> (&str, (String, bool)) {
    (&span.parent, span.parent_method())
}

fn by(exact: bool) -> (String, bool) {
    ("propagated.library".to_owned(), exact)
}

/// With its list of headers set the library passes W3C context on for each request.
#[tokio::test]
async fn headers_that_it_passes_on_are_proof_for_any_number_in_flight() {
    let mut held = Held::start().await;
    let first = held.begin(call(None, json!({}))).await;
    held.begin(call(None, json!({}))).await;
    let to = held.sidecar.outbound();
    call(None, context_of(&first)).send(to).await;
    let sent = held.peer.last();
    // Where it traces itself too, its trace is its own affair.
    call(Some((T, OWN)), context_of(&first)).send(to).await;
    let spans = held.spans(Side::Client).await;
    for span in &spans {
        assert_eq!(found(span), (id_in(&first).as_str(), by(true)));
    }
    // The header is ours; what stands in the arguments is not touched.
    assert_eq!(sent.header("traceparent"), Some(super::traceparent(&spans[0], "03").as_str()));
    let kept = &sent.json()["params"]["arguments"]["_mesh_headers"]["traceparent"];
    assert_eq!(kept.as_str(), first.header("traceparent"));
}

/// A caller's trace is continued, and comes back as it came.
#[tokio::test]
async fn its_own_ids_join_what_carries_nothing_else() {
    let mut held = Held::start().await;
    let first = held.begin(call(Some((T, P)), json!({}))).await;
    held.begin(call(Some(("3333333333333333333333333333333b", P)), json!({}))).await;
    let to = held.sidecar.outbound();
    call(Some((T, P)), json!({})).send(to).await;
    let sent = held.peer.last();
    call(Some((T, OWN)), json!({})).send(to).await;
    call(Some(("3333333333333333333333333333333c", OWN)), json!({})).send(to).await;
    assert_eq!((sent.header("x-trace-id"), sent.header("x-parent-span")), (Some(T), Some(P)));
    let mut arguments = sent.json()["params"]["arguments"].clone();
    assert_eq!(arguments.as_object_mut().unwrap().remove("_trace_id"), Some(T.into()));
    assert_eq!(arguments, json!({"city": "Oslo", "_parent_span": P}));
    let mesh_spans = held.all_spans().await;
    let server = mesh_spans.iter().find(|span| span.kind == "SERVER" && span.trace == T).unwrap();
    assert_eq!(server.parent, P);
    let spans: Vec<_> = mesh_spans.iter().filter(|span| span.kind == "CLIENT").collect();
    assert_eq!(found(spans[0]), (id_in(&first).as_str(), by(true)));
    assert_eq!(found(spans[1]), (id_in(&first).as_str(), by(false)));
    assert!(spans[..2].iter().all(|span| span.trace == T));
    // A trace that nobody brought is the library's own.
    assert_eq!(
        (spans[2].trace.as_str(), found(spans[2])),
        ("3333333333333333333333333333333c", (OWN, by(false)))
    );
    assert_eq!(spans[2].links.len(), 2);
}

/// What is no id joins nothing.
#[tokio::test]
async fn ids_that_are_none_are_ignored() {
    let mut held = Held::start().await;
    let asked = held.begin(call(Some(("not-an-id", "0000000000000000")), json!({}))).await;
    call(Some(("not-an-id", "x")), json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!(found(&span), (id_in(&asked).as_str(), ("inferred.single".to_owned(), false)));
}

/// What a call brings back may have come with a request that has no span: one
/// that is ignored, or one that opens a session. It may call late, so the same
/// ids prove nothing of the request that is in the table.
#[tokio::test]
async fn ids_of_requests_without_a_span_count_too() {
    let ignored = call(Some((T, P)), json!({})).header("user-agent", "probe/1");
    let told = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}).to_string();
    let told = Call::post(told).header("x-trace-id", T).header("x-parent-span", P);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}).to_string();
    let hello = Call::post(hello).header("x-trace-id", T).header("x-parent-span", P);
    let hello = hello.header("x-mesh-timeout", "300");
    for (what, before) in [("ignored", ignored), ("notification", told), ("initialize", hello)] {
        let mut held = Held::with(PROBES, &[]).await;
        held.begin(before).await;
        held.end_any().await;
        let known = held.begin(call(Some((T, P)), json!({}))).await;
        call(Some((T, P)), json!({})).send(held.sidecar.outbound()).await;
        let span = held.spans(Side::Client).await.remove(0);
        assert_eq!(found(&span), (id_in(&known).as_str(), by(false)), "{what}");
    }
}

/// A call of an ignored request hangs under the caller, whose span it is.
#[tokio::test]
async fn ids_of_an_ignored_request_in_flight_name_its_caller() {
    let mut held = Held::with(PROBES, &[]).await;
    held.begin(call(Some((T, P)), json!({})).header("user-agent", "probe/1")).await;
    held.begin(call(Some(("3333333333333333333333333333333b", P)), json!({}))).await;
    call(Some((T, P)), json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.trace.as_str(), found(&span)), (T, (P, by(true))));
}

const PROBES: &str = "spans: { ignore: [{ user_agent: probe/* }] }";
