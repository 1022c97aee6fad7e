//! How context travels: which claim wins, what is written where, what is left
//! alone, where it may not go, and which parent an outbound call gets.
#![allow(clippy::unwrap_used)]

mod carriers;
mod chains;
mod destinations;
mod formats;
mod held;
mod library;
mod parents;
mod splice;
mod trust;
mod unsaid;

use crate::support::mesh::{Answer, Asked, Call, Mesh, Running, Server, Side, Span, result};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN_A: &str = "b7ad6b7169203331";
const SPAN_B: &str = "00f067aa0ba902b7";
/// Two spans of one trace, sampled.
const A: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const B: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// One call through one side of a sidecar: its span, and what arrived.
async fn pass(yaml: &str, env: &[(&str, &str)], side: Side, call: Call) -> (Span, Asked) {
    let (mut spans, asked) = pass_all(yaml, env, vec![(side, call)]).await;
    assert_eq!(spans.len(), 1, "{spans:#?}");
    (spans.remove(0), asked.into_iter().next().unwrap())
}

/// Several calls through one sidecar, one after the other.
async fn pass_all(yaml: &str, env: &[(&str, &str)], calls: Vec<(Side, Call)>) -> (Vec<Span>, Vec<Asked>) {
    let (mesh, server, sidecar) = around(yaml, env).await;
    for (side, call) in calls {
        call.send(sidecar.at(side)).await;
    }
    (mesh.stop().await, server.asked())
}

/// A sidecar on both sides of a server that says yes.
async fn around(yaml: &str, env: &[(&str, &str)]) -> (Mesh, Server, Running) {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let plan = env.iter().fold(mesh.sidecar(), |plan, (name, value)| plan.env(name, value));
    let sidecar = plan.around(server.address).yaml(yaml).start();
    (mesh, server, sidecar)
}

/// The `traceparent` that names this span.
fn traceparent(span: &Span, flags: &str) -> String {
    format!("00-{}-{}-{flags}", span.trace, span.id)
}

/// The span is what header and `_meta` say, with the state of the span.
fn assert_written(asked: &Asked, span: &Span, flags: &str) {
    let wanted = traceparent(span, flags);
    assert_eq!(asked.header("traceparent"), Some(wanted.as_str()));
    assert_eq!(asked.meta("traceparent"), Some(wanted));
    assert_eq!(asked.header("tracestate"), Some(span.tracestate.as_str()));
    assert_eq!(asked.meta("tracestate").as_deref(), Some(span.tracestate.as_str()));
}
