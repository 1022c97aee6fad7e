//! Baggage: read where it comes in, restored where the agent dropped it, and
//! extended by the agent's name. It has nothing to do with recording.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::mesh::{
    Agent, Answer, Asked, Call, Copies, Mesh, Running, Server, Side, legacy_call, notification, result,
};

const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// One call through one side of a sidecar, and what arrived.
async fn pass(yaml: &str, side: Side, call: Call) -> Asked {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().named("planner").around(server.address).yaml(yaml).start();
    call.send(sidecar.at(side)).await;
    mesh.stop().await;
    server.last()
}

fn carried(asked: &Asked) -> (Option<&str>, Option<String>) {
    (asked.header("baggage"), asked.meta("baggage"))
}

fn in_both(baggage: &str) -> (Option<&str>, Option<String>) {
    (Some(baggage), Some(baggage.to_owned()))
}

/// An agent that drops baggage, its sidecar, and the peer behind it.
struct Path {
    mesh: Mesh,
    sidecar: Running,
    peer: Server,
    _agent: Agent,
}

impl Path {
    async fn start(copies: Copies, env: &[(&str, &str)]) -> Self {
        let mesh = Mesh::start().await;
        let (agent, peer) = (Agent::start(copies).await, Server::answering(ok).await);
        let plan =
            env.iter().fold(mesh.sidecar().named("planner"), |plan, (name, value)| plan.env(name, value));
        let sidecar = plan.inbound(agent.address()).outbound(peer.address).start();
        agent.calls(sidecar.outbound());
        Path { mesh, sidecar, peer, _agent: agent }
    }
}

#[tokio::test]
async fn inbound_baggage_reaches_both_carriers_as_it_came() {
    let baggage = "user=%C3%A9,user=2,k=v;prop;p=1";
    for call in
        [legacy_call(1, json!({"baggage": baggage})), legacy_call(1, json!({})).header("baggage", baggage)]
    {
        assert_eq!(carried(&pass("", Side::Server, call).await), in_both(baggage));
    }
    // Nothing of ours is added on the way in, and nothing is made of nothing.
    assert_eq!(carried(&pass("", Side::Server, legacy_call(1, json!({}))).await), (None, None));
}

/// A header that nothing forces us to change keeps its bytes.
#[tokio::test]
async fn an_inbound_header_keeps_its_spelling() {
    let call = Call::get("/").header("baggage", "a=1 ,\tb=2;p");
    assert_eq!(pass("", Side::Server, call).await.header("baggage"), Some("a=1 ,\tb=2;p"));
    let call = Call::get("/").header("baggage", "a=1").header("x", "y").header("baggage", "b=2");
    let asked = pass("", Side::Server, call).await;
    let values: Vec<_> = asked.headers.get_all("baggage").iter().collect();
    assert_eq!(values, ["a=1", "b=2"]);
}

#[tokio::test]
async fn meta_wins_where_it_has_the_key_and_nothing_is_mixed() {
    let call = legacy_call(1, json!({"baggage": "m=1"})).header("baggage", "h=1");
    assert_eq!(carried(&pass("", Side::Server, call.clone()).await), in_both("m=1"));
    assert_eq!(carried(&pass("", Side::Client, call).await), in_both("m=1,mcp.mesh.agent=planner"));
    // A value that is no string is no value.
    let call = legacy_call(1, json!({"baggage": 5})).header("baggage", "h=1");
    assert_eq!(carried(&pass("", Side::Server, call).await), in_both("h=1"));
}

#[tokio::test]
async fn outbound_calls_name_the_agent() {
    assert_eq!(
        carried(&pass("", Side::Client, legacy_call(1, json!({}))).await),
        in_both("mcp.mesh.agent=planner")
    );
    assert_eq!(
        pass("", Side::Client, Call::get("/")).await.header("baggage"),
        Some("mcp.mesh.agent=planner")
    );
    // The nearest agent's name takes the place of another's.
    let call = legacy_call(1, json!({"baggage": "a=1,mcp.mesh.agent=other,b=2"}));
    assert_eq!(carried(&pass("", Side::Client, call).await), in_both("a=1,mcp.mesh.agent=planner,b=2"));
    // Notifications are calls to a peer as well.
    let asked = pass("", Side::Client, notification("notifications/initialized", json!({}))).await;
    assert_eq!(asked.header("baggage"), Some("mcp.mesh.agent=planner"));
}

#[tokio::test]
async fn what_is_set_can_be_chosen() {
    let yaml = "propagation: { baggage: { set: { team: 'a, b', from: '${service.name}!' } } }";
    let asked = pass(yaml, Side::Client, legacy_call(1, json!({}))).await;
    let baggage = asked.header("baggage").unwrap();
    let members: Vec<&str> = baggage.split(',').collect();
    assert_eq!(members.len(), 2, "{baggage}");
    assert!(members.contains(&"from=planner!") && members.contains(&"team=a%2C%20b"), "{baggage}");
    let none = "propagation: { baggage: { set: {} } }";
    assert_eq!(
        carried(&pass(none, Side::Client, legacy_call(1, json!({}))).await),
        (None, None),
        "never an empty one"
    );
}

#[tokio::test]
async fn a_name_beyond_ascii_is_encoded() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().named("wetter ü").outbound(server.address).start();
    legacy_call(1, json!({})).send(sidecar.outbound()).await;
    assert_eq!(carried(&server.last()), in_both("mcp.mesh.agent=wetter%20%C3%BC"));
    assert_eq!(mesh.stop().await.len(), 1);
}

#[tokio::test]
async fn what_the_agent_drops_is_restored() {
    for copies in [Copies::Meta, Copies::Headers] {
        for call in [
            legacy_call(1, json!({"baggage": "user=7;p"})),
            legacy_call(1, json!({})).header("baggage", "user=7;p"),
        ] {
            let path = Path::start(copies, &[]).await;
            call.send(path.sidecar.inbound()).await;
            assert_eq!(carried(&path.peer.last()), in_both("user=7;p,mcp.mesh.agent=planner"));
            assert_eq!(path.mesh.stop().await.len(), 2);
        }
    }
}

/// Whose baggage it is, is known by the parent's id. Where the parent is inferred, nothing is guessed of whose it is.
#[tokio::test]
async fn nothing_is_restored_for_an_inferred_parent() {
    let path = Path::start(Copies::Nothing, &[]).await;
    legacy_call(1, json!({"baggage": "user=7"})).send(path.sidecar.inbound()).await;
    assert_eq!(carried(&path.peer.last()), in_both("mcp.mesh.agent=planner"));
    assert_eq!(path.mesh.stop().await.len(), 2);
}

#[tokio::test]
async fn many_at_once_keep_their_own() {
    let path = Path::start(Copies::Meta, &[]).await;
    let mut calls = JoinSet::new();
    for number in 0..60 {
        let call = legacy_call(number, json!({"baggage": format!("n={number}")}));
        calls.spawn(call.send(path.sidecar.inbound()));
    }
    while let Some(reply) = calls.join_next().await {
        assert_eq!(reply.unwrap().status, 200);
    }
    let asked = path.peer.asked();
    assert_eq!(asked.len(), 60);
    for asked in &asked {
        let wanted = format!("n={},mcp.mesh.agent=planner", asked.id());
        assert_eq!(carried(asked), in_both(&wanted));
    }
    path.mesh.stop().await;
}

/// An agent that has baggage of its own knows better.
#[tokio::test]
async fn an_agents_own_baggage_is_kept_instead() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().named("planner").around(server.address).start();
    legacy_call(1, json!({"baggage": "user=7"})).send(sidecar.inbound()).await;
    let context = server.last().meta("traceparent").unwrap();
    legacy_call(2, json!({"traceparent": context, "baggage": "own=1"})).send(sidecar.outbound()).await;
    assert_eq!(carried(&server.last()), in_both("own=1,mcp.mesh.agent=planner"));
    mesh.stop().await;
}

/// The decision not to record is about spans alone.
#[tokio::test]
async fn unsampled_requests_keep_it_too() {
    for (env, context) in [
        (("OTEL_TRACES_SAMPLER", ""), json!(UNSAMPLED)),
        (("OTEL_TRACES_SAMPLER", "always_off"), Value::Null),
    ] {
        for copies in [Copies::Meta, Copies::Headers] {
            let path = Path::start(copies, &[env]).await;
            let call = legacy_call(1, json!({"traceparent": context, "baggage": "user=7"}));
            call.send(path.sidecar.inbound()).await;
            assert_eq!(carried(&path.peer.last()), in_both("user=7,mcp.mesh.agent=planner"));
            assert_eq!(path.mesh.stop().await, []);
        }
    }
}

/// W3C: 64 members and 8192 bytes have to pass; what is over that goes by whole members.
#[tokio::test]
async fn limits_cut_whole_members() {
    let members: Vec<String> = (0..70).map(|n| format!("k{n}=v{n}")).collect();
    let (full, over) = (members[..64].join(","), members.join(","));
    for baggage in [&full, &over] {
        // What came counts more than what we would add.
        let asked = pass("", Side::Client, legacy_call(1, json!({"baggage": baggage}))).await;
        assert_eq!(carried(&asked), in_both(&full));
    }
    let asked = pass("", Side::Client, legacy_call(1, json!({"baggage": members[..63].join(",")}))).await;
    assert_eq!(carried(&asked), in_both(&format!("{},mcp.mesh.agent=planner", members[..63].join(","))));
    let large: Vec<String> = (0..8).map(|n| format!("k{n}={}", "x".repeat(1020))).collect();
    let exactly = large.join(",");
    assert_eq!(exactly.len(), 8 * 1023 + 7);
    assert_eq!(
        carried(&pass("", Side::Server, legacy_call(1, json!({"baggage": exactly}))).await),
        in_both(&exactly)
    );
    let too_much = format!("{exactly},tail=1");
    let asked = pass("", Side::Client, legacy_call(1, json!({"baggage": too_much}))).await;
    assert_eq!(asked.meta("baggage").as_deref(), Some(exactly.as_str()));
}

/// Two sidecars in a row: the second agent is told of the first.
#[tokio::test]
async fn a_peers_sidecar_passes_it_on_to_the_peer() {
    let mesh = Mesh::start().await;
    let (agent, peer) = (Agent::start(Copies::Meta).await, Server::answering(ok).await);
    let second = mesh.sidecar().named("second").inbound(peer.address).start();
    let first = mesh.sidecar().named("first").inbound(agent.address()).outbound(second.inbound()).start();
    agent.calls(first.outbound());
    legacy_call(1, json!({"baggage": "user=7"})).send(first.inbound()).await;
    assert_eq!(carried(&peer.last()), in_both("user=7,mcp.mesh.agent=first"));
    assert_eq!(mesh.stop().await.len(), 3);
}
