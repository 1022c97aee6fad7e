//! Row 8: several messages in one request. Each has its own parent, span,
//! context and answer, whatever the order in which the answers come.

use serde_json::{Value, json};

use super::watch;
use crate::support::mesh::{Answer, Asked, Call, SIDES, Side, error, is_error, result};

const ONE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TWO: &str = "00-1af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn call(id: Value, tool: &str, traceparent: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
           "params": {"name": tool, "_meta": {"traceparent": traceparent}}})
}

/// Number 1, text "1" and a notification between them.
fn batch() -> Call {
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    let messages = [call(1.into(), "first", ONE), cancelled, call("1".into(), "second", TWO)];
    // Spaces that are not ours to take away.
    let body = format!(" [ {} ,{},  {}]", messages[0], messages[1], messages[2]);
    Call::post(body).header("mcp-session-id", "s-1").header("mcp-protocol-version", "2025-03-26")
}

/// The answers, the last request's first: it failed.
fn answers() -> [Value; 2] {
    [is_error(&json!("1")), result(&json!(1))]
}

async fn check(answer: fn(&Asked) -> Answer) {
    for side in SIDES {
        let watched = watch(answer, vec![(side, batch())]).await;
        let named = |name: &str| watched.spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(watched.spans.len(), 3, "{:#?}", watched.spans);
        let (first, second) = (named("tools/call first"), named("tools/call second"));
        assert_eq!((first.parent.as_str(), second.parent.as_str()), ("b7ad6b7169203331", "00f067aa0ba902b7"));
        assert_eq!((&first.trace[..], &second.trace[..]), (&ONE[3..35], &TWO[3..35]));
        assert_eq!(first.attribute("jsonrpc.request.id"), json!("1"));
        assert_eq!((first.error_type().as_str(), second.error_type().as_str()), ("", "tool_error"));
        assert_eq!(named("notifications/cancelled").error, None);
        for span in &watched.spans {
            assert_eq!((span.kind, span.attribute("mcp.session.id")), (side.kind(), json!("s-1")));
        }
        // Each message carries its own context, and the header the first one's.
        let asked = &watched.asked[0];
        let messages = asked.json();
        let carried =
            |index: usize| messages[index]["params"]["_meta"]["traceparent"].as_str().unwrap().to_owned();
        for (index, span) in [(0, first), (2, second)] {
            assert_eq!(Asked::context(&carried(index)).0, span.trace);
            assert_eq!(Asked::context(&carried(index)).1, span.id);
        }
        assert_eq!(asked.header("traceparent"), Some(carried(0).as_str()));
        assert_eq!(asked.header("content-length"), Some(asked.body.len().to_string().as_str()));
        assert!(asked.body.starts_with(b" [ {"), "{:?}", asked.body);
    }
}

#[tokio::test]
async fn row_8_a_batch_that_is_answered_by_an_array() {
    check(|_| Answer::json(&json!(answers()))).await;
}

#[tokio::test]
async fn row_8_a_batch_that_is_answered_by_an_event_each() {
    check(|_| Answer::events(&answers())).await;
}

#[tokio::test]
async fn row_8_a_batch_that_is_answered_by_one_event() {
    check(|_| Answer::events(&[json!(answers())])).await;
}

/// An error that could not read the batch is the end of all of it.
#[tokio::test]
async fn row_8_a_refused_batch() {
    let refused = |_: &Asked| Answer::json(&error(&Value::Null, -32600, "no batches")).with_status(400);
    let watched = watch(refused, vec![(Side::Client, batch())]).await;
    let calls = watched.spans.iter().filter(|span| span.name.starts_with("tools/call"));
    let ends: Vec<_> =
        calls.map(|span| (span.error_type(), span.attribute("http.response.status_code"))).collect();
    assert_eq!(ends, vec![("-32600".to_owned(), json!(400)); 2]);
}

/// One of them is never answered.
#[tokio::test]
async fn row_8_an_answer_that_is_missing() {
    let watched = watch(|_| Answer::events(&answers()[..1]), vec![(Side::Client, batch())]).await;
    let first = watched.spans.iter().find(|span| span.name == "tools/call first").unwrap();
    assert_eq!(first.error_type(), "connection_closed");
}

/// What is no batch of MCP, or too long a one, passes as it came, as one HTTP request.
#[tokio::test]
async fn row_8_whatever_else_is_an_array_stays_http() {
    let many: Vec<_> = (0..129).map(|id| call(id.into(), "add", ONE)).collect();
    for body in [json!(many), json!([{"a": 1}]), json!([]), json!([call(1.into(), "a", ONE), 2])] {
        let body = body.to_string();
        let watched =
            watch(|_| Answer::status(202, ""), vec![(Side::Server, Call::post(body.clone()))]).await;
        assert_eq!(watched.asked[0].body, body);
        assert_eq!((watched.spans.len(), watched.spans[0].name.as_str()), (1, "POST"));
        assert_eq!(watched.spans[0].attribute("meshtrace.body"), json!("not_understood"));
    }
}
