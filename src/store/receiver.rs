//! The OTLP/HTTP receiver: `POST /v1/traces` with a protobuf body, gzip or not, into a [`SpanStore`].
//!
//! OTLP 1.x, "OTLP/HTTP": success is 200 with an `ExportTraceServiceResponse`, a failure is 4xx with a
//! `google.rpc.Status`; both are protobuf. OTLP/JSON and gRPC are not spoken here.

use std::{
    collections::VecDeque,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;

use super::{
    spans::{Capacity, SpanStore},
    web::{Server, read_body, response},
};

const PATH: &str = "/v1/traces";
const PROTOBUF: &str = "application/x-protobuf";

/// The bounds of a [`Receiver`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one request body, before and after decompression.
    pub body_bytes: usize,
    /// Decoded requests kept as they came, the latest ones; see [`Receiver::requests`].
    pub requests: usize,
    /// What the store keeps.
    pub store: Capacity,
}

impl Default for Limits {
    /// 4 MiB a body, no raw requests, the default [`Capacity`].
    fn default() -> Self {
        Self { body_bytes: 4 << 20, requests: 0, store: Capacity::default() }
    }
}

/// An export request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its header fields.
    pub headers: HeaderMap,
    /// The length of its body on the wire, in bytes: compressed, if it was.
    pub body_bytes: usize,
    /// Its message.
    pub request: ExportTraceServiceRequest,
}

/// A listening OTLP receiver. Dropping it closes its listener and its connections; the store lives on.
#[derive(Debug)]
pub struct Receiver {
    server: Server,
    intake: Arc<Intake>,
}

impl Receiver {
    /// Starts a receiver on a free port of 127.0.0.1. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start(limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Self::serve(listener, limits)
    }

    /// Starts a receiver on a listener of the caller's. It asks for no credentials: whoever reaches the
    /// address can write to it, so the address should be a loopback one.
    ///
    /// # Errors
    /// When the listener has no local address.
    pub fn serve(listener: TcpListener, limits: Limits) -> io::Result<Self> {
        let intake =
            Arc::new(Intake { limits, store: SpanStore::new(limits.store), requests: Mutex::default() });
        let handler = {
            let intake = Arc::clone(&intake);
            move |request| Arc::clone(&intake).handle(request)
        };
        let server = Server::start(listener, handler)?;
        Ok(Self { server, intake })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The spans it received.
    pub fn store(&self) -> &SpanStore {
        &self.intake.store
    }

    /// The latest well-formed requests, oldest first: as many as `Limits::requests` says.
    pub fn requests(&self) -> Vec<Arc<Received>> {
        self.intake.requests().iter().cloned().collect()
    }
}

/// Decodes the body of an export request, `encoding` being its `Content-Encoding` (empty for none).
/// It holds at most `limit` bytes of decompressed data and never panics, whatever the bytes are.
///
/// # Errors
/// [`Refusal`] says why, and [`Refusal::status`] how HTTP says it.
pub fn decode(body: &[u8], encoding: &str, limit: usize) -> Result<ExportTraceServiceRequest, Refusal> {
    let message = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => ExportTraceServiceRequest::decode(body)?,
        "gzip" => ExportTraceServiceRequest::decode(inflate(body, limit)?.as_slice())?,
        _ => return Err(Refusal::Encoding),
    };
    Ok(message)
}

/// Why an export request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is not the protobuf message.
    #[error("the body is not an ExportTraceServiceRequest: {0}")]
    NotOtlp(#[from] prost::DecodeError),
    /// The body is not gzip although it says so.
    #[error("the body is not gzip: {0}")]
    NotGzip(io::Error),
    /// The body inflates to more than this many bytes.
    #[error("the body inflates to more than {0} bytes")]
    TooLarge(usize),
    /// Neither gzip nor plain.
    #[error("this Content-Encoding is not understood; gzip and identity are")]
    Encoding,
    /// Not protobuf.
    #[error("this Content-Type is not understood; application/x-protobuf is")]
    ContentType,
}

impl Refusal {
    /// The HTTP status that says so. None of them asks the client to try again.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotOtlp(_) | Self::NotGzip(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding | Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    let one_too_many = (limit as u64).saturating_add(1);
    let mut decoder = MultiGzDecoder::new(body).take(one_too_many);
    decoder.read_to_end(&mut plain).map_err(Refusal::NotGzip)?;
    if plain.len() > limit {
        return Err(Refusal::TooLarge(limit));
    }
    Ok(plain)
}

/// What the connections share.
#[derive(Debug)]
struct Intake {
    limits: Limits,
    store: SpanStore,
    requests: Mutex<VecDeque<Arc<Received>>>,
}

impl Intake {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return failure(StatusCode::NOT_FOUND, "traces are received at /v1/traces");
        }
        if request.method() != Method::POST {
            let mut answer = failure(StatusCode::METHOD_NOT_ALLOWED, "POST is the only method");
            let post = http::HeaderValue::from_static("POST");
            answer.headers_mut().insert(ALLOW, post);
            return answer;
        }
        let (head, body) = request.into_parts();
        match read_body(body, self.limits.body_bytes).await {
            Err(error) => failure(error.status(), &error.to_string()),
            Ok(body) => match self.take(head.headers, &body) {
                Err(refusal) => failure(refusal.status(), &refusal.to_string()),
                Ok(rejected) => success(rejected),
            },
        }
    }

    /// Stores what a request brings and says how many of its spans were rejected.
    fn take(&self, headers: HeaderMap, body: &[u8]) -> Result<u64, Refusal> {
        let content_type = text(&headers, &CONTENT_TYPE).split(';').next();
        if !content_type.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(PROTOBUF)) {
            return Err(Refusal::ContentType);
        }
        let encoding = text(&headers, &CONTENT_ENCODING);
        let request = decode(body, encoding, self.limits.body_bytes)?;
        if self.limits.requests > 0 {
            self.keep(Received { headers, body_bytes: body.len(), request: request.clone() });
        }
        // Last, so that whoever waits for the spans also finds the request they came in.
        Ok(self.store.add(request))
    }

    fn keep(&self, received: Received) {
        let mut requests = self.requests();
        while requests.len() >= self.limits.requests {
            requests.pop_front();
        }
        requests.push_back(Arc::new(received));
    }

    fn requests(&self) -> parking_lot::MutexGuard<'_, VecDeque<Arc<Received>>> {
        self.requests.lock()
    }
}

/// A header's value; one that is not visible ASCII is one we do not understand.
fn text<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> &'h str {
    let value = headers.get(name);
    value.map_or("", |value| value.to_str().unwrap_or("?"))
}

fn success(rejected: u64) -> Response<Full<Bytes>> {
    let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: "spans with invalid ids, or of a trace too large to keep".to_owned(),
    });
    let message = ExportTraceServiceResponse { partial_success };
    response(StatusCode::OK, PROTOBUF, message.encode_to_vec())
}

fn failure(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let message = RpcStatus { message: message.to_owned() };
    response(status, PROTOBUF, message.encode_to_vec())
}

/// `google.rpc.Status` as far as OTLP/HTTP wants it filled.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
}

/// The entry for fuzzing: the first byte says whether the rest is gzip; what decodes goes into a tiny store.
pub fn fuzz(data: &[u8]) {
    let Some((flag, body)) = data.split_first() else {
        return;
    };
    let encoding = if flag % 2 == 0 { "" } else { "gzip" };
    let capacity = Capacity { traces: 2, spans: 3, bytes: 1 << 10 };
    if let Ok(request) = decode(body, encoding, 1 << 16) {
        SpanStore::new(capacity).add(request);
    }
}

#[cfg(test)]
mod tests;
