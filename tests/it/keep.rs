//! What the decision dropped and what is sent all the same, for how it ended.
#![allow(clippy::unwrap_used)]

mod chain;
mod neighbours;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mesh::{
    Agent, Answer, Asked, Call, Copies, Era, Mesh, SIDES, Server, error, is_error, modern_call, request,
    result,
};

const KEEP: &str = "sampling: { rules: [{ sample: 0% }], keep: { errors: true } }";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

#[tokio::test]
async fn what_failed_is_kept_and_says_why() {
    type Case = (fn(&Asked) -> Answer, bool);
    let cases: [Case; 8] = [
        (ok, false),
        (|a| Answer::events(&[result(&a.id())]), false),
        (|a| Answer::json(&is_error(&a.id())), true),
        (|a| Answer::events(&[is_error(&a.id())]), true),
        (|a| Answer::json(&error(&a.id(), -32602, "x")), true),
        (|_| Answer::status(500, ""), true),
        (|_| Answer::status(404, ""), true),
        (|_| Answer::close(), true),
    ];
    for (answer, kept) in cases {
        for side in SIDES {
            let mesh = Mesh::start().await;
            let server = Server::answering(answer).await;
            let sidecar = mesh.sidecar().around(server.address).yaml(KEEP).start();
            modern_call(1, json!({"traceparent": UNSAMPLED})).send(sidecar.at(side)).await;
            let spans = mesh.stop().await;
            assert_eq!(spans.len(), usize::from(kept), "{spans:?}");
            if let [span] = &spans[..] {
                assert_eq!(span.attribute("meshtrace.sampling.reason"), "error");
                assert_eq!(
                    (span.trace.as_str(), span.parent.as_str()),
                    (&UNSAMPLED[3..35], &UNSAMPLED[36..52])
                );
                assert_eq!(span.flags & 1, 0, "it was not sampled, and nobody behind it was told so");
            }
        }
    }
}

#[tokio::test]
async fn what_was_slow_is_kept() {
    let mesh = Mesh::start().await;
    let server = Server::start(|asked| async move {
        if asked.json()["params"]["name"] == "slow" {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        ok(&asked)
    });
    let server = server.await;
    let yaml = "sampling: { rules: [{ sample: 0% }], keep: { slower_than: 50ms } }";
    let sidecar = mesh.sidecar().inbound(server.address).yaml(yaml).start();
    request(Era::Modern, 1.into(), "tools/call", json!({"name": "slow"})).send(sidecar.inbound()).await;
    let span = mesh.only_span().await;
    assert_eq!(span.attribute("meshtrace.sampling.reason"), "slow");
    assert_eq!(span.name, "tools/call slow");
}

/// A sampled span needs no reason, and without `keep` nothing is kept.
#[tokio::test]
async fn a_sampled_span_gives_no_reason() {
    for (yaml, spans) in [
        ("sampling: { rules: [{ sample: 100% }], keep: { errors: true } }", 1),
        ("sampling: { rules: [{ sample: 0% }] }", 0),
        ("sampling: { rules: [{ sample: 0% }], keep: { errors: false } }", 0),
    ] {
        let mesh = Mesh::start().await;
        let server = Server::answering(|a| Answer::json(&is_error(&a.id()))).await;
        let sidecar = mesh.sidecar().inbound(server.address).yaml(yaml).start();
        modern_call(1, json!({})).send(sidecar.inbound()).await;
        let got = mesh.stop().await;
        assert_eq!(got.len(), spans, "{yaml}");
        assert!(got.iter().all(|span| span.attribute("meshtrace.sampling.reason") == Value::Null));
    }
}

/// The spans that two sidecars keep of one failed call hang together.
#[tokio::test]
async fn kept_spans_of_one_trace_hang_together() {
    let mesh = Mesh::start().await;
    let failing = Server::answering(|_| Answer::status(500, "")).await;
    let agent = Agent::start(Copies::Meta).await;
    let last = mesh.sidecar().named("last").inbound(failing.address).yaml(KEEP).start();
    let first =
        mesh.sidecar().named("first").inbound(agent.address()).outbound(last.inbound()).yaml(KEEP).start();
    agent.calls(first.outbound());
    let call = modern_call(1, json!({}));
    // The agent of the test breaks off when its call fails.
    drop(call.try_open(first.inbound()).await);
    let spans = mesh.stop().await;
    let of =
        |service: &str, kind: &str| spans.iter().find(|s| s.service == service && s.kind == kind).unwrap();
    let (server, client, far) = (of("first", "SERVER"), of("first", "CLIENT"), of("last", "SERVER"));
    assert_eq!((&client.parent, &far.parent), (&server.id, &client.id), "{spans:#?}");
    assert_eq!((&client.trace, &far.trace), (&server.trace, &server.trace));
}

/// A change of the outcome's rules takes over like any other.
#[tokio::test]
async fn keep_can_be_switched_on_while_it_runs() {
    let mesh = Mesh::start().await;
    let server = Server::answering(|_| Answer::status(500, "")).await;
    let sidecar =
        mesh.sidecar().inbound(server.address).yaml("sampling: { rules: [{ sample: 0% }] }").start();
    Call::get("/one").send(sidecar.inbound()).await;
    mesh.reload(&sidecar, KEEP).await;
    Call::get("/two").send(sidecar.inbound()).await;
    assert_eq!(mesh.only_span().await.attribute("url.path"), "/two");
}

/// An agent that gets over a failed call: the rest of the trace in this pod comes along.
#[tokio::test]
async fn the_spans_around_a_kept_one_come_along() {
    let mesh = Mesh::start().await;
    let failing = Server::answering(|a| match a.json()["params"]["name"] == "bad" {
        true => Answer::json(&is_error(&a.id())),
        false => ok(a),
    });
    let failing = failing.await;
    let outbound = std::sync::Arc::new(std::sync::OnceLock::<std::net::SocketAddr>::new());
    let to = std::sync::Arc::clone(&outbound);
    let agent = Server::start(move |asked| {
        let to = *to.get().unwrap();
        async move {
            let context = json!({"traceparent": asked.meta("traceparent").unwrap()});
            for tool in ["good", asked.json()["params"]["name"].as_str().unwrap()] {
                let params = json!({"name": tool, "_meta": context.clone()});
                request(Era::Modern, 1.into(), "tools/call", params).send(to).await;
            }
            ok(&asked)
        }
    });
    let agent = agent.await;
    let sidecar = mesh.sidecar().inbound(agent.address).outbound(failing.address).yaml(KEEP).start();
    outbound.set(sidecar.outbound()).unwrap();
    for tool in ["fine", "bad"] {
        request(Era::Modern, 1.into(), "tools/call", json!({"name": tool})).send(sidecar.inbound()).await;
    }
    let spans = mesh.stop().await;
    let mut said: Vec<_> = spans
        .iter()
        .map(|s| {
            (s.kind, s.name.as_str(), s.attribute("meshtrace.sampling.reason").as_str().unwrap().to_owned())
        })
        .collect();
    said.sort();
    let expect = [
        ("CLIENT", "tools/call bad", "error"),
        ("CLIENT", "tools/call good", "trace"),
        ("SERVER", "tools/call bad", "trace"),
    ];
    assert_eq!(said, expect.map(|(kind, name, reason)| (kind, name, reason.to_owned())));
}
