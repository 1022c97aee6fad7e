//! A sidecar whose inbound requests stay in flight for as long as a test likes.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::support::mesh::{Answer, Asked, Call, Mesh, PATIENCE, Running, Server, Side, Span, result};

/// A sidecar whose inbound requests stay in flight until they are let go.
pub struct Held {
    mesh: Mesh,
    /// The sidecar.
    pub sidecar: Running,
    /// Whom its agent calls.
    pub peer: Server,
    arrived: mpsc::Receiver<Asked>,
    go: Arc<Notify>,
    calls: tokio::task::JoinSet<u16>,
}

impl Held {
    pub async fn start() -> Self {
        Held::with("{}", &[]).await
    }

    /// The same with this configuration.
    pub async fn with(yaml: &str, env: &[(&str, &str)]) -> Self {
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
        let plan = env.iter().fold(mesh.sidecar(), |plan, (name, value)| plan.env(name, value));
        let sidecar = plan.inbound(agent.address).outbound(peer.address).yaml(yaml).start();
        // The agent lives as long as the test's runtime.
        std::mem::forget(agent);
        Held { mesh, sidecar, peer, arrived, go, calls: tokio::task::JoinSet::new() }
    }

    /// A request that is now being worked on, as the agent sees it.
    pub async fn begin(&mut self, call: Call) -> Asked {
        let to = self.sidecar.inbound();
        self.calls.spawn(async move { call.send(to).await.status });
        timeout(PATIENCE, self.arrived.recv()).await.unwrap().unwrap()
    }

    /// Lets one request go, and waits for its answer.
    pub async fn end_one(&mut self) {
        self.go.notify_one();
        assert_eq!(timeout(PATIENCE, self.calls.join_next()).await.unwrap().unwrap().unwrap(), 200);
    }

    /// The same for one whose answer is of no interest.
    pub async fn end_any(&mut self) {
        self.go.notify_one();
        timeout(PATIENCE, self.calls.join_next()).await.unwrap().unwrap().unwrap();
    }

    /// Lets all go, and gives the spans of one kind.
    pub async fn spans(self, side: Side) -> Vec<Span> {
        self.all_spans().await.into_iter().filter(|span| span.kind == side.kind()).collect()
    }

    /// Lets all go, and gives all the spans there ever were.
    pub async fn all_spans(mut self) -> Vec<Span> {
        while !self.calls.is_empty() {
            self.end_one().await;
        }
        self.mesh.stop().await
    }
}

/// What an agent that passes `_meta` on sends.
pub fn meta_of(asked: &Asked) -> Value {
    json!({"traceparent": asked.meta("traceparent"), "tracestate": asked.meta("tracestate")})
}

/// The span that the agent was given.
pub fn id_in(asked: &Asked) -> String {
    Asked::context(asked.header("traceparent").unwrap()).1.to_owned()
}

/// A call with the trace headers of this request.
pub fn with_headers_of(asked: &Asked, call: Call) -> Call {
    let call = call.header("traceparent", asked.header("traceparent").unwrap());
    call.header("tracestate", asked.header("tracestate").unwrap())
}

/// The request that opens a session, with these members of `_meta`.
pub fn initialize(meta: Value) -> Call {
    let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"_meta": meta}});
    Call::post(message.to_string())
}
