//! Accepts the connections of one listening socket and gives each a task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::connection;
use super::redirected::{self, Redirection};
use super::route::Route;
use super::worker::Worker;

/// How long to wait when the process is out of file descriptors or memory:
/// accepting again at once would only spin.
const PAUSE: Duration = Duration::from_millis(50);

/// What becomes of the connections of a listener.
#[derive(Clone, Debug)]
pub enum Door {
    /// They are meant for this proxy, and their requests go this way.
    Explicit(Arc<Route>),
    /// They were meant for somebody else.
    Redirected(Arc<Redirection>),
}

impl Door {
    /// Whether they come from the pod's own application.
    pub fn is_outbound(&self) -> bool {
        match self {
            Door::Explicit(route) => route.is_outbound(),
            Door::Redirected(redirection) => redirection.is_outbound(),
        }
    }
}

/// Accepts until the future is dropped.
pub async fn run(listener: TcpListener, door: Door, worker: Arc<Worker>) {
    let mut complained = false;
    loop {
        let (tcp, downstream) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "cannot accept connections");
                    complained = true;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        complained = false;
        let Some(watched) = worker.registry.admit() else {
            worker.metrics.proxy.connections_refused.inc();
            continue;
        };
        worker.metrics.proxy.connections.inc();
        let worker = Arc::clone(&worker);
        match &door {
            Door::Explicit(route) => {
                tokio::spawn(connection::serve(tcp, downstream, Arc::clone(route), worker, watched));
            }
            Door::Redirected(redirection) => {
                tokio::spawn(redirected::serve(tcp, downstream, Arc::clone(redirection), worker, watched));
            }
        }
    }
}

/// A connection that was gone before it was accepted says nothing of us.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
