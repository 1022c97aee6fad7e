//! A collector on loopback that takes OTLP and misbehaves on demand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

type AnswerBody = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// What the collector does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Takes it.
    Accept,
    /// Takes it and answers 200 with this body.
    AcceptWith(&'static str, Vec<u8>),
    /// Refuses it.
    Status(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Closes the connection without an answer.
    Reset,
    /// Closes the connection in the middle of a good answer.
    ResetInAnswer,
    /// Never answers.
    Silence,
    /// Answers a call with this status in the trailers.
    Trailers(u16, Vec<(&'static str, String)>),
    /// Answers a call with this status in the headers and nothing else.
    Headers(u16, Vec<(&'static str, String)>),
}

/// A request as it came, with its compression and framing undone.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) compressed: bool,
    pub(crate) accepted: bool,
    pub(crate) request: ExportTraceServiceRequest,
}

impl Received {
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.request
            .resource_spans
            .iter()
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Default)]
struct State {
    received: Mutex<Vec<Received>>,
    script: Mutex<VecDeque<Reply>>,
    connections: AtomicUsize,
}

/// The collector. It stops, connections and all, when it is dropped.
pub(crate) struct Collector {
    pub(crate) addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address of loopback that belongs to a collector that is not there yet: connections to it are refused.
pub(crate) struct Place {
    pub(crate) addr: SocketAddr,
    socket: TcpSocket,
}

impl Place {
    pub(crate) fn any() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    fn at(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Connections of the collector that was here before may still be closing.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        Self { addr: socket.local_addr().unwrap(), socket }
    }
}

impl Collector {
    /// One for HTTP/1.1 that follows the script, then accepts.
    pub(crate) fn start(script: &[Reply]) -> Self {
        Self::start_at(Place::any(), script)
    }

    pub(crate) fn start_at(place: Place, script: &[Reply]) -> Self {
        Self::launch(place, script, false, None)
    }

    /// One for gRPC.
    pub(crate) fn start_grpc(script: &[Reply]) -> Self {
        Self::launch(Place::any(), script, true, None)
    }

    /// One behind TLS, for gRPC or for HTTP/1.1.
    pub(crate) fn start_tls(acceptor: TlsAcceptor, grpc: bool) -> Self {
        Self::launch(Place::any(), &[], grpc, Some(acceptor))
    }

    fn launch(place: Place, script: &[Reply], grpc: bool, tls: Option<TlsAcceptor>) -> Self {
        let Place { addr, socket } = place;
        let listener = socket.listen(1024).unwrap();
        let state =
            Arc::new(State { script: Mutex::new(script.iter().cloned().collect()), ..State::default() });
        let task = tokio::spawn(accept(listener, Arc::clone(&state), grpc, tls));
        Self { addr, state, task }
    }

    /// Stops, and keeps the address for the next collector.
    pub(crate) async fn stop(mut self) -> Place {
        self.task.abort();
        let _ = (&mut self.task).await;
        Place::at(self.addr)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The names of the spans that were accepted, in order of arrival.
    pub(crate) fn names(&self) -> Vec<String> {
        let received = self.received();
        received
            .iter()
            .filter(|one| one.accepted)
            .flat_map(Received::spans)
            .map(|span| span.name.clone())
            .collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, grpc: bool, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        state.connections.fetch_add(1, Ordering::Relaxed);
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(tcp, state, grpc).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        serve(stream, state, grpc).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, state: Arc<State>, grpc: bool) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state), grpc));
    let io = TokioIo::new(stream);
    // A connection that breaks is what some tests ask for.
    let _ = if grpc {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    grpc: bool,
) -> Result<Response<AnswerBody>, io::Error> {
    let (head, body) = request.into_parts();
    let mut bytes = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    let reply = state.script.lock().unwrap().pop_front().unwrap_or(Reply::Accept);
    let mut compressed = head.headers.get("content-encoding").is_some_and(|value| value == "gzip");
    if grpc {
        compressed = bytes[0] == 1;
        assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
        bytes.drain(..5);
    }
    if compressed {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
        bytes = plain;
    }
    let json = head.headers.get("content-type").is_some_and(|value| value == "application/json");
    let request = if json {
        serde_json::from_slice(&bytes).unwrap()
    } else {
        ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap()
    };
    let accepted = matches!(reply, Reply::Accept | Reply::AcceptWith(..));
    let received =
        Received { path: head.uri.path().to_owned(), headers: head.headers, compressed, accepted, request };
    state.received.lock().unwrap().push(received);
    carry_out(reply, grpc).await
}

async fn carry_out(reply: Reply, grpc: bool) -> Result<Response<AnswerBody>, io::Error> {
    let full = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync();
    match reply {
        Reply::Accept if grpc => Ok(call(vec![0; 5], 0, &[])),
        Reply::AcceptWith(_, message) if grpc => Ok(call(message, 0, &[])),
        Reply::Accept => Ok(Response::new(full(Vec::new()))),
        Reply::AcceptWith(content_type, body) => {
            let mut response = Response::new(full(body));
            response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
            Ok(response)
        }
        Reply::Status(status, headers, body) => {
            let mut response = Response::new(full(body));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response.headers_mut().extend(map(&headers));
            Ok(response)
        }
        Reply::Reset => Err(io::Error::other("reset on demand")),
        Reply::ResetInAnswer => Ok(Response::new(Broken { sent: false }.boxed_unsync())),
        Reply::Silence => std::future::pending().await,
        Reply::Trailers(code, headers) => Ok(call(vec![], code, &headers)),
        Reply::Headers(code, headers) => {
            let mut response = Response::new(full(Vec::new()));
            response.headers_mut().extend(map(&headers));
            response.headers_mut().insert("grpc-status", code.into());
            Ok(response)
        }
    }
}

fn call(message: Vec<u8>, code: u16, headers: &[(&'static str, String)]) -> Response<AnswerBody> {
    let mut trailers = map(headers);
    trailers.insert("grpc-status", code.into());
    let body = Full::new(Bytes::from(message)).map_err(|never| match never {});
    Response::new(body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync())
}

fn map(headers: &[(&'static str, String)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect()
}

/// A body that breaks off after its first bytes.
struct Broken {
    sent: bool,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let first = !std::mem::replace(&mut self.sent, true);
        let frame = if first {
            Ok(Frame::data(Bytes::from_static(b"\x0a")))
        } else {
            Err(io::Error::other("reset on demand"))
        };
        Poll::Ready(Some(frame))
    }
}
