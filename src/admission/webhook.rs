//! The HTTPS server that API servers send their reviews to.
//!
//! An answer comes from memory: what the API server knows, it says by the path, so nothing has to be looked up.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::admission::decide::Settings;
use crate::admission::review::{self, Entry, MAX_BYTES, Result as Reviewed};
use crate::metrics::InjectorMetrics;
use crate::net::tls::Serving;

/// The most connections at once. One more closes the oldest, so that idle ones can never keep an API server out.
pub const MAX_CONNECTIONS: usize = 512;

/// The most reviews that are received at once. More wait, as long as they may take.
pub const MAX_RECEIVING: usize = 8;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request head, and between requests: longer than API servers keep idle connections.
    pub head: Duration,
    /// For a whole review; the API server gives up after 3 seconds.
    pub review: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Times {
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(120),
            review: Duration::from_secs(3),
        }
    }
}

/// How long accepting rests after it failed, for want of descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The server. Clones of the [`Arc`] share everything.
#[derive(Debug)]
pub struct Webhook {
    settings: RwLock<Arc<Settings>>,
    serving: Arc<Serving>,
    metrics: InjectorMetrics,
    times: Times,
    receiving: Semaphore,
}

impl Webhook {
    /// A server with these settings, which serves what is installed in `serving`.
    pub fn new(
        settings: Settings,
        serving: Arc<Serving>,
        metrics: InjectorMetrics,
        times: Times,
    ) -> Arc<Self> {
        let settings = RwLock::new(Arc::new(settings));
        Arc::new(Webhook { settings, serving, metrics, times, receiving: Semaphore::new(MAX_RECEIVING) })
    }

    /// Replaces the version of the API server in the settings.
    pub fn set_kubernetes(&self, version: (u32, u32)) {
        let mut settings = self.settings.write();
        let new = Settings { kubernetes: Some(version), ..Settings::clone(&settings) };
        *settings = Arc::new(new);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    /// Serves the listener until the future is dropped; the connections that are open then close with it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let mut tasks = JoinSet::new();
        let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the webhook could not accept a connection");
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
                self.metrics.connections_closed.inc();
            }
            open.push_back(tasks.spawn(Arc::clone(&self).connection(stream)));
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        // An answer is written in one go. Failing to say so is harmless.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(self.times.handshake, self.serving.accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!(%error, "a TLS handshake failed");
                return;
            }
            Err(_) => {
                self.metrics.handshakes_failed.inc();
                return;
            }
        };
        let head = self.times.head;
        let service = service_fn(move |request| {
            let webhook = Arc::clone(&self);
            async move { Ok::<_, Infallible>(webhook.answer(request).await) }
        });
        // What goes wrong here is the peer's affair: it left, was slow or did not speak HTTP.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(entry) = Entry::of(request.uri().path()) else {
            return self.error("path", StatusCode::NOT_FOUND, "reviews go to /inject/…\n");
        };
        if request.method() != Method::POST {
            let mut response = self.error("method", StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > MAX_BYTES as u64) {
            return self.error("too_long", StatusCode::PAYLOAD_TOO_LARGE, "the review is too long\n");
        }
        match tokio::time::timeout(self.times.review, self.receive(request.into_body())).await {
            Err(_) => self.error("timeout", StatusCode::REQUEST_TIMEOUT, "the review took too long\n"),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                self.error("too_long", StatusCode::PAYLOAD_TOO_LARGE, "the review is too long\n")
            }
            Ok(Err(_)) => self.error("broken", StatusCode::BAD_REQUEST, "the review broke off\n"),
            Ok(Ok(body)) => self.review(&body, entry),
        }
    }

    async fn receive(&self, body: Incoming) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        // Never closed, so there is nothing to do about an error.
        let _permit = self.receiving.acquire().await;
        Ok(Limited::new(body, MAX_BYTES).collect().await?.to_bytes())
    }

    fn review(&self, body: &[u8], entry: Entry) -> Response<Full<Bytes>> {
        let start = Instant::now();
        let answer = match review::answer(body, entry, &self.settings()) {
            Ok(answer) => answer,
            Err(error) => {
                return self.error("unreadable", StatusCode::BAD_REQUEST, format!("{error}\n"));
            }
        };
        let refusal = match answer.result {
            Reviewed::Refused(reason) => Some(reason),
            _ => None,
        };
        self.metrics.answered(answer.result.as_str(), refusal);
        self.metrics.seconds.observe(start.elapsed().as_secs_f64());
        let mut response = Response::new(Full::new(Bytes::from(answer.body)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn error(
        &self,
        reason: &'static str,
        status: StatusCode,
        text: impl Into<Bytes>,
    ) -> Response<Full<Bytes>> {
        self.metrics.failed(reason);
        let mut response = Response::new(Full::new(text.into()));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    }
}
