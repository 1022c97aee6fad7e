//! Connections to the collector: opened when needed, kept while they work, one request at a time on each.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::export::config::{OtlpConfig, Protocol};
use crate::net::tls::{Alpn, TlsError};

/// How much of an answer is read. The answers of OTLP are a few bytes; what is longer is not one.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How connections are opened.
pub(super) struct Dialer {
    host: String,
    port: u16,
    connect_timeout: Duration,
    http2: bool,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A place for one connection. Empty until the first request, and again after a failure.
#[derive(Default)]
pub(super) struct Lane {
    connection: Option<Connection>,
}

struct Connection {
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    Http1(http1::SendRequest<Frames>),
    Http2(http2::SendRequest<Frames>),
}

/// What came back: the status, both kinds of headers, and as much of the body as is of interest.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) reason: String,
    /// The connection had served a request before and may have been closed while it was idle, which says nothing of the collector.
    pub(super) reused: bool,
}

impl Dialer {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, TlsError> {
        let http2 = config.protocol == Protocol::Grpc;
        let endpoint = &config.endpoint;
        let tls = match endpoint.tls {
            false => None,
            true => {
                let client = config.tls.client()?.config(if http2 { Alpn::Http2 } else { Alpn::Http1 })?;
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| {
                    rustls::Error::General("the endpoint's host is not a valid server name".to_owned())
                })?;
                Some((TlsConnector::from(Arc::new(client)), name))
            }
        };
        Ok(Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            connect_timeout: config.connect_timeout,
            http2,
            tls,
        })
    }

    async fn dial(&self) -> Result<Connection, String> {
        let opened = tokio::time::timeout(self.connect_timeout, self.open()).await;
        opened.unwrap_or_else(|_| Err("connecting took too long".to_owned()))
    }

    async fn open(&self) -> Result<Connection, String> {
        let tcp =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        // A request is written in one go; waiting for more would only delay its tail. Failing to say so is harmless.
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), tcp).await;
                Box::new(secured.map_err(|error| format!("TLS: {error}"))?)
            }
        };
        self.handshake(stream).await.map_err(|error| error.to_string())
    }

    async fn handshake(&self, stream: Box<dyn Stream>) -> hyper::Result<Connection> {
        let io = TokioIo::new(stream);
        if self.http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            Ok(Connection { sender: Sender::Http2(sender), driver: tokio::spawn(driver).abort_handle() })
        } else {
            let (sender, driver) = http1::handshake(io).await?;
            Ok(Connection { sender: Sender::Http1(sender), driver: tokio::spawn(driver).abort_handle() })
        }
    }
}

impl Lane {
    /// Sends one request and reads its answer. After a failure the next request opens a new connection.
    ///
    /// Dropping the future in the middle closes the connection.
    pub(super) async fn exchange(
        &mut self,
        dialer: &Dialer,
        request: Request<Frames>,
    ) -> Result<Answer, Broken> {
        // Taken out for the time of the exchange, so that a connection whose answer was not read to its end is never used again.
        let kept = self.connection.take().filter(Connection::is_open);
        let reused = kept.is_some();
        let broken = |reason: String| Broken { reason, reused };
        let mut connection = match kept {
            Some(connection) => connection,
            None => dialer.dial().await.map_err(broken)?,
        };
        let response = connection.send(request).await.map_err(|error| broken(reason(&error)))?;
        let (answer, complete) = read(response).await.map_err(|error| broken(reason(&error)))?;
        if complete {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Frames>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Reads the answer, and says whether it ended within the limit.
async fn read(response: Response<Incoming>) -> hyper::Result<(Answer, bool)> {
    let (head, mut body) = response.into_parts();
    let mut answer =
        Answer { status: head.status, headers: head.headers, body: Bytes::new(), trailers: HeaderMap::new() };
    let mut read = BytesMut::new();
    let mut complete = true;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if read.len() + data.len() > MAX_ANSWER_BYTES => {
                complete = false;
                break;
            }
            Ok(data) => read.extend_from_slice(&data),
            Err(frame) => answer.trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    answer.body = read.freeze();
    Ok((answer, complete))
}

/// The error with its causes, which is where the operating system's word is.
fn reason(error: &hyper::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A request body of parts that are already in memory. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    parts: Arc<[Bytes]>,
    next: usize,
    left: usize,
}

impl Frames {
    pub(super) fn new(parts: Vec<Bytes>) -> Self {
        let left = parts.iter().map(Bytes::len).sum();
        Self { parts: parts.into(), next: 0, left }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(part) = self.parts.get(self.next).cloned() else { return Poll::Ready(None) };
        self.next += 1;
        self.left -= part.len();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
