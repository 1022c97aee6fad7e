//! The HTTP/1.1 that the receiver and the demo's agents share: a server with limits, and a client of one request.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::handshake, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
    time,
};

/// Connections served at once; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;

/// A request head, and so an idle connection too, may take this long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// A request body may take this long from its first byte to its last.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a body that is too large is read and thrown away. A client that is still writing when its
/// connection closes sees a reset and never the answer, so a bounded part of the excess is swallowed.
const MAX_DISCARDED: usize = 64 << 20;

/// The longest answer that [`send`] takes, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The longest that [`send`] waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failed `accept` (no file descriptors left, say) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A running server. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `handler` on `listener`. Must be called within a Tokio runtime.
    pub(crate) fn start<H, F>(listener: TcpListener, handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, handler));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The task owns the set of connections, which ends them when it is dropped.
        self.task.abort();
    }
}

/// Why a request body could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than this many bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It did not end in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection or its framing failed.
    #[error("the body could not be read: {0}")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// The status that tells the client.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    time::timeout(BODY_TIMEOUT, collect(body, limit)).await.unwrap_or(Err(BodyError::TimedOut))
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if seen <= limit {
            kept.extend_from_slice(&data);
        } else if seen - limit > MAX_DISCARDED {
            break;
        } else {
            kept = BytesMut::new();
        }
    }
    if seen > limit {
        return Err(BodyError::TooLarge(limit));
    }
    Ok(kept.freeze())
}

/// A response with a body of one kind.
pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nobody listens there, or not for us.
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    /// The exchange failed.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer is longer than this many bytes, or its framing is broken.
    #[error("the answer could not be read: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// The answer did not come in time.
    #[error("no answer in {ANSWER_TIMEOUT:?}")]
    TimedOut,
}

/// Sends one request on a connection of its own and reads the whole answer.
/// `Host` is added; the request's URI should be a path.
pub(crate) async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, SendError> {
    time::timeout(ANSWER_TIMEOUT, exchange(address, request)).await.unwrap_or(Err(SendError::TimedOut))
}

async fn exchange(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, SendError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        request.headers_mut().insert(HOST, host);
    }
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(SendError::Answer)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // Both in one task: when this future is dropped the connection closes.
    let connection = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        never = connection => never,
    }
}

async fn accept<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, handler.clone(), slot));
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<H, F>(stream: TcpStream, handler: H, _slot: OwnedSemaphorePermit)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn echo_length(limit: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Server::start(listener, move |request| async move {
            match read_body(request.into_body(), limit).await {
                Ok(body) => response(StatusCode::OK, "text/plain", body.len().to_string()),
                Err(error) => response(error.status(), "text/plain", error.to_string()),
            }
        })
        .unwrap()
    }

    async fn talk(server: &Server, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_body_of_the_limit_passes_and_one_byte_more_does_not() {
        let server = echo_length(1000).await;
        for (length, status) in [(1000, "200"), (1001, "413"), (1_000_000, "413")] {
            let head = format!(
                "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            let answer = talk(&server, &head, &vec![b'x'; length]).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_cut_off() {
        let server = echo_length(1000).await;
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999999\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let chunk = vec![b'x'; 1 << 20];
        let mut sent = 0;
        while stream.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 2 * MAX_DISCARDED, "nobody stops it");
        }
        assert!(sent >= MAX_DISCARDED, "{sent}");
    }

    #[tokio::test]
    async fn an_answer_of_the_limit_is_taken_and_one_byte_more_is_not() {
        for (length, is_taken) in [(MAX_ANSWER, true), (MAX_ANSWER + 1, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let body = vec![b'x'; length];
            let answer = move |_| {
                let body = body.clone();
                async { response(StatusCode::OK, "text/plain", body) }
            };
            let server = Server::start(listener, answer).unwrap();
            let answer = send(server.address(), Request::new(Full::default())).await;
            assert_eq!(answer.is_ok(), is_taken);
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_and_are_then_served() {
        let server = echo_length(10).await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(TcpStream::connect(server.address()).await.unwrap());
        }
        let mut late = TcpStream::connect(server.address()).await.unwrap();
        late.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 12];
        let early = time::timeout(Duration::from_millis(50), late.read_exact(&mut answer)).await;
        assert!(early.is_err(), "it was served although every slot was taken");
        drop(idle);
        late.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn dropping_the_server_closes_its_listener() {
        let server = echo_length(10).await;
        let address = server.address();
        drop(server);
        for _ in 0..1_000 {
            if TcpStream::connect(address).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it still listens");
    }
}
