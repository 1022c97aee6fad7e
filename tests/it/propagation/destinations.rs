//! `propagation.to`: nothing of ours goes to a stranger, be it written by us
//! or copied by the agent from what we gave it.

use serde_json::{Value, json};

use super::{A, SPAN_A, TRACE, around, ok, pass};
use crate::support::mesh::{Agent, Asked, Call, Copies, Mesh, SIDES, Server, Side, Span, legacy_call};

/// A list that the servers of these tests, which are at 127.0.0.1, are not on.
const STRANGERS: &str = "propagation: { to: [nothing.example] }";

fn assert_nothing_of_ours(asked: &Asked) {
    for name in ["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"]
    {
        assert_eq!((asked.header(name), asked.meta(name)), (None, None), "{name} left: {asked:?}");
    }
}

#[tokio::test]
async fn a_call_to_a_stranger_has_a_span_and_carries_nothing() {
    let (span, asked) = pass(STRANGERS, &[], Side::Client, legacy_call(1, json!({}))).await;
    assert_eq!((span.kind, span.name.as_str()), ("CLIENT", "tools/call add"));
    assert_nothing_of_ours(&asked);
    let (_, asked) = pass(STRANGERS, &[], Side::Client, Call::get("/")).await;
    assert_nothing_of_ours(&asked);
}

/// Inbound is towards our own application, which the list is not about.
#[tokio::test]
async fn inbound_is_not_concerned() {
    let (span, asked) = pass(STRANGERS, &[], Side::Server, legacy_call(1, json!({}))).await;
    super::assert_written(&asked, &span, "03");
}

#[tokio::test]
async fn lists_private_and_all() {
    for (to, allowed) in [
        ("private", true),
        ("all", true),
        ("[127.0.0.1]", true),
        ("['127.*']", true),
        ("[localhost]", false),
        ("[]", false),
    ] {
        let yaml = format!("propagation: {{ to: {to} }}");
        let (_, asked) = pass(&yaml, &[], Side::Client, legacy_call(1, json!({}))).await;
        assert_eq!(asked.header("traceparent").is_some(), allowed, "{to}");
        assert_eq!(asked.meta("traceparent").is_some(), allowed, "{to}");
        assert_eq!(asked.header("baggage").is_some(), allowed, "{to}");
    }
}

/// The host that the call names decides, in any letter case.
#[tokio::test]
async fn a_forward_proxy_goes_by_the_name() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().forward().yaml("propagation: { to: ['LOCAL*'] }").start();
    for (host, allowed) in [("localhost", true), ("127.0.0.1", false)] {
        let call = legacy_call(1, json!({})).header("host", format!("{host}:{}", server.address.port()));
        call.send(sidecar.outbound()).await;
        assert_eq!(server.last().header("traceparent").is_some(), allowed, "{host}");
    }
    assert_eq!(mesh.stop().await.len(), 2);
}

/// What an agent has of its own is its own affair.
#[tokio::test]
async fn an_agents_own_context_is_left_to_it() {
    let call = legacy_call(1, json!({"traceparent": A, "tracestate": "x=1", "baggage": "k=v"}))
        .header("traceparent", A);
    let (span, asked) = pass(STRANGERS, &[], Side::Client, call).await;
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_A));
    assert_eq!((asked.header("traceparent"), asked.meta("traceparent").as_deref()), (Some(A), Some(A)));
    assert_eq!(
        (asked.meta("tracestate").as_deref(), asked.meta("baggage").as_deref()),
        (Some("x=1"), Some("k=v"))
    );
}

/// An agent that passes on what it got, to a stranger.
async fn copied(env: &[(&str, &str)], yaml: &str, copies: Copies, meta: Value) -> (Vec<Span>, Asked) {
    let mesh = Mesh::start().await;
    let stranger = Server::answering(ok).await;
    let agent = Agent::start(copies).await;
    let plan = env.iter().fold(mesh.sidecar(), |plan, (name, value)| plan.env(name, value));
    let sidecar = plan.inbound(agent.address()).outbound(stranger.address).yaml(yaml).start();
    agent.calls(sidecar.outbound());
    let reply = legacy_call(1, meta).send(sidecar.inbound()).await;
    assert_eq!(reply.status, 200);
    (mesh.stop().await, stranger.last())
}

#[tokio::test]
async fn what_an_agent_copied_of_ours_is_stripped() {
    for copies in [Copies::Meta, Copies::Headers] {
        let (spans, asked) = copied(&[], STRANGERS, copies, json!({"baggage": "user=1"})).await;
        assert_nothing_of_ours(&asked);
        // The span still hangs where it belongs: that is between us and the collector.
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[1].kind, &spans[1].parent), ("CLIENT", &spans[0].id));
    }
}

#[tokio::test]
async fn copied_b3_is_stripped() {
    for format in ["b3", "b3multi", "b3,tracecontext"] {
        let (spans, asked) =
            copied(&[("OTEL_PROPAGATORS", format)], STRANGERS, Copies::Headers, json!({})).await;
        assert_nothing_of_ours(&asked);
        assert_eq!(spans.len(), 2);
    }
}

/// A trace that nobody records is ours just the same.
#[tokio::test]
async fn copied_context_of_an_unrecorded_trace_is_stripped() {
    for copies in [Copies::Meta, Copies::Headers] {
        for meta in [json!({"baggage": "user=1"}), json!({})] {
            let (spans, asked) =
                copied(&[("OTEL_TRACES_SAMPLER", "always_off")], STRANGERS, copies, meta).await;
            assert_nothing_of_ours(&asked);
            assert_eq!(spans, []);
        }
    }
}

/// A context of ours that came late, beside one of the agent's own, or under its span.
#[tokio::test]
async fn ours_is_recognised_wherever_it_stands() {
    let (mesh, server, sidecar) = around(STRANGERS, &[]).await;
    legacy_call(1, json!({})).send(sidecar.inbound()).await;
    let ours = server.last().header("traceparent").unwrap().to_owned();
    let (_, id, _) = Asked::context(&ours);
    let late = legacy_call(2, json!({})).header("traceparent", &ours);
    let beside = legacy_call(3, json!({"traceparent": A})).header("traceparent", &ours);
    let beside_in_meta = legacy_call(4, json!({"traceparent": ours})).header("traceparent", A);
    let under = legacy_call(5, json!({"traceparent": A, "tracestate": format!("mt={id}")}));
    for call in [late, beside, beside_in_meta, under] {
        call.send(sidecar.outbound()).await;
        let asked = server.last();
        let text = format!("{:?}{}", asked.headers, String::from_utf8_lossy(&asked.body));
        assert!(!text.contains(id), "ours left: {text}");
    }
    assert_eq!(mesh.stop().await.len(), 5);
}

/// Requests that have no span are no way out either.
#[tokio::test]
async fn requests_without_a_span_carry_nothing_out() {
    let (mesh, server, sidecar) = around(STRANGERS, &[]).await;
    legacy_call(1, json!({})).send(sidecar.inbound()).await;
    let ours = server.last().header("traceparent").unwrap().to_owned();
    let ping = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{"traceparent":"{ours}"}}}}}}"#
    );
    let calls = [
        Call::get("/sse").header("accept", "text/event-stream").header("traceparent", &ours),
        Call::post(ping).header("mcp-protocol-version", "2025-06-18"),
        Call::method("DELETE", "/mcp").header("mcp-session-id", "s").header("traceparent", &ours),
    ];
    for call in calls {
        call.send(sidecar.outbound()).await;
        assert_nothing_of_ours(&server.last());
    }
    assert_eq!(mesh.stop().await.len(), 1);
}

#[tokio::test]
async fn private_is_the_default() {
    for side in SIDES {
        let (span, asked) = pass("", &[], side, legacy_call(1, json!({}))).await;
        super::assert_written(&asked, &span, "03");
    }
}
