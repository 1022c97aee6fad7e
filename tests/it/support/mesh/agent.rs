//! An agent that knows nothing of tracing: for every request that it serves it
//! makes one call of its own, and passes on what its SDK would pass on.

use std::net::SocketAddr;

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
    /// Nothing.
    Nothing,
}

/// A running agent.
pub struct Agent;

impl Agent {
    /// An agent that calls the tool `forecast` through `outbound` for every request.
    pub async fn start(outbound: SocketAddr, copies: Copies) -> Server {
        Server::start(move |asked| async move {
            own_call(&asked, copies).send(outbound).await;
            Answer::json(&result(&asked.id()))
        })
        .await
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
    if copies == Copies::Headers {
        for key in ["traceparent", "tracestate", "b3"] {
            if let Some(value) = asked.header(key) {
                call = call.header(key, value);
            }
        }
    }
    call
}
