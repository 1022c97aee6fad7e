//! Sampling rules on real traffic, and that they change while it passes.
#![allow(clippy::unwrap_used)]

mod reload;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mesh::{
    Answer, Asked, Call, Era, Mesh, Running, SIDES, Server, Side, legacy_call, request, result,
};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

pub(crate) fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

async fn around(yaml: &str) -> (Mesh, Server, Running) {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().around(server.address).yaml(yaml).start();
    (mesh, server, sidecar)
}

/// Rules that keep what one condition holds for, and drop everything else.
fn only(condition: &str) -> String {
    format!("sampling: {{ rules: [{{ {condition}, sample: 100% }}, {{ sample: 0% }}] }}")
}

fn tool(name: &str) -> Call {
    request(Era::Legacy, 1.into(), "tools/call", json!({"name": name}))
}

/// Each kind of condition, a request that it holds for, and one that it does not.
#[tokio::test]
async fn every_condition_is_looked_for_where_it_stands() {
    let of = |method: &str, params: Value| request(Era::Modern, 1.into(), method, params);
    let get = || Call::get("/health?x=1");
    let cases: Vec<(&str, Side, Call, Call)> = vec![
        ("tool: ['create_*']", Side::Server, tool("create_user"), tool("add")),
        ("tool: add", Side::Client, tool("add"), of("prompts/get", json!({"name": "add"}))),
        ("prompt: greet", Side::Server, of("prompts/get", json!({"name": "greet"})), tool("greet")),
        (
            "resource: 'file:///a/*'",
            Side::Server,
            of("resources/read", json!({"uri": "file:///a/b"})),
            of("resources/read", json!({"uri": "file:///b"})),
        ),
        ("method: 'tools/*'", Side::Client, of("tools/list", json!({})), of("prompts/list", json!({}))),
        ("path: /health", Side::Server, get(), Call::get("/other")),
        ("host: '*.svc'", Side::Server, get().header("host", "a.SVC:80"), get().header("host", "a.com")),
        ("host: '::1'", Side::Server, get().header("host", "[::1]:80"), get().header("host", "[::2]")),
        ("header: { x-tier: gold }", Side::Server, get().header("X-Tier", "gold"), get()),
        (
            "baggage: { customer.id: 'a b' }",
            Side::Server,
            get().header("baggage", "k=v,customer.id=a%20b"),
            get().header("baggage", "customer.id=ab"),
        ),
        (
            "peer: caller",
            Side::Server,
            get().header("baggage", "mcp.mesh.agent=caller"),
            get().header("baggage", "mcp.mesh.agent=other"),
        ),
    ];
    for (condition, side, holds, fails) in cases {
        let (mesh, _server, sidecar) = around(&only(condition)).await;
        fails.send(sidecar.at(side)).await;
        holds.send(sidecar.at(side)).await;
        assert_eq!(mesh.stop().await.len(), 1, "{condition}");
    }
    for (condition, spans) in [("peer: '127.0.0.*'", 2), ("peer: 10.0.0.1", 0), ("host: 127.0.0.1", 2)] {
        let (mesh, _server, sidecar) = around(&only(condition)).await;
        for side in SIDES {
            get().send(sidecar.at(side)).await;
        }
        assert_eq!(mesh.stop().await.len(), spans, "{condition}");
    }
}

#[tokio::test]
async fn a_rule_is_for_its_agent_and_the_first_one_decides() {
    let yaml =
        "sampling: { rules: [{ agent: pay, sample: 0% }, { agent: [a*, b], sample: 100% }, { sample: 0% }] }";
    for (service, spans) in [("agent", 1), ("b", 1), ("pay", 0), ("other", 0)] {
        let mesh = Mesh::start().await;
        let server = Server::answering(ok).await;
        let sidecar = mesh.sidecar().named(service).inbound(server.address).yaml(yaml).start();
        tool("add").send(sidecar.inbound()).await;
        assert_eq!(mesh.stop().await.len(), spans, "{service}");
    }
}

/// Since 2026-07-28 headers name the tool, also where the body is too large to be read.
#[tokio::test]
async fn headers_suffice() {
    let yaml = format!("{}\nlimits: {{ body_bytes: 100B }}", only("tool: deploy"));
    let (mesh, _server, sidecar) = around(&yaml).await;
    for name in ["deploy", "add"] {
        let params = json!({"name": name, "arguments": {"text": "x".repeat(1_000)}});
        request(Era::Modern, 1.into(), "tools/call", params).send(sidecar.inbound()).await;
    }
    let span = mesh.only_span().await;
    assert_eq!(
        (span.name.as_str(), span.attribute("meshtrace.body")),
        ("tools/call deploy", "too_large".into())
    );
}

#[tokio::test]
async fn a_parent_decides_unless_a_rule_takes_roots_of_its_own() {
    let with = |context: &str| legacy_call(1, json!({"traceparent": context}));
    let drops = "sampling: { rules: [{ sample: 0% }] }";
    let keeps = "sampling: { rules: [{ sample: 100%, root: true }] }";
    for (yaml, context, spans) in [(drops, SAMPLED, 1), (keeps, UNSAMPLED, 1), (drops, UNSAMPLED, 0)] {
        for side in SIDES {
            let (mesh, _server, sidecar) = around(yaml).await;
            with(context).send(sidecar.at(side)).await;
            assert_eq!(mesh.stop().await.len(), spans, "{yaml} {context}");
        }
    }
    let (mesh, server, sidecar) = around("sampling: { rules: [{ sample: 0%, root: true }] }").await;
    with(SAMPLED).send(sidecar.inbound()).await;
    assert_eq!(mesh.stop().await, []);
    assert!(server.last().header("traceparent").unwrap().ends_with("-00"), "what follows decides alike");
}

/// A share is said in `ot`, a rate is not.
#[tokio::test]
async fn the_share_is_written_where_it_is_known() {
    let cases = [
        ("sample: 100%", 20, Some("ot=th:0")),
        ("traces_per_second: 5", 5, None),
        ("sample: 100%, traces_per_second: 5", 5, None),
    ];
    for (rule, spans, state) in cases {
        let (mesh, server, sidecar) = around(&format!("sampling: {{ rules: [{{ {rule} }}] }}")).await;
        let started = std::time::Instant::now();
        Call::send_in_turn((0..20).map(|_| Call::get("/")).collect(), sidecar.inbound()).await;
        let most = spans + (started.elapsed().as_secs_f64() * 5.0) as usize;
        let got = mesh.stop().await;
        assert!((spans..=most.min(20)).contains(&got.len()), "{rule}: {}", got.len());
        let first = server.asked()[0].header("tracestate").unwrap().to_owned();
        assert_eq!(first.split_once(',').map(|(_, rest)| rest), state, "{rule}");
    }
}

/// A chain of sidecars with one and the same rule keeps the same traces, whole.
#[tokio::test]
async fn sidecars_agree_on_a_share() {
    const CALLS: usize = 200;
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let yaml = "sampling: { rules: [{ sample: 25%, root: true }] }";
    let plan = |name: &str| mesh.sidecar().named(name).yaml(yaml);
    let second = plan("second").inbound(server.address).start();
    let first = plan("first").inbound(second.inbound()).start();
    Call::send_in_turn((0..CALLS).map(|_| Call::get("/")).collect(), first.inbound()).await;
    let spans = mesh.stop().await;
    let traces: std::collections::HashMap<_, usize> =
        spans.iter().fold(Default::default(), |mut all: std::collections::HashMap<_, _>, span| {
            *all.entry(span.trace.clone()).or_default() += 1;
            all
        });
    assert!(traces.values().all(|count| *count == 2), "{traces:?}");
    // Five standard deviations of a binomial around 50.
    assert!((20..=80).contains(&traces.len()), "{}", traces.len());
}

/// The rate over all holds for what begins here, over both sides.
#[tokio::test]
async fn no_more_traces_begin_than_allowed() {
    let (mesh, _server, sidecar) =
        around("sampling: { max_traces_per_second: 0.001, rules: [{ sample: 100% }] }").await;
    for side in SIDES {
        Call::send_in_turn((0..5).map(|_| Call::get("/")).collect(), sidecar.at(side)).await;
    }
    let calls = (0..5).map(|_| Call::get("/").header("traceparent", SAMPLED));
    Call::send_in_turn(calls.collect(), sidecar.inbound()).await;
    tokio::time::sleep(Duration::ZERO).await;
    assert_eq!(mesh.stop().await.len(), 1 + 5, "one that began here, and those that follow their parent");
}
