//! The admin port: is the process alive, is it ready, what does it count.
//!
//! `/live`, `/ready`, `/metrics` and `/app-probe` answer everybody who can
//! connect, because the kubelet and the scraper come from elsewhere. Everything else answers
//! loopback peers only. HTTP/1.1, one request for each connection.

mod exposition;
mod level;
mod probes;
mod readiness;
mod wait;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::metrics::operations::Operations;

pub use self::level::Level;
pub use self::probes::{AppProbes, MAX_PROBES};
pub use self::readiness::{Readiness, State};
pub use self::wait::{NotReady, wait};

/// The most connections at once. One more closes the oldest, so that idle
/// ones can never keep a probe out.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// From accepting a connection to the end of the request head.
    head: Duration,
    /// From accepting a connection to the end of the answer.
    connection: Duration,
}

const TIMES: Times = Times { head: Duration::from_secs(5), connection: Duration::from_secs(10) };

/// The most bytes of a request head; the smallest that hyper allows.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The most header fields of a request.
const MAX_HEADERS: usize = 64;

/// How long accepting rests after it failed, for want of descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PATHS: [&str; 3] = ["/live", "/ready", "/metrics"];

/// What the admin port answers from. Clones share everything.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What `/ready` says.
    pub readiness: Readiness,
    /// The level of our own diagnostics.
    pub level: Level,
    /// What `/metrics` encodes.
    pub registry: Arc<Registry>,
    /// The probes of the containers beside us.
    pub probes: AppProbes,
    /// What `/metrics` says of operations.
    pub operations: Operations,
    /// The name of the agent, a label of some metrics.
    pub agent: String,
    /// Counts connections that were closed because there were too many.
    pub closed: Counter,
    /// What else there is, for loopback peers only.
    pub pages: Arc<[Page]>,
}

/// Something to be looked at while the process runs: JSON that is made anew
/// for each request, of bounded size.
pub struct Page {
    /// Where it is, such as `/debug/links`.
    pub path: &'static str,
    /// Makes it.
    pub render: Box<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

/// All metrics as OpenMetrics; nothing where one cannot be encoded, which is none of ours.
pub fn openmetrics(registry: &Registry, operations: &Operations, agent: &str) -> String {
    let accept = std::iter::once("application/openmetrics-text");
    let encoded = exposition::encode(registry, |out| operations.encode(agent, out), accept);
    encoded.map(|(_, text)| text).unwrap_or_default()
}

impl Admin {
    /// Serves the listener until the future is dropped; the connections that
    /// are open then close with it.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        self.serve_within(TIMES, listener).await
    }

    async fn serve_within(self, times: Times, listener: TcpListener) -> Infallible {
        let mut tasks = JoinSet::new();
        let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "the admin port could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while tasks.try_join_next().is_some() {}
            open.retain(|task| !task.is_finished());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
                self.closed.inc();
            }
            open.push_back(tasks.spawn(self.clone().connection(times, stream, peer)));
        }
    }

    async fn connection(self, times: Times, stream: TcpStream, peer: SocketAddr) {
        let ip = peer.ip();
        let service = service_fn(|request| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.respond(ip, &request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(times.head)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // What goes wrong here is the peer's affair: it left, was slow or did
        // not speak HTTP.
        let _ = tokio::time::timeout(times.connection, connection).await;
    }

    /// The answer to one request; its body is never read.
    async fn respond<B>(&self, peer: IpAddr, request: &Request<B>) -> Response<Full<Bytes>> {
        let answer = self.answer(peer, request);
        match request.uri().path() {
            path if answer.status() == StatusCode::OK && self.probes.has(path) => {
                self.probes.answer(path).await
            }
            _ => answer,
        }
    }

    /// What is known without asking anybody.
    fn answer<B>(&self, peer: IpAddr, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let known = PATHS.contains(&path) || self.probes.has(path);
        if !known && !peer.to_canonical().is_loopback() {
            return text(StatusCode::FORBIDDEN, "this answers loopback peers only\n");
        }
        let page = self.pages.iter().find(|page| page.path == path);
        if !known && page.is_none() && path != level::PATH {
            let pages = self.pages.iter().map(|page| page.path);
            let all: Vec<_> = PATHS.into_iter().chain(pages).chain([level::PATH]).collect();
            return text(StatusCode::NOT_FOUND, format!("not here; there are {}\n", all.join(" ")));
        }
        if path == level::PATH {
            return self.log_level(request);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (path, page) {
            ("/ready", _) => self.ready(),
            ("/metrics", _) => self.metrics(request),
            (_, Some(page)) => json((page.render)()),
            _ => text(StatusCode::OK, "live\n"),
        }
    }

    /// The level of our own diagnostics, and the one thing that can be changed here.
    fn log_level<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let method = request.method();
        if method == Method::GET || method == Method::HEAD {
            return text(StatusCode::OK, format!("{}\n", self.level.now()));
        }
        if method != Method::PUT && method != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET, PUT or POST only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, PUT, POST"));
            return response;
        }
        let query = request.uri().query().unwrap_or_default();
        match query.strip_prefix("level=").and_then(level::parse) {
            Some(level) => text(StatusCode::OK, format!("{}\n", self.level.set(level))),
            None => text(StatusCode::BAD_REQUEST, format!("expected ?level= and one of {}\n", level::WORDS)),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.readiness.state() {
            State::Ready => text(StatusCode::OK, "ready\n"),
            State::Starting => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting, not every listener is bound\n")
            }
            State::Draining => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready: draining before the process ends\n")
            }
        }
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let accept = request.headers().get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        match exposition::encode(&self.registry, |out| self.operations.encode(&self.agent, out), accept) {
            Ok((format, body)) => {
                let mut response = text(StatusCode::OK, body);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format));
                response
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be encoded\n"),
        }
    }
}

fn json(body: String) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
