//! Rows 9, 15, 22, 23 and 29: what belongs to a session rather than to one
//! call of it. Nothing of ours may stay behind in the agent from there.

use serde_json::{Value, json};

use super::{Stage, watch};
use crate::support::mesh::{
    Answer, Asked, Call, Era, SIDES, Side, error, expected, legacy_call, notification, request, result,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn initialize(meta: Value) -> Call {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}, "_meta": meta});
    Call::post(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string())
}

fn initialized(asked: &Asked) -> Value {
    json!({"jsonrpc": "2.0", "id": asked.id(), "result": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}})
}

fn server(asked: &Asked) -> Answer {
    match asked.json()["method"].as_str() {
        Some("initialize") => Answer::json(&initialized(asked)).header("mcp-session-id", "s-new"),
        Some(method) if method.starts_with("notifications/") => Answer::status(202, ""),
        _ => Answer::json(&result(&asked.id())),
    }
}

#[tokio::test]
async fn row_22_initialize_learns_version_and_session_from_the_reply() {
    let scripts: [fn(&Asked) -> Answer; 2] =
        [server, |asked| Answer::events(&[initialized(asked)]).header("mcp-session-id", "s-new")];
    for side in SIDES {
        for script in scripts {
            let watched = watch(script, vec![(side, initialize(json!({})))]).await;
            let span = &watched.spans[0];
            assert_eq!((span.name.as_str(), span.kind, watched.spans.len()), ("initialize", side.kind(), 1));
            let message = json!({
                "mcp.method.name": "initialize", "jsonrpc.request.id": "0",
                "mcp.protocol.version": "2025-06-18", "mcp.session.id": "s-new",
            });
            assert_eq!(span.all_attributes(), expected(side, &watched.replies[0], watched.server, message));
        }
    }
}

/// Later requests of the session need not say the revision; before 2025-06-18 none does.
#[tokio::test]
async fn row_22_later_spans_have_the_revision_of_the_session() {
    let call = |session: &'static str| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
        Call::post(message.to_string()).header("mcp-session-id", session)
    };
    for side in SIDES {
        let calls = vec![(side, initialize(json!({}))), (side, call("s-new")), (side, call("s-other"))];
        let watched = watch(server, calls).await;
        let versions: Vec<_> =
            watched.spans.iter().map(|span| span.attribute("mcp.protocol.version")).collect();
        assert_eq!(versions, [json!("2025-06-18"), json!("2025-06-18"), Value::Null]);
        assert_eq!(watched.spans[1].attribute("mcp.session.id"), json!("s-new"));
    }
}

/// Neither a refusal nor a JSON-RPC error teaches a session, and its end forgets it.
#[tokio::test]
async fn row_23_what_ends_a_session_drops_what_is_known_of_it() {
    let call = || {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
        Call::post(message.to_string()).header("mcp-session-id", "s-new")
    };
    let delete = Call::method("DELETE", "/mcp").header("mcp-session-id", "s-new");
    let gone = call().header("x-gone", "1");
    let refused = Call::post(
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"refuse": 1}}).to_string(),
    );
    let script = |asked: &Asked| match (asked.method.as_str(), asked.header("x-gone")) {
        ("DELETE", _) => Answer::status(204, ""),
        (_, Some(_)) => Answer::status(404, ""),
        _ if asked.json()["params"]["refuse"] == 1 => {
            Answer::json(&error(&asked.id(), -32000, "no")).header("mcp-session-id", "s-new")
        }
        _ => server(asked),
    };
    for end in [delete, gone] {
        for side in SIDES {
            let calls = [initialize(json!({})), call(), end.clone(), call(), refused.clone(), call()];
            let watched = watch(script, calls.map(|call| (side, call)).into()).await;
            let versions: Vec<_> = watched
                .spans
                .iter()
                .filter(|span| span.name == "tools/call add" && span.error_type() != "404")
                .filter(|span| span.attribute("http.response.status_code") != json!(404))
                .map(|span| span.attribute("mcp.protocol.version"))
                .collect();
            assert_eq!(versions, [json!("2025-06-18"), Value::Null, Value::Null], "{side:?}");
        }
    }
}

/// A server may not let its clients end sessions.
#[tokio::test]
async fn row_23_a_session_goes_on_whose_end_is_refused() {
    let script = |asked: &Asked| match asked.method.as_str() {
        "DELETE" => Answer::status(405, ""),
        _ => server(asked),
    };
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
    let call = Call::post(call.to_string()).header("mcp-session-id", "s-new");
    let delete = Call::method("DELETE", "/mcp").header("mcp-session-id", "s-new");
    for side in SIDES {
        let calls = [initialize(json!({})), delete.clone(), call.clone()];
        let watched = watch(script, calls.map(|call| (side, call)).into()).await;
        assert_eq!(watched.spans[1].attribute("mcp.protocol.version"), json!("2025-06-18"), "{side:?}");
    }
}

/// A refused `initialize` may carry the id of a session that never was.
#[tokio::test]
async fn row_22_an_error_teaches_no_session() {
    let script = |_: &Asked| Answer::status(400, "no").header("mcp-session-id", "s-discarded");
    let watched = watch(script, vec![(Side::Client, initialize(json!({})))]).await;
    assert_eq!(watched.spans[0].attribute("mcp.session.id"), Value::Null);
    assert_eq!(watched.spans[0].attribute("mcp.protocol.version"), json!("2025-11-25"));
    assert_eq!(watched.spans[0].error_type(), "400");
}

/// What is known of a session stays known where a later `initialize` in it is an error.
#[tokio::test]
async fn row_22_a_json_rpc_error_teaches_nothing_of_a_session() {
    let script = |asked: &Asked| match asked.json()["params"]["refuse"].as_u64() {
        Some(_) => {
            Answer::json(&error(&asked.id(), -32000, "initialized already")).header("mcp-session-id", "s-new")
        }
        None => server(asked),
    };
    let refused = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"refuse": 1}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
    let call = Call::post(call.to_string()).header("mcp-session-id", "s-new");
    for side in SIDES {
        let calls = [initialize(json!({})), Call::post(refused.to_string()), call.clone()];
        let watched = watch(script, calls.map(|call| (side, call)).into()).await;
        assert_eq!(watched.spans[1].error_type(), "-32000");
        assert_eq!(watched.spans[2].attribute("mcp.protocol.version"), json!("2025-06-18"), "{side:?}");
    }
}

/// To a peer it carries its CLIENT span like any request, in both carriers.
#[tokio::test]
async fn row_22_initialize_to_a_peer_carries_its_span() {
    for meta in [json!({}), json!({"traceparent": CALLER})] {
        let watched = watch(server, vec![(Side::Client, initialize(meta))]).await;
        let (asked, span) = (&watched.asked[0], &watched.spans[0]);
        for carried in [asked.header("traceparent").map(str::to_owned), asked.meta("traceparent")] {
            let carried = carried.expect("context");
            let (trace, id, _) = Asked::context(&carried);
            assert_eq!((trace, id), (span.trace.as_str(), span.id.as_str()));
        }
    }
}

/// Inbound: the caller's context stays as it came, in both carriers; ours is not there.
#[tokio::test]
async fn row_22_initialize_carries_only_the_callers_context_to_the_agent() {
    let state = "caller=1";
    let with = initialize(json!({"traceparent": CALLER, "tracestate": state, "baggage": "k=v"}))
        .header("traceparent", CALLER)
        .header("tracestate", state)
        .header("baggage", "k=v");
    let without = initialize(json!({}));
    let watched = watch(server, vec![(Side::Server, with), (Side::Server, without)]).await;
    let (first, second) = (&watched.asked[0], &watched.asked[1]);
    for carried in [first.header("traceparent").map(str::to_owned), first.meta("traceparent")] {
        assert_eq!(carried.as_deref(), Some(CALLER));
    }
    for carried in [first.header("tracestate").map(str::to_owned), first.meta("tracestate")] {
        assert_eq!(carried.as_deref(), Some(state));
    }
    assert_eq!(first.header("baggage"), Some("k=v"));
    for name in ["traceparent", "tracestate", "baggage"] {
        assert_eq!((second.header(name), second.meta(name)), (None, None), "{name}");
    }
    assert_eq!(watched.spans[0].parent, "b7ad6b7169203331", "the span itself continues the trace");
    assert_eq!(watched.spans[0].trace, TRACE);
    assert_eq!(watched.spans[1].parent, "");
}

/// A later call that carries the context of the session does not hang under it.
#[tokio::test]
async fn row_22_the_context_of_a_session_is_never_a_parent() {
    let stage = Stage::set("", server).await;
    initialize(json!({"traceparent": CALLER}))
        .header("traceparent", OTHER)
        .send(stage.sidecar.inbound())
        .await;
    // Whichever carrier the agent's instrumentation inherited from, and whichever it uses.
    let (meta, plain) = (json!({"traceparent": CALLER}), json!({}));
    legacy_call(1, meta).send(stage.sidecar.outbound()).await;
    legacy_call(2, plain.clone()).header("traceparent", CALLER).send(stage.sidecar.outbound()).await;
    legacy_call(3, plain).header("traceparent", OTHER).send(stage.sidecar.outbound()).await;
    let spans = stage.mesh.stop().await;
    assert_eq!(spans.len(), 4);
    for span in &spans[1..] {
        assert_eq!(span.parent, "", "{span:#?}");
        assert_ne!(span.trace, TRACE);
        assert_eq!(span.parent_method(), ("background".to_owned(), false));
        assert_eq!(span.links.len(), 1);
    }
}

#[tokio::test]
async fn row_9_notifications() {
    for side in SIDES {
        let names =
            ["notifications/initialized", "notifications/cancelled", "notifications/roots/list_changed"];
        let calls = names.map(|name| (side, notification(name, json!({"requestId": 1}))));
        let watched = watch(server, calls.into()).await;
        assert_eq!(watched.spans.len(), names.len());
        for (index, name) in names.iter().enumerate() {
            let span = &watched.spans[index];
            let message = json!({"mcp.method.name": name, "mcp.protocol.version": "2025-06-18", "mcp.session.id": "s-1"});
            assert_eq!((span.name.as_str(), span.kind), (*name, side.kind()));
            assert_eq!(
                span.all_attributes(),
                expected(side, &watched.replies[index], watched.server, message)
            );
            assert_eq!(span.error, None);
            assert_eq!(watched.replies[index].status, 202);
        }
    }
}

#[tokio::test]
async fn row_9_a_refused_notification() {
    for side in SIDES {
        for status in [400, 404, 500] {
            let script = move |_: &Asked| Answer::status(status, "");
            let watched =
                watch(script, vec![(side, notification("notifications/initialized", json!({})))]).await;
            let span = &watched.spans[0];
            assert_eq!(span.attribute("http.response.status_code"), json!(status));
            assert_eq!(span.error.is_some(), side == Side::Client || status >= 500, "{span:#?}");
        }
    }
}

/// Inbound a notification keeps the caller's context; outbound it gets its CLIENT span's.
#[tokio::test]
async fn row_9_notifications_carry_ours_only_to_peers() {
    let call = || {
        notification("notifications/initialized", json!({"_meta": {"traceparent": CALLER}}))
            .header("traceparent", CALLER)
    };
    let watched = watch(server, vec![(Side::Server, call()), (Side::Client, call())]).await;
    let inbound = &watched.asked[0];
    assert_eq!(
        (inbound.header("traceparent"), inbound.meta("traceparent").as_deref()),
        (Some(CALLER), Some(CALLER))
    );
    assert_eq!(watched.spans[0].parent, "b7ad6b7169203331");
    let outbound = &watched.asked[1];
    let wanted = format!("00-{}-{}-0", watched.spans[1].trace, watched.spans[1].id);
    assert!(outbound.header("traceparent").unwrap().starts_with(&wanted));
    assert_eq!(outbound.header("traceparent").map(str::to_owned), outbound.meta("traceparent"));
    // The notification's own context was a session's from then on.
    assert_eq!(watched.spans[1].parent, "");
}

/// Streams, ends of sessions and answers to the server have no span, and pass as they came.
#[tokio::test]
async fn row_15_streams_and_ends_of_sessions_have_no_span() {
    let answer = json!({"jsonrpc": "2.0", "id": 5, "result": {}}).to_string();
    for side in SIDES {
        let script = |asked: &Asked| match asked.method.as_str() {
            "GET" => Answer::events(&[json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})]),
            _ => Answer::status(202, ""),
        };
        let calls = vec![
            Call::get("/mcp").header("accept", "text/event-stream").header("mcp-session-id", "s-1"),
            Call::get("/sse").header("accept", "text/event-stream"),
            Call::get("/mcp").header("accept", "text/event-stream").header("last-event-id", "7"),
            Call::method("DELETE", "/mcp").header("mcp-session-id", "s-1"),
            Call::post(answer.clone()).header("mcp-session-id", "s-1"),
        ];
        let with_context = calls.into_iter().map(|call| (side, call.header("traceparent", CALLER)));
        let watched = watch(script, with_context.collect()).await;
        assert_eq!(watched.spans, []);
        assert_eq!(watched.asked.len(), 5);
        for asked in &watched.asked {
            assert_eq!(asked.header("traceparent"), Some(CALLER));
            assert_eq!((asked.header("tracestate"), asked.header("baggage")), (None, None));
        }
    }
}

#[tokio::test]
async fn row_29_ping_has_no_span_and_discovery_has() {
    for side in SIDES {
        let methods = ["ping", "tools/list", "server/discover"];
        let calls = methods.map(|method| (side, request(Era::Modern, 1.into(), method, json!({}))));
        let watched = watch(server, calls.into()).await;
        let names: Vec<_> = watched.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["tools/list", "server/discover"]);
        let message = json!({"mcp.method.name": "tools/list", "jsonrpc.request.id": "1", "mcp.protocol.version": "2026-07-28"});
        assert_eq!(
            watched.spans[0].all_attributes(),
            expected(side, &watched.replies[1], watched.server, message)
        );
    }
}

/// An ignored request passes with the context that it came with.
#[tokio::test]
async fn row_29_a_ping_passes_untouched() {
    let body = format!(
        r#"{{ "id": 1 ,"jsonrpc":"2.0", "method":"ping","params":{{"_meta":{{"traceparent":"{CALLER}"}}}}}}"#
    );
    let ping = Call::post(body.clone()).header("traceparent", OTHER);
    let watched = watch(server, vec![(Side::Server, ping)]).await;
    assert_eq!(watched.asked[0].body, body);
    assert_eq!(watched.asked[0].header("traceparent"), Some(OTHER));
}
