//! Which parent an outbound call gets from what the agent passed on, and how
//! the span says so.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::SPAN_A;
use crate::support::mesh::{
    Answer, Asked, Call, Mesh, PATIENCE, Running, Server, Side, Span, legacy_call, modern_call, result,
};

/// A sidecar whose inbound requests stay in flight until they are let go.
struct Held {
    mesh: Mesh,
    sidecar: Running,
    peer: Server,
    arrived: mpsc::Receiver<Asked>,
    go: Arc<Notify>,
    calls: tokio::task::JoinSet<u16>,
}

impl Held {
    async fn start() -> Self {
        let (sender, arrived) = mpsc::channel(16);
        let go = Arc::new(Notify::new());
        let wait = Arc::clone(&go);
        let agent = Server::start(move |asked| {
            let (sender, wait) = (sender.clone(), Arc::clone(&wait));
            async move {
                let _ = sender.send(asked.clone()).await;
                wait.notified().await;
                Answer::json(&result(&asked.id()))
            }
        });
        let (agent, peer) =
            (agent.await, Server::answering(|asked| Answer::json(&result(&asked.id()))).await);
        let mesh = Mesh::start().await;
        let sidecar = mesh.sidecar().inbound(agent.address).outbound(peer.address).start();
        // The agent lives as long as the test's runtime.
        std::mem::forget(agent);
        Held { mesh, sidecar, peer, arrived, go, calls: tokio::task::JoinSet::new() }
    }

    /// A request that is now being worked on, as the agent sees it.
    async fn begin(&mut self, call: Call) -> Asked {
        let to = self.sidecar.inbound();
        self.calls.spawn(async move { call.send(to).await.status });
        timeout(PATIENCE, self.arrived.recv()).await.unwrap().unwrap()
    }

    /// Lets one request go, and waits for its answer.
    async fn end_one(&mut self) {
        self.go.notify_one();
        assert_eq!(timeout(PATIENCE, self.calls.join_next()).await.unwrap().unwrap().unwrap(), 200);
    }

    /// Lets all go, and gives the spans of one kind.
    async fn spans(mut self, side: Side) -> Vec<Span> {
        while !self.calls.is_empty() {
            self.end_one().await;
        }
        let spans = self.mesh.stop().await;
        spans.into_iter().filter(|span| span.kind == side.kind()).collect()
    }
}

fn meta_of(asked: &Asked) -> Value {
    json!({"traceparent": asked.meta("traceparent"), "tracestate": asked.meta("tracestate")})
}

fn id_in(asked: &Asked) -> String {
    Asked::context(asked.header("traceparent").unwrap()).1.to_owned()
}

#[tokio::test]
async fn a_context_of_ours_is_the_parent_and_proved() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    let to = held.sidecar.outbound();
    legacy_call(2, meta_of(&asked)).send(to).await;
    let header = legacy_call(3, json!({})).header("traceparent", asked.header("traceparent").unwrap());
    header.header("tracestate", asked.header("tracestate").unwrap()).send(to).await;
    Call::get("/").header("traceparent", asked.header("traceparent").unwrap()).send(to).await;
    let methods = ["propagated.meta", "propagated.header", "propagated.header"];
    for (span, method) in held.spans(Side::Client).await.iter().zip(methods) {
        assert_eq!(span.parent, id_in(&asked));
        assert_eq!(span.parent_method(), (method.to_owned(), true));
        assert_eq!(span.attribute("meshtrace.parent.candidates"), Value::Null);
        assert_eq!(span.attribute("meshtrace.parent.late"), Value::Null);
    }
}

/// Among several in flight the one that is named is the parent.
#[tokio::test]
async fn the_named_one_of_many_is_the_parent() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for id in 0..4 {
        asked.push(held.begin(modern_call(id, json!({}))).await);
    }
    let to = held.sidecar.outbound();
    for asked in asked.iter().rev() {
        modern_call(10, meta_of(asked)).send(to).await;
    }
    let parents: Vec<_> = held.spans(Side::Client).await.into_iter().map(|span| span.parent).collect();
    assert_eq!(parents, asked.iter().rev().map(id_in).collect::<Vec<_>>());
}

/// An agent with a tracer of its own puts its span between; `mt` names ours.
#[tokio::test]
async fn an_agents_own_span_is_the_parent() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({"baggage": "k=v"}))).await;
    let (trace, id, _) = Asked::context(asked.header("traceparent").unwrap());
    let own = format!("00-{trace}-{SPAN_A}-01");
    legacy_call(2, json!({"traceparent": own, "tracestate": format!("x=1,mt={id}")}))
        .send(held.sidecar.outbound())
        .await;
    let sent = held.peer.last();
    let trace = trace.to_owned();
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), &span.trace), (SPAN_A, &trace));
    assert_eq!(span.parent_method(), ("propagated.meta".to_owned(), true));
    assert_eq!(span.tracestate, format!("mt={},x=1", span.id));
    // `mt` led to the request, and so to the baggage that the agent dropped.
    assert!(sent.header("baggage").unwrap().contains("k=v"));
}

#[tokio::test]
async fn nothing_in_flight_is_background() {
    let held = Held::start().await;
    legacy_call(1, json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), span.parent_method()), ("", ("background".to_owned(), false)));
    assert_eq!(span.attribute("meshtrace.parent.candidates"), Value::Null);
}

/// Several in flight and nothing said: a root of its own that says between how many.
#[tokio::test]
async fn several_in_flight_are_ambiguous() {
    let mut held = Held::start().await;
    for id in 0..3 {
        held.begin(legacy_call(id, json!({}))).await;
    }
    legacy_call(9, json!({})).send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), span.parent_method()), ("", ("ambiguous".to_owned(), false)));
    assert_eq!(span.attribute("meshtrace.parent.candidates"), json!(3));
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
    assert_eq!(span.parent_method(), ("background".to_owned(), false));
}

/// After the answer `_meta` still proves whose the call is; a header does not,
/// because it outlives its request easily.
#[tokio::test]
async fn a_late_call_has_its_parent_from_meta_alone() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    held.end_one().await;
    let to = held.sidecar.outbound();
    legacy_call(2, meta_of(&asked)).send(to).await;
    legacy_call(3, json!({})).header("traceparent", asked.header("traceparent").unwrap()).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!(
        (spans[0].parent.clone(), spans[0].parent_method()),
        (id_in(&asked), ("propagated.meta".to_owned(), true))
    );
    assert_eq!(spans[0].attribute("meshtrace.parent.late"), json!(true));
    assert_eq!((spans[1].parent.as_str(), spans[1].parent_method()), ("", ("background".to_owned(), false)));
    assert_eq!(spans[1].links.len(), 1);
    assert_eq!(
        (spans[1].links[0].id.clone(), spans[1].links[0].reason.as_str()),
        (id_in(&asked), "not_a_parent")
    );
}

/// A `_meta` that is stuck in a session does not hide what the header proves.
#[tokio::test]
async fn a_live_header_beside_a_sessions_meta_is_the_parent() {
    let mut held = Held::start().await;
    let stuck = "00-11111111111111111111111111111111-2222222222222222-01";
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"_meta": {"traceparent": stuck}}});
    held.begin(Call::post(initialize.to_string())).await;
    held.end_one().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    let call = legacy_call(2, json!({"traceparent": stuck}))
        .header("traceparent", asked.header("traceparent").unwrap());
    call.send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!(
        (span.parent.clone(), span.parent_method()),
        (id_in(&asked), ("propagated.header".to_owned(), true))
    );
}
