//! An agent that knows nothing of tracing: for every request that it serves it
//! makes one call of its own, and passes on what its SDK would pass on.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::client::Call;
use super::mcp::result;
use super::server::{Answer, Asked, Server};

/// What of the request it serves an agent passes on in its own call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// `params._meta`, as the Python SDK 2.x does, but for baggage, which it drops.
    Meta,
    /// The trace headers, as instrumented HTTP clients do, but for baggage.
    Headers,
    /// The same with the mark of our shim.
    Shim,
    /// Nothing.
    Nothing,
}

/// A running agent.
pub struct Agent {
    /// Its server side.
    pub server: Server,
    outbound: Arc<OnceLock<SocketAddr>>,
}

impl Agent {
    /// An agent that makes one call for each that it serves, once it knows where to.
    pub async fn start(copies: Copies) -> Self {
        let outbound = Arc::<OnceLock<SocketAddr>>::default();
        let to = Arc::clone(&outbound);
        let server = Server::start(move |asked| {
            let to = *to.get().expect("an agent that knows where to call");
            async move {
                let reply = own_call(&asked, copies).send(to).await;
                assert_eq!(reply.status, 200);
                Answer::json(&result(&asked.id()))
            }
        });
        Agent { server: server.await, outbound }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Its calls go here.
    pub fn calls(&self, outbound: SocketAddr) {
        self.outbound.set(outbound).expect("one address");
    }
}

/// The call that an agent makes while it serves this request.
pub fn own_call(asked: &Asked, copies: Copies) -> Call {
    let mut params = json!({"name": "forecast", "arguments": asked.json()["params"]["arguments"]});
    if copies == Copies::Meta {
        for key in ["traceparent", "tracestate"] {
            if let Some(value) = asked.meta(key) {
                params["_meta"][key] = value.into();
            }
        }
    }
    let message: Value =
        json!({"jsonrpc": "2.0", "id": asked.id(), "method": "tools/call", "params": params});
    let mut call = Call::post(message.to_string());
    if matches!(copies, Copies::Headers | Copies::Shim) {
        for key in ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"] {
            if let Some(value) = asked.header(key) {
                call =
                    call.header(key, if copies == Copies::Shim { marked(value) } else { value.to_owned() });
            }
        }
    }
    call
}

/// What the shim makes of `tracestate`: it marks our member.
fn marked(value: &str) -> String {
    let mark = |member: &str| format!("{member}{}", if member.starts_with("mt=") { ";s" } else { "" });
    value.split(',').map(mark).collect::<Vec<_>>().join(",")
}
