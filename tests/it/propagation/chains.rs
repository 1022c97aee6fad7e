//! Whole paths: from a caller through an agent and two sidecars to a peer.

use std::collections::HashMap;

use serde_json::json;
use tokio::task::JoinSet;

use super::{A, SPAN_A, TRACE, ok};
use crate::support::mesh::{
    Agent, Call, Copies, Era, Mesh, Running, Server, Side, modern_call, request, tree,
};

/// An agent that calls a peer, a sidecar each. The call goes in at the first.
struct Chain {
    mesh: Mesh,
    first: Running,
    peer: Server,
    _agent: Agent,
}

impl Chain {
    async fn start(copies: Copies) -> Self {
        let mesh = Mesh::start().await;
        let (agent, peer) = (Agent::start(copies).await, Server::answering(ok).await);
        let second = mesh.sidecar().named("forecaster").inbound(peer.address).start();
        let first =
            mesh.sidecar().named("planner").inbound(agent.address()).outbound(second.inbound()).start();
        agent.calls(first.outbound());
        Chain { mesh, first, peer, _agent: agent }
    }
}

const TREE: [&str; 3] = [
    "planner SERVER tools/call add",
    "planner CLIENT tools/call forecast",
    "forecaster SERVER tools/call forecast",
];

#[tokio::test]
async fn a_call_through_two_sidecars_is_one_chain() {
    for copies in [Copies::Meta, Copies::Headers] {
        let chain = Chain::start(copies).await;
        modern_call(1, json!({})).send(chain.first.inbound()).await;
        let spans = chain.mesh.stop().await;
        assert_eq!(tree(&spans), TREE);
        // What the peer got names the last of them, with `mt` on the left.
        let asked = chain.peer.last();
        assert_eq!(asked.header("traceparent"), Some(super::traceparent(&spans[2], "03").as_str()));
        assert_eq!(asked.header("tracestate"), Some(format!("mt={},ot=th:0", spans[2].id).as_str()));
        // Each lies within its parent.
        for pair in spans.windows(2) {
            assert!(pair[0].start <= pair[1].start && pair[1].end <= pair[0].end, "{pair:#?}");
        }
    }
}

#[tokio::test]
async fn a_callers_trace_goes_all_the_way() {
    let chain = Chain::start(Copies::Meta).await;
    let call = modern_call(1, json!({"traceparent": A, "tracestate": "vendor=x y"}));
    call.send(chain.first.inbound()).await;
    let spans = chain.mesh.stop().await;
    assert!(spans.iter().all(|span| span.trace == TRACE));
    assert_eq!(spans[0].parent, SPAN_A);
    for pair in spans.windows(2) {
        assert_eq!(pair[1].parent, pair[0].id);
    }
    assert_eq!(chain.peer.last().meta("tracestate"), Some(format!("mt={},vendor=x y", spans[2].id)));
}

/// Without anything passed on, one request at a time is one trace still.
#[tokio::test]
async fn an_agent_that_passes_nothing_on_is_followed_while_it_does_one_thing() {
    let chain = Chain::start(Copies::Nothing).await;
    modern_call(1, json!({})).send(chain.first.inbound()).await;
    let spans = chain.mesh.stop().await;
    assert_eq!(tree(&spans), TREE);
    assert_eq!(spans[1].parent_method(), ("inferred.single".to_owned(), false));
}

#[tokio::test]
async fn a_hundred_calls_at_once_have_their_exact_parents() {
    for (copies, method) in [(Copies::Meta, "propagated.meta"), (Copies::Shim, "propagated.shim")] {
        let chain = Chain::start(copies).await;
        let mut calls = JoinSet::new();
        for number in 0..100 {
            let call: Call = request(Era::Modern, number.into(), "tools/call", json!({"name": "add"}));
            calls.spawn(call.send(chain.first.inbound()));
        }
        while let Some(reply) = calls.join_next().await {
            assert_eq!(reply.unwrap().status, 200);
        }
        let spans = chain.mesh.stop().await;
        assert_eq!(spans.len(), 300);
        // The agent gives its own call the id of the one that it serves.
        let id = |span: &crate::support::mesh::Span| span.attribute("jsonrpc.request.id").to_string();
        let of = |service: &str, side: Side| {
            let these = spans.iter().filter(move |span| span.service == service && span.kind == side.kind());
            these.map(|span| (id(span), span)).collect::<HashMap<_, _>>()
        };
        let (outer, calls, inner) =
            (of("planner", Side::Server), of("planner", Side::Client), of("forecaster", Side::Server));
        assert_eq!((outer.len(), calls.len(), inner.len()), (100, 100, 100));
        for (number, server) in outer {
            assert_eq!(calls[&number].parent, server.id, "{number}");
            assert_eq!(calls[&number].parent_method(), (method.to_owned(), true));
            assert_eq!(inner[&number].parent, calls[&number].id, "{number}");
            assert_eq!((&calls[&number].trace, &inner[&number].trace), (&server.trace, &server.trace));
        }
    }
}
