//! Attributes that the configuration asks for.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use crate::support::mesh::{
    Agent, Answer, Asked, Call, Copies, Era, Mesh, SIDES, Server, legacy_call, request, result,
};

const YAML: &str = r#"
attributes:
  from_header: { x-customer-tier: customer.tier }
  from_baggage: { customer.id: customer.id }
  from_argument: { "weather*.location": weather.location, "*.days": weather.days, "*.deep": weather.deep }
"#;

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

fn call(tool: &str, arguments: Value) -> Call {
    request(Era::Modern, 1.into(), "tools/call", json!({"name": tool, "arguments": arguments}))
}

#[tokio::test]
async fn headers_baggage_and_arguments_are_taken_over() {
    for side in SIDES {
        let mesh = Mesh::start().await;
        let server = Server::answering(ok).await;
        let sidecar = mesh.sidecar().around(server.address).yaml(YAML).start();
        let arguments = json!({"location": "Zürich", "days": 3, "deep": {"no": 1}, "other": "no"});
        let asked = call("weather_forecast", arguments).header("X-Customer-Tier", "gold");
        asked.header("baggage", "customer.id=a%20b,k=v").send(sidecar.at(side)).await;
        let span = mesh.only_span().await;
        let found = ["customer.tier", "customer.id", "weather.location", "weather.days", "weather.deep"];
        let found = found.map(|key| span.attribute(key));
        assert_eq!(found, [json!("gold"), json!("a b"), json!("Zürich"), json!("3"), Value::Null]);
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_asked_for_is_not_set() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().inbound(server.address).yaml(YAML).start();
    call("other", json!({"location": "x"})).header("x-other", "y").send(sidecar.inbound()).await;
    let span = mesh.only_span().await;
    assert!(span.attributes.keys().all(|key| !key.starts_with("customer") && !key.starts_with("weather")));
    assert_eq!(span.attribute("gen_ai.tool.call.arguments"), Value::Null);
}

/// Baggage that the agent drops is restored, and so is its attribute.
#[tokio::test]
async fn a_call_has_the_baggage_of_the_request_that_caused_it() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let agent = Agent::start(Copies::Meta).await;
    let sidecar = mesh.sidecar().inbound(agent.address()).outbound(server.address).yaml(YAML).start();
    agent.calls(sidecar.outbound());
    legacy_call(1, json!({})).header("baggage", "customer.id=7").send(sidecar.inbound()).await;
    let spans = mesh.stop().await;
    assert_eq!(spans.len(), 2);
    assert!(spans.iter().all(|span| span.attribute("customer.id") == "7"), "{spans:#?}");
}

#[tokio::test]
async fn long_values_are_cut_and_counted() {
    let yaml = "attributes: { capture_arguments: true, from_header: { x-long: long } }";
    let (mesh, server) = (Mesh::start().await, Server::answering(ok).await);
    let sidecar = mesh.sidecar().inbound(server.address).yaml(yaml).start();
    let long = "é".repeat(3_000);
    call("add", json!({"text": long})).header("x-long", "x".repeat(5_000)).send(sidecar.inbound()).await;
    assert_eq!(mesh.metrics().proxy.attributes_cut.get(), 2);
    let span = mesh.only_span().await;
    assert_eq!(span.attribute("long"), "x".repeat(4_096));
    let arguments = span.attribute("gen_ai.tool.call.arguments");
    let arguments = arguments.as_str().unwrap();
    assert!(arguments.starts_with("{\"text\":\"éé") && (4_095..=4_096).contains(&arguments.len()));
}

/// The standard limits hold for them too.
#[tokio::test]
async fn the_standard_limits_hold() {
    let (mesh, server) = (Mesh::start().await, Server::answering(ok).await);
    let plan = mesh.sidecar().env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3").inbound(server.address);
    let sidecar = plan.yaml(YAML).start();
    call("weather", json!({"location": "Zürich"})).send(sidecar.inbound()).await;
    assert_eq!(mesh.only_span().await.attribute("weather.location"), "Zür");
}
