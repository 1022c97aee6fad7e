//! Which span each situation on the wire makes: its name, its kind, exactly
//! its attributes, its status, and where it begins and ends. The rows are
//! those of the conventions for MCP and HTTP, each on both sides of a sidecar.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agents;
mod answers;
mod batches;
mod bodies;
mod encoded;
mod endings;
mod errors;
mod http;
mod models;
mod notifications;
mod registry;
mod reverse;
mod sessions;
mod soak;
mod streams;
mod work;

use std::net::SocketAddr;

use crate::support::mesh::{Answer, Asked, Call, Mesh, Reply, Running, Server, Side, Span};

/// Sends calls through a sidecar around one scripted server, one after the
/// other, and gives answers, spans and what the server was asked.
async fn watch(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    calls: Vec<(Side, Call)>,
) -> Watched {
    watch_with("", answer, calls).await
}

/// The same under a configuration file.
async fn watch_with(
    yaml: &str,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    calls: Vec<(Side, Call)>,
) -> Watched {
    let Stage { mesh, server, sidecar } = Stage::set(yaml, answer).await;
    let mut replies = Vec::new();
    for (side, call) in calls {
        replies.push(call.send(sidecar.at(side)).await);
    }
    Watched { replies, spans: mesh.stop().await, asked: server.asked(), server: server.address }
}

/// What came of it.
struct Watched {
    replies: Vec<Reply>,
    /// Sorted by start, which is the order of the calls.
    spans: Vec<Span>,
    asked: Vec<Asked>,
    server: SocketAddr,
}

/// A scripted server with a sidecar around it.
struct Stage {
    mesh: Mesh,
    server: Server,
    sidecar: Running,
}

impl Stage {
    async fn set(yaml: &str, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Stage::with(yaml, Server::answering(answer).await).await
    }

    async fn with(yaml: &str, server: Server) -> Self {
        let mesh = Mesh::start().await;
        let sidecar = mesh.sidecar().around(server.address).yaml(yaml).start();
        Stage { mesh, server, sidecar }
    }
}
